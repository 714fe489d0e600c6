//! scalesocket: serve any program over websockets, one room per URL path.
//!
//! # Map
//!
//! From the top down; imports point down only:
//!
//! - [`cli`]: the command line: one table of options, and its help, man page and completions; makes a `Config`
//! - [`server`]: one run of the server, from the first listener to the last reaped program
//! - [`listen`]: TCP and unix sockets, inherited ones, the accept loop
//! - [`ws`]: the thread of a connection: handshake, messages of the client, close
//! - [`http`]: request heads, routes, plain responses, static files, API and metrics
//! - [`gate`]: the checks before an upgrade, and the text of every refusal
//! - [`service`]: what all connections of a server share
//! - [`face`]: what a request asks for, the recipe of its room, what is answered and logged: rooms, or websocketd
//! - [`site`]: which room a request is for, and whether that room may exist
//! - [`room`]: the clients of a room, its backend, and what happens when clients join and leave
//! - [`backend`]: what answers in a room (program, connection or relay), its two threads, slow clients, how it ends
//! - [`clients`], [`slots`]: one client; all open connections
//! - [`sink`]: bounded queues in front of descriptors
//! - [`framing`]: bytes to messages and back, pure
//! - [`recipe`], [`config`]: how one room works, and the settings of the server: plain data
//! - [`counters`], [`log`]: metrics; text and JSON log lines
//! - [`percent`], [`packed`]: percent-encoding; texts that the build has packed
//! - [`sys`]: thin wrappers for system calls
//!
//! The path of a message: `ws::converse` reads it from the client and gives it to `room::Member`, which passes it to
//! `sink::Stdin`. `backend::reader` reads the answer, `backend::deliver` sends it to each `sink::Outbox`. What the
//! kernel does not take waits there until the thread that watches the sink has written it.
//!
//! # Glossary
//!
//! - *backlog*: the clients of a room whose outboxes the reader watches
//! - *backend*: what answers in a room: a program, a connection to an address, or a relay between its clients
//! - *batch*: websocket frames that are encoded once and sent to many clients
//! - *bell*, *waker*: wake a thread that waits on a condition variable; that waits in `poll`
//! - *client*: an upgraded connection, with an id that is never reused
//! - *drain*: reading the output that is left after a program has exited
//! - *ending*: the states of a backend from the first reason to stop until it is reaped
//! - *framing*: how a stream of bytes is divided into messages, in each direction
//! - *history*: the last messages of a backend, replayed to clients that join
//! - *key*: what clients must have in common to share a room: the name, the client itself, or the server
//! - *linger*: the time that a backend runs on after its last client has left
//! - *member*: a client that has joined a room
//! - *notice*: a message to the backend that a client has joined or left
//! - *outbox*: the sink to a client; *stdin*: the sink to a backend
//! - *reader*, *writer*: the two threads of a backend; every client has one thread of its own
//! - *recipe*: how one room works: backend, share, framing, history, bounds
//! - *registration*: a room together with the table that it is in
//! - *room*: a backend and its clients
//! - *share*: which clients get the same room: those with the same name, none, or all
//! - *sink*: a bounded queue in front of a descriptor
//! - *slot*: a place that is reserved before it is used: for a connection, or in a room
//! - *turn*: the place of a client among those that wait for room in a stdin
//! - *watch*: a thread watches a sink when it polls the descriptor and writes what waits
#![forbid(unsafe_code)]

pub mod backend;
pub mod cli;
pub mod clients;
pub mod config;
pub mod counters;
pub mod face;
pub mod framing;
pub mod gate;
pub mod http;
pub mod listen;
pub mod log;
pub mod packed;
pub mod percent;
pub mod recipe;
pub mod room;
pub mod server;
pub mod service;
pub mod sink;
pub mod site;
pub mod slots;
pub mod sys;
pub mod ws;
