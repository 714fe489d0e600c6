//! A server that stood still for a while: the machine was paused, or the process was stopped.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Event, Server};

#[test]
fn clients_that_answer_stay_after_the_server_stood_still_for_longer_than_they_may_be_silent() {
    let server = Server::with(&["--ping=1"]).cat();
    let mut clients = server.members("/room", 3);
    for client in &mut clients {
        assert!(matches!(client.recv(), Event::Ping(_)));
    }
    server.signal(Signal::STOP);
    // For how long is what this is about.
    std::thread::sleep(Duration::from_millis(4500));
    server.signal(Signal::CONT);
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| {
                for _ in 0..4 {
                    let event = client.recv();
                    assert!(matches!(event, Event::Ping(_)), "{event:?} in place of a ping");
                }
                client.expect_alive();
            });
        }
    });
    let gone = server.log.lines().into_iter().find(|line| line.contains("client left"));
    assert_eq!(gone, None);
}

#[test]
fn a_client_that_does_not_answer_is_gone_also_when_the_server_stood_still_meanwhile() {
    let server = Server::with(&["--ping=1"]).cat();
    let mut client = server.member("/room");
    client.answers = false;
    server.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(4500));
    server.signal(Signal::CONT);
    // It is asked before it is given up.
    assert!(matches!(client.recv(), Event::Ping(_)));
    loop {
        match client.recv() {
            Event::Ping(_) => {}
            Event::End | Event::Reset => break,
            other => panic!("{other:?}"),
        }
    }
    server.wait_for_line(&["client left", "reason=\"no answer to a ping\""]);
}
