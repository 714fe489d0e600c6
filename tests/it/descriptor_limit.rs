//! The limit on descriptors that programs get.

use crate::support::Server;

/// Programs that say what their limits are: by themselves, and through processes that they start.
const SAYS: &str =
    r#"echo "$(ulimit -Sn) $(ulimit -Hn) $(sh -c 'ulimit -Sn | cat')"; ulimit -Sn; sh -c 'ulimit -Sn'"#;

#[test]
fn every_program_has_the_limit_on_descriptors_that_the_server_was_started_with() {
    const STARTS: usize = 300;
    const THREADS: usize = 4;
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let hard = hard.map_or("unlimited".to_owned(), |hard| hard.to_string());
    let server = Server::with(&[]).through_shell("ulimit -Sn 300 && exec \"$@\"").sh(SAYS);
    let wanted = [format!("300 {hard} 300"), "300".to_owned(), "300".to_owned()];
    let wrong: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (server, wanted) = (&server, &wanted);
                scope.spawn(move || {
                    let starts = (thread..STARTS).step_by(THREADS);
                    let said = starts.map(|start| server.join(&format!("/{start}")).texts_to_close(1000));
                    said.filter(|said| said != wanted).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("all start")).collect()
    });
    assert_eq!(wrong.first(), None, "{} of {STARTS} programs have another limit", wrong.len());
}
