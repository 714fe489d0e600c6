//! Where connections come from, and how many there may be.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::Shutdown;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};

use crate::support::client::{Client, handshake};
use crate::support::raw::{Address, Raw, Socket};
use crate::support::{Event, Scratch, Server, server, wait_until};

/// Says where its first client comes from.
const WHERE: &str = r#"echo "$REMOTE_ADDR"; cat"#;

#[test]
fn several_addresses_lead_to_the_same_rooms() {
    let scratch = Scratch::new();
    let unix = format!("unix:{}", scratch.name("socket"));
    let server = Server::with(&[]).address("127.0.0.1:0").address("localhost:0").address(&unix).cat();
    let mut clients: Vec<_> =
        server.addresses().iter().map(|address| Client::connect(address, "/room")).collect();
    assert_eq!(clients.len(), 3);
    for client in &mut clients {
        client.expect_alive();
    }
    clients[0].send_text("hello");
    for client in &mut clients {
        client.expect_text("hello");
    }
}

#[test]
fn ipv6_is_spoken_where_there_is_any() {
    if let Err(e) = TcpListener::bind("[::1]:0") {
        eprintln!("skipped: no IPv6 here ({e})");
        return;
    }
    let server = Server::with(&[]).address("[::1]:0").sh(WHERE);
    let mut client = server.join("/room");
    let own = client.address();
    assert!(own.starts_with("[::1]:"), "{own}");
    client.expect_text(&own);
}

#[test]
fn a_port_alone_is_both_and_an_ipv4_client_is_one_everywhere() {
    let server = Server::with(&[]).address(":0").sh(WHERE);
    let port = server.address().port();
    let v4 = Address::Tcp(([127, 0, 0, 1], port).into());
    let mut client = Client::connect(&v4, "/v4");
    let own = client.address();
    client.expect_text(&own);
    server.wait_for_line(&["client joined", "[v4 1]", &format!("address={own}")]);
    match TcpStream::connect(("::1", port)) {
        Ok(_) => {
            let v6 = Address::Tcp((std::net::Ipv6Addr::LOCALHOST, port).into());
            let mut client = Client::connect(&v6, "/v6");
            let own = client.address();
            client.expect_text(&own);
        }
        Err(e) => eprintln!("skipped: no IPv6 here ({e})"),
    }
}

#[test]
fn an_address_in_use_is_said_and_ends_with_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = server::run(&["--addr", &address, "cat"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.ends_with(&format!("cannot listen on {address}: address already in use by another program\n")),
        "{text}"
    );
}

#[test]
fn an_address_is_free_again_at_once() {
    let mut first = Server::cat();
    let address = first.address().clone();
    let mut client = first.join("/room");
    client.send_text("x");
    client.expect_text("x");
    // The server closes first: its end of the connection stays in TIME_WAIT.
    first.signal(Signal::TERM);
    client.expect_close(1001);
    first.await_exit();
    let Address::Tcp(tcp) = address else { panic!("not TCP") };
    let second = Server::with(&[]).address(&tcp.to_string()).cat();
    second.join("/room").expect_alive();
}

#[test]
fn a_unix_socket_has_its_mode_and_goes_with_the_server() {
    let scratch = Scratch::new();
    for (mode, wanted) in [("0600", 0o600), ("0666", 0o666), ("0660", 0o660)] {
        let address = format!("unix:{},mode={mode}", scratch.name("socket"));
        let mut server = Server::with(&[]).address(&address).sh(WHERE);
        let file = fs::symlink_metadata(scratch.path("socket")).expect("a socket");
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o777, wanted, "{mode}");
        server.join("/room").expect_text("unix:");
        server.stop();
        assert!(!scratch.path("socket").exists());
    }
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_left_alone() {
    let scratch = Scratch::new();
    let address = format!("unix:{}", scratch.name("socket"));
    drop(UnixListener::bind(scratch.path("socket")).expect("a socket that goes stale"));
    let server = Server::with(&[]).address(&address).cat();
    server.join("/room").expect_alive();

    let output = server::run(&["--addr", &address, "cat"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("another server"), "{text}");
    server.join("/room").expect_alive();
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let scratch = Scratch::new();
    scratch.file("file", "precious");
    let output = server::run(&["--addr", &format!("unix:{}", scratch.name("file")), "cat"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("not a socket"), "{text}");
    assert_eq!(fs::read(scratch.path("file")).expect("still there"), b"precious");
}

#[test]
fn a_socket_that_another_server_has_replaced_is_not_removed() {
    let scratch = Scratch::new();
    let mut first = Server::with(&[]).address(&format!("unix:{}", scratch.name("socket"))).cat();
    fs::remove_file(scratch.path("socket")).expect("remove the socket");
    let _second = UnixListener::bind(scratch.path("socket")).expect("another socket");
    first.stop();
    assert!(scratch.path("socket").exists());
}

#[test]
fn sockets_from_systemd_are_taken_instead_and_stay_out_of_programs() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = Address::Tcp(listener.local_addr().expect("an address"));
    let line = r#"LISTEN_PID=$$; LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec "$@" 3<&0 </dev/null"#;
    let mut server = Server::with(&[])
        .through_shell(line)
        .inherit(listener.into(), 1)
        .sh("ls -l /proc/self/fd | grep -c socket; echo \"${LISTEN_FDS-none}\"; cat");
    assert_eq!(server.address(), &address);
    let mut client = server.join("/room");
    client.expect_text("0");
    client.expect_text("none");
    client.leave();
    let (status, _) = server.stop();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_server_that_loses_its_last_listener_shuts_down_with_status_1() {
    let mut server = Server::with(&[]).address("127.0.0.1:0").address("127.0.0.1:0").cat();
    let listeners: Vec<_> =
        server.addresses().iter().filter_map(|address| listener(server.pid(), address)).collect();
    let [one, two] = &listeners[..] else {
        eprintln!("skipped: no descriptor of another process can be had here");
        return;
    };
    // Any process that shares the socket can do this.
    rustix::net::shutdown(one, Shutdown::Both).expect("shut down");
    server.wait_for_line(&["ERROR listener is gone", &format!(":{} ", server.addresses()[0].port())]);
    let mut client = Client::connect(&server.addresses()[1], "/room");
    client.expect_alive();
    rustix::net::shutdown(two, Shutdown::Both).expect("shut down");
    client.expect_close(1001);
    assert_eq!(server.await_exit().code(), Some(1));
    server.wait_for_line(&["ERROR shutting down", "no listener is left"]);
}

/// The socket of another process that listens on this address.
fn listener(pid: u32, address: &Address) -> Option<OwnedFd> {
    let Address::Tcp(address) = address else { panic!("not TCP") };
    let process = pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()?;
    let numbers = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut found = numbers.filter_map(|number| {
        let fd = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()?;
        let name = rustix::net::getsockname(&fd).ok()?;
        let listens = rustix::net::sockopt::socket_acceptconn(&fd).unwrap_or(false);
        (listens && SocketAddr::try_from(name) == Ok(*address)).then_some(fd)
    });
    found.next()
}

#[test]
fn sockets_for_another_process_are_not_taken() {
    let line = r#"LISTEN_PID=1; LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec "$@""#;
    let server = Server::with(&[]).through_shell(line).cat();
    server.join("/room").expect_alive();
}

#[test]
fn inetd_with_a_listening_socket_ends_after_the_last_client() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut server = Server::with(&["--inetd"]).inherit(listener.into(), 1).cat();
    let mut one = server.join("/one");
    let mut two = server.join("/two");
    one.send_text("hello");
    one.expect_text("hello");
    one.leave();
    two.send_text("still here");
    two.expect_text("still here");
    two.leave();
    assert_eq!(server.await_exit().code(), Some(0));
}

#[test]
fn inetd_with_one_connection_serves_it_and_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let ours = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
    let (theirs, _) = listener.accept().expect("accept");
    let mut server = Server::with(&["--inetd"]).inherit(theirs.into(), 0).sh(WHERE);
    let mut raw = Raw::over(Socket::Tcp(ours));
    raw.send(handshake("/room", ""));
    let mut client = Client::shake_hands(raw).expect("let in");
    let own = client.address();
    client.expect_text(&own);
    client.send_text("hello");
    client.expect_text("hello");
    client.leave();
    assert_eq!(server.await_exit().code(), Some(0));
}

#[test]
fn inetd_serves_plain_requests_too() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let mut server = Server::with(&["--inetd"]).inherit(theirs.into(), 0).cat();
    let mut raw = Raw::over(Socket::Unix(ours));
    assert_eq!(raw.ask("GET", "/health", "").status, 200);
    drop(raw);
    assert_eq!(server.await_exit().code(), Some(0));
}

#[test]
fn one_connection_more_than_maxclients_is_refused_with_503() {
    let server = Server::with(&["--maxclients", "3"]).cat();
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = server.join("/room");
            client.expect_alive();
            client
        })
        .collect();
    for _ in 0..3 {
        let response = server.refused("/room", "");
        assert_eq!(response.status, 503);
        assert!(response.field("retry-after").is_some());
    }
    server.wait_for_line(&["WARN", "refused", "Too many connections"]);
    clients.pop().expect("a client").leave();
    // Its place is free as soon as its thread has ended.
    wait_until("a client is accepted again", || Client::connect_with(server.address(), "/room", "").is_ok());
    clients[0].send_text("still here");
    clients[1].expect_text("still here");
}

#[test]
fn at_most_half_of_all_may_be_silent_and_the_longest_silent_goes_first() {
    let server = Server::with(&["--maxclients", "4", "--handshaketimeout", "600"]).cat();
    let mut first = server.raw();
    let mut second = server.raw();
    let mut third = server.raw();
    first.expect_end();
    // A client that sends a request is always accepted.
    let mut client = server.join("/room");
    client.expect_alive();
    second.expect_end();
    assert_eq!(third.ask("GET", "/health", "").status, 200);
}

#[test]
fn a_silent_connection_is_not_ended_for_one_that_is_refused() {
    let server = Server::with(&["--maxclients", "2", "--handshaketimeout", "600"]).cat();
    let _inside = server.member("/room");
    let mut silent = server.raw();
    // It has its place before the next one comes: connections are accepted one after the other.
    for _ in 0..3 {
        assert_eq!(server.refused("/room", "").status, 503);
    }
    assert_eq!(silent.ask("GET", "/health", "").status, 200);
}

#[test]
fn a_server_with_few_descriptors_refuses_and_survives() {
    let server = Server::with(&[]).through_shell(r#"ulimit -n 40; exec "$@""#).cat();
    let mut inside = Vec::new();
    let mut refused = 0;
    for room in 0..20 {
        let mut raw = match Socket::connect(server.address()) {
            Ok(socket) => Raw::over(socket),
            Err(e) => panic!("the listener is gone: {e}"),
        };
        if raw.try_send(handshake(&format!("/{room}"), "")).is_err() {
            refused += 1;
            continue;
        }
        match Client::shake_hands(raw) {
            Ok(mut client) => {
                client.send_text("hello");
                match client.next() {
                    Event::Text(text) => {
                        assert_eq!(text, "hello");
                        inside.push(client);
                    }
                    // No descriptor for another program.
                    Event::Close(1011, reason) => {
                        assert_eq!(reason, "cannot start the program");
                        server.wait_for_line(&["not started", "open files"]);
                        assert_eq!(client.next(), Event::End);
                        refused += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
            Err(response) => {
                assert_eq!(response.status, 503, "{response:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && !inside.is_empty(), "{refused} refused, {} inside", inside.len());
    for client in &mut inside {
        client.send_text("still here");
        client.expect_text("still here");
    }
    for client in inside {
        client.leave();
    }
    wait_until("all programs have ended", || server.children().is_empty());
    wait_until("a client gets in again", || {
        let Ok(mut client) = Client::connect_with(server.address(), "/room", "") else { return false };
        client.send_text("hello");
        client.next() == Event::Text("hello".into())
    });
}

#[test]
fn a_listener_out_of_descriptors_waits_for_some_and_does_not_spin() {
    // Each silent connection takes one; there are more of them than descriptors.
    let server =
        Server::with(&["--handshaketimeout", "600"]).through_shell(r#"ulimit -n 45; exec "$@""#).cat();
    let mut clients: Vec<_> = (0..3).map(|room| server.join(&format!("/{room}"))).collect();
    for client in &mut clients {
        client.expect_alive();
    }
    let crowd: Vec<_> = (0..60).map(|_| server.raw()).collect();
    for client in &mut clients {
        client.send_text("still here");
        client.expect_text("still here");
    }
    drop(crowd);
    wait_until("it answers again", || {
        let Ok(socket) = Socket::connect(server.address()) else { return false };
        let mut raw = Raw::over(socket);
        raw.send("GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
        raw.response("GET").status == 200
    });
}

#[test]
fn a_connection_that_is_reset_at_once_does_no_harm() {
    let server = Server::cat();
    for _ in 0..200 {
        server.raw().reset();
    }
    server.join("/room").expect_alive();
    let Address::Tcp(address) = server.address() else { panic!("not TCP") };
    assert_ne!(TcpStream::connect(address).err().map(|e| e.kind()), Some(ErrorKind::ConnectionRefused));
}
