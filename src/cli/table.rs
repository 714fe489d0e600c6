//! The one list of flags: a flag is added, changed or removed here and nowhere else.
//!
//! Parser, `--help`, man page and completions follow; `man/scalesocket.1` is rendered anew with
//! `cargo run -- --man > man/scalesocket.1`.

use super::arguments::{MessageFrame, Null, Print, Shell};
use super::flags::{Category, Default, Flag, Value};
use super::{addresses, values};
use crate::config::{LogFormat, Metrics};
use crate::recipe::{Incoming, Share, Slow, Stderr};

const STDERR: [(&str, Stderr); 3] =
    [("log", Stderr::Log), ("inherit", Stderr::Inherit), ("null", Stderr::Null)];
const STDERR_WORDS: [&str; 3] = values::words(&STDERR);

const INPUT: [(&str, Incoming); 2] = [("pass", Incoming::Pass), ("discard", Incoming::Discard)];
const INPUT_WORDS: [&str; 2] = values::words(&INPUT);

const SLOW: [(&str, Slow); 3] =
    [("disconnect", Slow::Disconnect), ("drop", Slow::Drop), ("block", Slow::Block)];
const SLOW_WORDS: [&str; 3] = values::words(&SLOW);

const LOG: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
const LOG_WORDS: [&str; 2] = values::words(&LOG);

const FRAME: [(&str, MessageFrame); 4] = [
    ("json", MessageFrame::Json),
    ("jsonl", MessageFrame::Jsonl),
    ("gwsocket", MessageFrame::Gwsocket),
    ("lsp", MessageFrame::Lsp),
];
const FRAME_WORDS: [&str; 4] = values::words(&FRAME);

const NULL: [(&str, Null); 2] = [("output", Null::Output), ("both", Null::Both)];
const NULL_WORDS: [&str; 2] = values::words(&NULL);

const RELAY: [(&str, bool); 2] = [("others", false), ("all", true)];
const RELAY_WORDS: [&str; 2] = values::words(&RELAY);

const SHARE: [(&str, Share); 3] =
    [("room", Share::Room), ("client", Share::Client), ("server", Share::Server)];
const SHARE_WORDS: [&str; 3] = values::words(&SHARE);

const METRICS: [(&str, Metrics); 2] = [("rooms", Metrics::Rooms), ("global", Metrics::Global)];
const METRICS_WORDS: [&str; 2] = values::words(&METRICS);

const SHELLS: [(&str, Shell); 3] = [("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)];
const SHELL_WORDS: [&str; 3] = values::words(&SHELLS);

/// What `--passenv` passes when it is not given.
const VARIABLES: &str = "PATH,LD_LIBRARY_PATH,DYLD_LIBRARY_PATH";

/// Largest `--maxmessage` and `--maxline`: 1 GiB.
const MAX_MESSAGE: u64 = 1 << 30;
/// Largest `--maxqueue`: 1 TiB. More than that is a slip of the finger.
const MAX_QUEUE: u64 = 1 << 40;

/// What an entry does not say.
const PLAIN: Flag = Flag {
    name: "",
    short: None,
    aliases: &[],
    value: Value::Switch(|_| {}),
    equals_only: false,
    bare: None,
    repeatable: false,
    default: Default::Off,
    conflicts: &[],
    needs: &[],
    category: Category::Other,
    summary: "",
    details: "",
};

/// All flags, in the order of help and man page.
pub(super) static FLAGS: &[Flag] = &[
    Flag {
        name: "addr",
        value: Value::Raw("ADDRESS", |arguments, value| {
            arguments.addresses.push(addresses::address(value)?);
            Ok(())
        }),
        repeatable: true,
        default: Default::Value("0.0.0.0:9000"),
        category: Category::Listening,
        summary: "Where to listen; may be given several times",
        details: "`IP:PORT` or `[IPV6]:PORT`; `localhost:PORT`, which is 127.0.0.1; `:PORT`, one socket \
            for IPv6 and IPv4 on all addresses; or `unix:PATH`, a unix socket, with its permission bits if \
            `,mode=0660` follows. Port 0 lets the system pick one. Host names are not looked up. Each \
            address is announced in the log as `listening on ADDRESS`.",
        ..PLAIN
    },
    Flag {
        name: "inetd",
        value: Value::Switch(|arguments| arguments.inetd = true),
        conflicts: &["addr"],
        category: Category::Listening,
        summary: "Serve the socket on descriptor 0",
        details: "It may be a listening socket or one accepted connection, as inetd hands them over. \
            The log goes to standard error only if that is not the client.",
        ..PLAIN
    },
    Flag {
        name: "binary",
        short: Some('b'),
        value: Value::Switch(|arguments| arguments.binary = true),
        conflicts: &["delimiters", "null"],
        category: Category::Messages,
        summary: "Messages are bytes as they come",
        details: "What one read of the program's output gives is one binary message. A client's message \
            is written to the program as it is, with nothing added; so are join and leave messages.",
        ..PLAIN
    },
    Flag {
        name: "delimiters",
        value: Value::Text("CHARS", |arguments, value| {
            arguments.delimiters = values::delimiters(value)?;
            Ok(())
        }),
        equals_only: true,
        default: Default::Value(r"\n"),
        category: Category::Messages,
        summary: "Set of bytes, each of which ends a message of the program",
        details: r"Characters stand for themselves; `\n`, `\r`, `\t`, `\0`, `\\` and `\xNN` are understood. Only when the set is exactly the newline, a carriage return before it is taken away too. What ends a message to the program is always a newline.",
        ..PLAIN
    },
    Flag {
        name: "null",
        value: Value::Choice(&NULL_WORDS, |arguments, value| {
            arguments.null = Some(values::choice(value, &NULL)?);
            Ok(())
        }),
        equals_only: true,
        bare: Some("output"),
        category: Category::Messages,
        summary: "A NUL byte ends a message of the program",
        details: "It replaces the newline; with `--delimiters` it is added to that set. With `both`, a NUL byte also \
            ends each message that is written to the program, so that a message may have several lines.",
        ..PLAIN
    },
    Flag {
        name: "partial",
        value: Value::Text("MS", |arguments, value| {
            arguments.partial = Some(values::milliseconds(value)?);
            Ok(())
        }),
        conflicts: &["binary"],
        category: Category::Messages,
        summary: "Send output without an end as a message after this many milliseconds",
        details: "For prompts and progress bars: what the program has printed without ending it is sent as a message \
            when nothing more has come for this long.",
        ..PLAIN
    },
    Flag {
        name: "json",
        value: Value::Switch(|arguments| arguments.json = true),
        conflicts: &["frame", "clientframe", "serverframe", "binary"],
        category: Category::Messages,
        summary: "JSON messages both ways, joins and leaves told",
        details: "The same as `--frame=json`, with a join message `{\"t\":\"Join\",\"_from\":#ID}` and a \
            leave message `{\"t\":\"Leave\",\"_from\":#ID}` unless others are given. A client can forge these; \
            one with a member `_join` or `_leave` it cannot, such as `--joinmsg '{\"_join\":#ID}'`.",
        ..PLAIN
    },
    Flag {
        name: "frame",
        value: Value::Choice(&FRAME_WORDS, |arguments, value| {
            arguments.frame = Some(values::choice(value, &FRAME)?);
            Ok(())
        }),
        equals_only: true,
        bare: Some("json"),
        conflicts: &["clientframe", "serverframe", "binary"],
        category: Category::Messages,
        summary: "Messages that say whom they are for and who they are from",
        details: "`json`, the default: one JSON object a line, with `_to` and `_from` in it. `jsonl`: JSON values, one \
            a line, with nothing added and no key obeyed. `gwsocket`: binary packets with a header. `lsp`: text with \
            `Content-Length` headers, as in the Language Server Protocol.",
        ..PLAIN
    },
    Flag {
        name: "clientframe",
        value: Value::Choice(&FRAME_WORDS, |arguments, value| {
            arguments.client_frame = Some(values::choice(value, &FRAME)?);
            Ok(())
        }),
        equals_only: true,
        conflicts: &["binary"],
        category: Category::Messages,
        summary: "The same for what clients send to the program only",
        ..PLAIN
    },
    Flag {
        name: "serverframe",
        value: Value::Choice(&FRAME_WORDS, |arguments, value| {
            arguments.server_frame = Some(values::choice(value, &FRAME)?);
            Ok(())
        }),
        equals_only: true,
        conflicts: &["binary"],
        category: Category::Messages,
        summary: "The same for what the program says only",
        ..PLAIN
    },
    Flag {
        name: "input",
        value: Value::Choice(&INPUT_WORDS, |arguments, value| {
            arguments.incoming = values::choice(value, &INPUT)?;
            Ok(())
        }),
        default: Default::Value("pass"),
        category: Category::Messages,
        summary: "What to do with messages of clients",
        details: "`pass`: they go to the program. `discard`: they are read, counted and dropped. It is for \
            programs that never read, such as `tail -f`, whose clients send heartbeats all the same: a \
            program's full input would keep these clients waiting. Join and leave messages are written \
            either way.",
        ..PLAIN
    },
    Flag {
        name: "cache",
        value: Value::Text("[TYPE:]SIZE", |arguments, value| {
            arguments.cache = values::cache(value)?;
            Ok(())
        }),
        category: Category::Messages,
        summary: "Replay the last messages of the program to clients that join later",
        details: "`all:SIZE` or `SIZE`: the last so many messages, 1 to 65536. `tagged:SIZE`: of those that \
            have `_cache` set to true in a JSON frame. Together they hold at most `--maxqueue` bytes. Private \
            messages are replayed to nobody.",
        ..PLAIN
    },
    Flag {
        name: "cachepersist",
        value: Value::Switch(|arguments| arguments.cache_persist = true),
        category: Category::Messages,
        summary: "Keep the messages of `--cache` when the room's program ends",
        details: "The room's next program adds to them. Of rooms that are gone, the last 1024 are \
            remembered, with at most 16 times `--maxqueue` bytes together.",
        ..PLAIN
    },
    Flag {
        name: "joinmsg",
        value: Value::Text("MESSAGE", |arguments, value| {
            arguments.join_message = Some(value.to_owned());
            Ok(())
        }),
        category: Category::Messages,
        summary: "Written to the program when a client joins",
        details: "The program sees it before that client's first message. The variables `#ID`, `#ROOM`, \
            `#REMOTE_ADDR`, `#QUERY_STRING` and `#QUERY_<NAME>` are replaced.",
        ..PLAIN
    },
    Flag {
        name: "leavemsg",
        value: Value::Text("MESSAGE", |arguments, value| {
            arguments.leave_message = Some(value.to_owned());
            Ok(())
        }),
        category: Category::Messages,
        summary: "Written to the program when a client has left",
        details: "The program sees it after that client's last message. The variables are those of `--joinmsg`.",
        ..PLAIN
    },
    Flag {
        name: "maxmessage",
        value: Value::Text("BYTES", |arguments, value| {
            arguments.max_message = values::bytes(value, MAX_MESSAGE)?;
            Ok(())
        }),
        default: Default::Value("1m"),
        category: Category::Messages,
        summary: "Largest message of a client",
        details: "At most `1g`; `k`, `m` and `g` are powers of 1024. A client that sends more is closed \
            with 1009.",
        ..PLAIN
    },
    Flag {
        name: "maxline",
        value: Value::Text("BYTES", |arguments, value| {
            arguments.max_line = values::bytes(value, MAX_MESSAGE)?;
            Ok(())
        }),
        default: Default::Value("16m"),
        category: Category::Messages,
        summary: "Largest message of the program",
        details: "At most `1g`; `k`, `m` and `g` are powers of 1024. What ends the message does not count. A \
            line that is longer is thrown away up to its end, counted and logged, and the program lives; a \
            packet of `--frame=gwsocket` that is longer ends the program. With `--binary` a message is \
            what one read gives, and is not limited by this.",
        ..PLAIN
    },
    Flag {
        name: "relay",
        value: Value::Choice(&RELAY_WORDS, |arguments, value| {
            arguments.relay = Some(values::choice(value, &RELAY)?);
            Ok(())
        }),
        equals_only: true,
        bare: Some("others"),
        conflicts: &["connect"],
        category: Category::Program,
        summary: "Run no program: send each client's messages to the other clients of its room",
        details: "With `all`, to the sender too. Messages stay whole, text or binary. With `--json` or `--frame=json`, \
            `_from` is added, and `_to` and `_except` are obeyed.",
        ..PLAIN
    },
    Flag {
        name: "connect",
        value: Value::Raw("ADDRESS", |arguments, value| {
            arguments.connect = Some(addresses::destination(value)?);
            Ok(())
        }),
        category: Category::Program,
        summary: "Run no program: connect to this address",
        details: "`IP:PORT`, `[IPV6]:PORT`, `localhost:PORT`, which is 127.0.0.1, `HOST:PORT`, which is looked up at \
            each connection, or `unix:PATH`. A client whose connection fails is closed with 1011.",
        ..PLAIN
    },
    Flag {
        name: "share",
        value: Value::Choice(&SHARE_WORDS, |arguments, value| {
            arguments.share = Some(values::choice(value, &SHARE)?);
            Ok(())
        }),
        default: Default::Words("room, or client with --connect"),
        category: Category::Program,
        summary: "Which clients share a process or connection",
        details: "`room`: all clients of a room. `client`: each client has its own. `server`: all clients of all rooms.",
        ..PLAIN
    },
    Flag {
        name: "tcp",
        value: Value::Switch(|arguments| arguments.tcp = true),
        category: Category::Program,
        summary: "Talk to the program over TCP instead of its standard input and output",
        details: "The program is to listen on 127.0.0.1 at the port in its variable `PORT`. It is tried until it \
            does; clients wait meanwhile. What the program prints goes to the log. The listening socket must \
            belong to the server's user, or to the user that the program's process runs as when it is \
            connected to (not a child process of it, as with `sudo -u`). While another user listens on the \
            port, the server does not connect; at the end of `--connecttimeout` it ends the program and \
            closes its clients with 1011. It does not connect either where the system does not say who listens, \
            see the section FILES.",
        ..PLAIN
    },
    Flag {
        name: "tcpports",
        value: Value::Text("FIRST:LAST", |arguments, value| {
            arguments.tcp_ports = Some(values::ports(value)?);
            Ok(())
        }),
        default: Default::Value("9001:9999"),
        conflicts: &["maxrooms"],
        needs: &["tcp"],
        category: Category::Program,
        summary: "Ports for programs that talk over TCP, both ends included",
        details: "Each room has one of them. A port that any other socket is bound to is skipped. When all are in \
            use, a client for one more room is refused with 503.",
        ..PLAIN
    },
    Flag {
        name: "delay",
        value: Value::Text("SECS", |arguments, value| {
            arguments.delay = values::seconds(value)?;
            Ok(())
        }),
        default: Default::Value("0"),
        category: Category::Program,
        summary: "Wait this long after the start of the program before talking to it",
        ..PLAIN
    },
    Flag {
        name: "connecttimeout",
        value: Value::Text("SECS", |arguments, value| {
            arguments.connect_timeout = values::positive_seconds(value)?;
            Ok(())
        }),
        default: Default::Value("10"),
        category: Category::Program,
        summary: "How long a program that talks over TCP has until it listens",
        details: "Counted after `--delay`. One that does not is ended, and its clients are closed with 1011.",
        ..PLAIN
    },
    Flag {
        name: "passenv",
        value: Value::Text("LIST", |arguments, value| {
            match value.strip_prefix('+') {
                Some(more) => {
                    arguments.pass_environment = values::variables(&format!("{VARIABLES},{more}"))?;
                }
                None => arguments.pass_environment = values::variables(value)?,
            }
            Ok(())
        }),
        default: Default::Value(VARIABLES),
        category: Category::Program,
        summary: "Variables that the program gets from the server's environment",
        details: "Names with commas between. Those that are not set are left out. `--passenv +LIST` adds to the default; `--passenv=` passes none.",
        ..PLAIN
    },
    Flag {
        name: "cgienv",
        value: Value::Switch(|arguments| arguments.cgi_environment = true),
        category: Category::Program,
        summary: "Give the program the first client's request as CGI variables",
        details: "All clients of a room share one program, so by default it sees nothing of the request \
            but the room, the query and the address.",
        ..PLAIN
    },
    Flag {
        name: "stderr",
        value: Value::Choice(&STDERR_WORDS, |arguments, value| {
            arguments.stderr = values::choice(value, &STDERR)?;
            Ok(())
        }),
        default: Default::Value("inherit"),
        category: Category::Program,
        summary: "Where the program's standard error goes",
        details: "`log`: line by line into the log, with room and process id, lines cut at 8 KiB. \
            `inherit`: to the server's own. `null`: nowhere.",
        ..PLAIN
    },
    Flag {
        name: "linger",
        value: Value::Text("SECS", |arguments, value| {
            arguments.linger = values::seconds(value)?;
            Ok(())
        }),
        default: Default::Value("0"),
        category: Category::Program,
        summary: "How long the program runs on after its last client left",
        details: "A client that comes back in that time finds it as it was.",
        ..PLAIN
    },
    Flag {
        name: "inputgrace",
        value: Value::Text("SECS", |arguments, value| {
            arguments.input_grace = values::seconds(value)?;
            Ok(())
        }),
        default: Default::Value("0.25"),
        category: Category::Program,
        summary: "How long a program that is to stop may read nothing before it gets the stop signal",
        details: "Its standard input is closed first. As long as it goes on reading what waits for it, it gets \
            no signal, for at most this time and `--grace` together. What it has not read when it ends is \
            counted and logged. Read is not done: many programs read ahead (Python, Node) and work for long \
            on what they have. Give those the time for everything that may wait, such as 3600: a program that \
            exits by itself is not waited for any longer, but the server's own end may take as long.",
        ..PLAIN
    },
    Flag {
        name: "grace",
        value: Value::Text("SECS", |arguments, value| {
            arguments.grace = values::seconds(value)?;
            Ok(())
        }),
        default: Default::Value("3"),
        category: Category::Program,
        summary: "How long the program has between the stop signal and KILL",
        details: "It also bounds how much later the stop signal comes when the program goes on reading, see \
            `--inputgrace`.",
        ..PLAIN
    },
    Flag {
        name: "stopsignal",
        value: Value::Text("NAME", |arguments, value| {
            arguments.stop_signal = values::signal(value)?;
            Ok(())
        }),
        default: Default::Value("TERM"),
        category: Category::Program,
        summary: "Signal that asks the program to stop",
        details: "A name, with or without `SIG`, or a number. It goes to the program's process group; \
            `--inputgrace` says when.",
        ..PLAIN
    },
    Flag {
        name: "origin",
        value: Value::Text("LIST", |arguments, value| {
            arguments.origin = addresses::origins(value)?;
            Ok(())
        }),
        default: Default::Words("the request's own host"),
        category: Category::Clients,
        summary: "Pages that may connect",
        details: "A comma list of `host`, `host:port` or `scheme://host[:port]`, in place of the default; \
            `*` lets every page in. By default the host in the `Origin` header must be the one in `Host`, \
            port aside. Others get 403, and the log names what to add. Clients that send no `Origin`, which \
            are no browsers, may always connect.",
        ..PLAIN
    },
    Flag {
        name: "protocol",
        value: Value::Text("LIST", |arguments, value| {
            arguments.protocols = values::protocols(value)?;
            Ok(())
        }),
        default: Default::Words("any"),
        category: Category::Clients,
        summary: "Subprotocols that may be chosen",
        details: "Names with commas between them, compared as they are. Of those that a client offers in \
            `Sec-WebSocket-Protocol`, the answer names the first that is in the list, and none if none is. \
            By default it names the first one offered, because it is the program that speaks it; one that \
            begins with `bearer.` is named only if there is no other. With `--protocol=` none is ever named. \
            Browsers end a connection whose offer is not answered.",
        ..PLAIN
    },
    Flag {
        name: "maxclients",
        value: Value::Text("N", |arguments, value| {
            arguments.max_clients = Some(values::count(value)?);
            Ok(())
        }),
        default: Default::Words("what the system's limits can hold"),
        category: Category::Clients,
        summary: "Most connections at a time",
        details: "One more is refused with 503. At most half may be connections that have not sent their \
            request yet. What the system can hold follows from its limits on open files, processes, \
            threads and memory maps; if N is more, a warning at start names the lowest. Each room takes a \
            process, two threads and up to six descriptors beside.",
        ..PLAIN
    },
    Flag {
        name: "maxroomclients",
        value: Value::Text("N", |arguments, value| {
            arguments.max_room_clients = Some(values::count(value)?);
            Ok(())
        }),
        default: Default::Words("no limit"),
        category: Category::Clients,
        summary: "Most clients in one room",
        details: "One more is refused with 503.",
        ..PLAIN
    },
    Flag {
        name: "maxaddrclients",
        value: Value::Text("N", |arguments, value| {
            arguments.max_address_clients = Some(values::count(value)?);
            Ok(())
        }),
        default: Default::Words("no limit"),
        category: Category::Clients,
        summary: "Most clients from one address",
        details: "Of IPv6, one /64 is one address. One more is refused with 429. Behind a proxy all clients \
            have the proxy's address.",
        ..PLAIN
    },
    Flag {
        name: "rooms",
        value: Value::Text("LIST", |arguments, value| {
            arguments.rooms = Some(values::rooms(value)?);
            Ok(())
        }),
        default: Default::Words("any"),
        category: Category::Clients,
        summary: "The only rooms there may be",
        details: "Names with commas between them, compared as they are. Any other is refused with 400, and \
            so are the reserved names even if they are listed.",
        ..PLAIN
    },
    Flag {
        name: "defaultroom",
        value: Value::Text("NAME", |arguments, value| {
            arguments.default_room = Some(values::room(value)?);
            Ok(())
        }),
        category: Category::Clients,
        summary: "The room of clients whose path names none",
        details: "Without it a websocket request for `/` is refused with 404.",
        ..PLAIN
    },
    Flag {
        name: "base",
        value: Value::Text("PATH", |arguments, value| {
            values::base(value)?.clone_into(&mut arguments.base);
            Ok(())
        }),
        default: Default::Value("/"),
        category: Category::Clients,
        summary: "What all paths begin with",
        details: "For a proxy that passes on a path such as `/chat/kitchen` as it is: with `--base /chat` that is the \
            room `kitchen`. Other paths are refused with 404.",
        ..PLAIN
    },
    Flag {
        name: "maxrooms",
        aliases: &["maxforks"],
        value: Value::Text("N", |arguments, value| {
            arguments.max_rooms = Some(values::count(value)?);
            Ok(())
        }),
        default: Default::Words("no limit"),
        category: Category::Clients,
        summary: "Most rooms at a time",
        details: "A room whose program is still being stopped counts. A client for one more is refused with 503.",
        ..PLAIN
    },
    Flag {
        name: "oneshot",
        value: Value::Switch(|arguments| arguments.oneshot = true),
        category: Category::Clients,
        summary: "Serve one client, then exit",
        details: "The first one that is upgraded; plain requests do not count, and a second client is refused \
            with 503. The server exits with status 0 when that client and the program are gone, whatever the \
            program's status.",
        ..PLAIN
    },
    Flag {
        name: "exitidle",
        value: Value::Text("SECS", |arguments, value| {
            arguments.exit_idle = Some(values::positive_seconds(value)?);
            Ok(())
        }),
        category: Category::Clients,
        summary: "Exit after this long without a connection",
        details: "For socket activation and `wait` services of inetd.",
        ..PLAIN
    },
    Flag {
        name: "exitend",
        value: Value::Switch(|arguments| arguments.exit_end = true),
        conflicts: &["oneshot"],
        category: Category::Clients,
        summary: "Exit when the first program exits, with its status",
        ..PLAIN
    },
    Flag {
        name: "maxqueue",
        value: Value::Text("BYTES", |arguments, value| {
            arguments.max_queue = values::bytes(value, MAX_QUEUE)?;
            Ok(())
        }),
        default: Default::Value("4m"),
        category: Category::Clients,
        summary: "What may wait for one client",
        details: "A client that holds that much is behind, and `--slow` says what happens. One message \
            always fits, and what `--cache` replays does not count. At most `1024g`; `k`, `m` and `g` are powers \
            of 1024.",
        ..PLAIN
    },
    Flag {
        name: "slow",
        value: Value::Choice(&SLOW_WORDS, |arguments, value| {
            arguments.slow = values::choice(value, &SLOW)?;
            Ok(())
        }),
        default: Default::Value("disconnect"),
        category: Category::Clients,
        summary: "What becomes of a client that is behind",
        details: "`disconnect`: the room waits for it, while other clients have caught up for `--patience`, \
            otherwise for as long as it takes something within 10 seconds; then it is closed with 1013. \
            `drop`: messages that do not fit are dropped for that client, whole, and counted. `block`: the \
            room waits for as long as the client takes something within 30 seconds. What a client takes is \
            what its system has acknowledged.",
        ..PLAIN
    },
    Flag {
        name: "patience",
        value: Value::Text("SECS", |arguments, value| {
            arguments.patience = values::seconds(value)?;
            Ok(())
        }),
        default: Default::Value("2"),
        category: Category::Clients,
        summary: "How long clients that have caught up are kept waiting for those that are behind",
        details: "A room waits for at most this long at a time, and for at most a tenth of the time, however \
            many clients are behind. Time counts only while a client that has caught up is kept waiting. \
            For `--slow=disconnect`.",
        ..PLAIN
    },
    Flag {
        name: "handshaketimeout",
        value: Value::Text("SECS", |arguments, value| {
            arguments.handshake_timeout = values::positive_seconds(value)?;
            Ok(())
        }),
        default: Default::Value("10"),
        category: Category::Clients,
        summary: "How long a client has, from connecting, to send its request",
        ..PLAIN
    },
    Flag {
        name: "ping",
        value: Value::Text("SECS", |arguments, value| {
            arguments.ping = values::seconds(value)?;
            Ok(())
        }),
        default: Default::Value("20"),
        category: Category::Clients,
        summary: "Ping a client that was silent for that long; 0 is off",
        details: "After three times that without a sign of life it is gone. Every byte that it sends is one, \
            and every byte that its system takes, pings apart. The time stands still while the server does \
            not read that client, because the program's input is full.",
        ..PLAIN
    },
    Flag {
        name: "idle",
        value: Value::Text("SECS", |arguments, value| {
            arguments.idle = values::seconds(value)?;
            Ok(())
        }),
        default: Default::Value("0"),
        category: Category::Clients,
        summary: "Close a client that sent no message for that long; 0 is off",
        details: "The close code is 1008. Pings and pongs are no messages.",
        ..PLAIN
    },
    Flag {
        name: "api",
        value: Value::Switch(|arguments| arguments.api = true),
        category: Category::Files,
        summary: "Tell of rooms as JSON under `/api/`",
        details: "`/api/rooms/` lists all rooms; `/api/ROOM/` is one of them, `/api/ROOM/connections` the \
            number of its clients, `/api/ROOM/metadata` what its program says of it. Pages that `--origin` \
            allows may read it.",
        ..PLAIN
    },
    Flag {
        name: "metrics",
        value: Value::Choice(&METRICS_WORDS, |arguments, value| {
            arguments.metrics = Some(values::choice(value, &METRICS)?);
            Ok(())
        }),
        equals_only: true,
        bare: Some("rooms"),
        category: Category::Files,
        summary: "Tell of counters and gauges under `/metrics`, as OpenMetrics text",
        details: "`rooms`, which is meant without a value: with series for each room. `global`: without \
            them.",
        ..PLAIN
    },
    Flag {
        name: "staticdir",
        value: Value::Directory("DIR", |arguments, value| {
            arguments.static_dir = Some(value.into());
            Ok(())
        }),
        category: Category::Files,
        summary: "Serve the files of this directory to plain requests",
        details: "For a directory its `index.html`. There are no listings, and files whose name begins \
            with a dot are not served.",
        ..PLAIN
    },
    Flag {
        name: "header",
        value: Value::Text("FIELD", |arguments, value| {
            let field = values::header(value)?;
            arguments.headers.http.push(field.clone());
            arguments.headers.ws.push(field);
            Ok(())
        }),
        repeatable: true,
        category: Category::Files,
        summary: "Add this header field to every response; may be given several times",
        details: "`NAME: VALUE`, as in `--header 'X-Frame-Options: DENY'`. Fields that the server writes itself are \
            refused.",
        ..PLAIN
    },
    Flag {
        name: "header-http",
        value: Value::Text("FIELD", |arguments, value| {
            arguments.headers.http.push(values::header(value)?);
            Ok(())
        }),
        repeatable: true,
        category: Category::Files,
        summary: "The same for responses to plain requests only",
        ..PLAIN
    },
    Flag {
        name: "header-ws",
        value: Value::Text("FIELD", |arguments, value| {
            arguments.headers.ws.push(values::header(value)?);
            Ok(())
        }),
        repeatable: true,
        category: Category::Files,
        summary: "The same for responses that open a websocket only",
        ..PLAIN
    },
    Flag {
        name: "log",
        value: Value::Choice(&LOG_WORDS, |arguments, value| {
            arguments.log = values::choice(value, &LOG)?;
            Ok(())
        }),
        default: Default::Value("text"),
        category: Category::Log,
        summary: "Shape of a log line",
        details: "It goes to standard error; `json` is one object a line.",
        ..PLAIN
    },
    Flag {
        name: "verbose",
        short: Some('v'),
        value: Value::Switch(|arguments| arguments.verbose = arguments.verbose.saturating_add(1)),
        repeatable: true,
        category: Category::Log,
        summary: "Log more: plain requests, signals, decisions",
        details: "`-vv` logs everything.",
        ..PLAIN
    },
    Flag {
        name: "quiet",
        short: Some('q'),
        value: Value::Switch(|arguments| arguments.quiet = true),
        conflicts: &["verbose"],
        category: Category::Log,
        summary: "Log warnings and errors only",
        ..PLAIN
    },
    Flag {
        name: "help",
        short: Some('h'),
        value: Value::Switch(|arguments| arguments.print = Some(Print::Help)),
        summary: "Print this help",
        ..PLAIN
    },
    Flag {
        name: "version",
        short: Some('V'),
        value: Value::Switch(|arguments| arguments.print = Some(Print::Version)),
        summary: "Print the version",
        ..PLAIN
    },
    Flag {
        name: "man",
        value: Value::Switch(|arguments| arguments.print = Some(Print::Man)),
        summary: "Print the man page, for `man -l -` or `mandoc`",
        ..PLAIN
    },
    Flag {
        name: "completions",
        value: Value::Choice(&SHELL_WORDS, |arguments, value| {
            arguments.print = Some(Print::Completions(values::choice(value, &SHELLS)?));
            Ok(())
        }),
        summary: "Print completions for a shell",
        ..PLAIN
    },
];
