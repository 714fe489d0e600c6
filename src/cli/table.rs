//! The list of all options, for parser, help, man page and completions. After a change, render the man page with
//! `cargo run -- --man > man/scalesocket.1`.

use std::ffi::OsStr;

use super::draft::{Draft, Frame, Null};
use super::flag::Value::{Bytes, Count, Directory, On, Raw, Seconds, SecondsOrOff, Switch, Text, Timeout};
use super::flag::{Flag, Section, Value, words};
use super::values::MAX_MESSAGE;
use super::{addresses, completions, help, man, values};
use crate::config::{Level, LogFormat, Metrics, TlsFiles};
use crate::recipe::{Incoming, Share, Slow, Stderr};

/// The default of `--passenv`.
const VARIABLES: &str = "PATH,LD_LIBRARY_PATH,DYLD_LIBRARY_PATH";

/// The largest `--maxqueue`: 1 TiB. More is probably a typing error.
const MAX_QUEUE: u64 = 1 << 40;

const fn flag(name: &'static str, value: Value<Draft>) -> Flag<Draft> {
    Flag::new(name, value)
}

/// A [`Frame`] for this field of the draft.
macro_rules! frame {
    ($field:ident) => {
        words!(
            |draft| draft.$field,
            "json" => Some(Frame::Json),
            "jsonl" => Some(Frame::Jsonl),
            "gwsocket" => Some(Frame::Gwsocket),
            "lsp" => Some(Frame::Lsp),
        )
    };
}

/// One of the files of TLS.
const fn tls_file(set: fn(&mut Draft, &OsStr) -> Result<(), String>) -> Value<Draft> {
    Raw("FILE", set)
}

fn tls(draft: &mut Draft) -> &mut TlsFiles {
    draft.config.tls.get_or_insert_default()
}

/// All options, in the order of help and man page.
pub(super) static TABLE: &[Section<Draft>] = &[
    Section { title: "Listening", flags: LISTENING },
    Section { title: "Messages", flags: MESSAGES },
    Section { title: "Program", flags: PROGRAM },
    Section { title: "Clients", flags: CLIENTS },
    Section { title: "HTTP", flags: HTTP },
    Section { title: "Log", flags: LOG },
    Section { title: "Other", flags: OTHER },
];

static LISTENING: &[Flag<Draft>] = &[
    flag("addr", Raw("ADDRESS", |draft, text| addresses::address(text).map(|address| draft.addresses.push(address))))
        .repeatable()
        .default("0.0.0.0:9000")
        .text(
            "Listen on this address; may be given several times. `IP:PORT` or `[IPV6]:PORT`; `localhost:PORT`, which \
             is 127.0.0.1; `:PORT`, one socket for IPv6 and IPv4 on all addresses; or `unix:PATH`, a unix socket, \
             with its permission bits if `,mode=0660` follows. Port 0 lets the system choose one. Host names are not \
             looked up. Each address is logged as `listening on ADDRESS`. By default other machines can connect; \
             `--addr localhost:9000` accepts connections from this machine only.",
        ),
    flag("inetd", Switch(|_, _| {})).conflicts(&["addr"]).text(
        "Serve the socket on descriptor 0. It may be a listening socket or one accepted connection, as inetd passes \
         them. The log goes to standard error only if that is not the client's connection.",
    ),
    flag("tlscert", tls_file(|draft, path| { tls(draft).certificate = path.into(); Ok(()) })).needs(&["tlskey"]).text(
        "Encrypt all connections with this certificate. A file in PEM format: the certificate of the server, then \
         those of its issuers, up to one that clients know. The section TLS has more.",
    ),
    flag("tlskey", tls_file(|draft, path| { tls(draft).key = path.into(); Ok(()) }))
        .needs(&["tlscert"])
        .text("The private key of that certificate. A file in PEM format, not encrypted."),
    flag("tlsca", tls_file(|draft, path| { tls(draft).client_ca = Some(path.into()); Ok(()) })).needs(&["tlscert"]).text(
        "Require certificates of clients, from these issuers. A file in PEM format. Other clients are refused in \
         the handshake of TLS.",
    ),
    flag("base", Text("PATH", |draft, text| values::base(text).map(|base| base.clone_into(&mut draft.config.base))))
        .default("/")
        .text(
            "Path that all requests begin with. Use it behind a proxy that does not remove its prefix: with `--base \
             /chat` the path `/chat/kitchen` is the room `kitchen`. Other paths are refused with 404.",
        ),
    flag("exitidle", SecondsOrOff(|draft| &mut draft.config.exit_idle)).default("0").text(
        "Exit after this long without a connection; 0 is off. A program that still runs, or a room that `--linger` \
         keeps, counts as a connection. For systemd's socket activation and for inetd's `wait`.",
    ),
];

static MESSAGES: &[Flag<Draft>] = &[
    flag("binary", Switch(|_, _| {})).short('b').conflicts(&["delimiters", "null"]).text(
        "Pass bytes through unchanged. The result of one read of the program's output is one binary message. A \
         client's message is written to the program with nothing added; so are join and leave messages.",
    ),
    flag("delimiters", Text("CHARS", |draft, text| values::delimiters(text).map(|set| draft.delimiters = set)))
        .equals_only()
        .default(r"\n")
        .text(
            "Bytes, each of which ends a message of the program. Characters stand for themselves; `\\n`, `\\r`, \
             `\\t`, `\\0`, `\\\\` and `\\xNN` are understood. If the newline is the only one, a carriage return \
             before it is removed too. Messages to the program still end in a newline.",
        ),
    flag("null", words!(|draft| draft.null, "output" => Null::Output, "both" => Null::Both))
        .equals_only()
        .bare("output")
        .text(
            "End messages of the program with a NUL byte. It replaces the newline; with `--delimiters` it is added \
             to that set. With `both`, messages to the program end in a NUL byte too, so that they may have several \
             lines.",
        ),
    flag("partial", Text("MS", |draft, text| {
        values::milliseconds(text).map(|time| draft.recipe().framing.partial = Some(time))
    }))
    .conflicts(&["binary"])
    .text(
        "Send unfinished output after this many milliseconds. For prompts and progress bars: what the program has \
         printed without ending it becomes a message when nothing more has come for this long.",
    ),
    flag("json", Switch(|_, _| {})).conflicts(&["frame", "clientframe", "serverframe", "binary"]).text(
        "JSON in both directions, with join and leave messages. The same as `--frame=json`, with the join message \
         `{\"t\":\"Join\",\"_from\":#ID}` and the leave message `{\"t\":\"Leave\",\"_from\":#ID}` unless others are \
         given. A client can forge these; it cannot forge messages with a member `_join` or `_leave`, as in \
         `--joinmsg '{\"_join\":#ID}'`.",
    ),
    flag("frame", frame!(frame))
        .equals_only()
        .bare("json")
        .conflicts(&["clientframe", "serverframe", "binary"])
        .text(
            "Framing of messages in both directions. `json`, the default value: one JSON object a line, in which \
             `_to` and `_from` name receivers and sender. `jsonl`: one JSON value a line, with nothing added and no \
             member obeyed. `gwsocket`: binary packets with a header. `lsp`: text with `Content-Length` headers, as \
             in the Language Server Protocol. The section MESSAGES describes them.",
        ),
    flag("clientframe", frame!(client_frame))
        .equals_only()
        .conflicts(&["binary"])
        .text("Framing of messages from clients to the program."),
    flag("serverframe", frame!(server_frame))
        .equals_only()
        .conflicts(&["binary"])
        .text("Framing of messages from the program to clients."),
    flag(
        "input",
        words!(|draft| draft.recipe().incoming, "pass" => Incoming::Pass, "discard" => Incoming::Discard),
    )
    .default("pass")
    .text(
        "What to do with messages from clients. `pass`: write them to the program. `discard`: count and drop them. \
         That is for programs that never read, such as `tail -f`, when clients send heartbeats: the program's full \
         input would block these clients. Join and leave messages are written in both cases.",
    ),
    flag("cache", Text("[TYPE:]SIZE", |draft, text| {
        values::cache(text).map(|keep| draft.recipe().history.keep = keep)
    }))
    .text(
        "Replay the last messages to clients that join. `all:SIZE` or `SIZE`: the last SIZE messages of the program, \
         1 to 65536. `tagged:SIZE`: the last SIZE of those JSON messages in which the member `_cache` is true. \
         Together they hold at most `--maxqueue` bytes. Private messages are not replayed.",
    ),
    flag("cachepersist", On(|draft| &mut draft.recipe().history.persist)).text(
        "Keep the messages of `--cache` when the program ends. The room's next program adds to them. They are kept \
         in memory only, for the last 1024 rooms, with at most 16 times `--maxqueue` bytes together.",
    ),
    flag("joinmsg", Text("MESSAGE", |draft, text| {
        draft.join = Some(text.to_owned());
        Ok(())
    }))
    .text(
        "Write this to the program when a client joins. The program reads it before that client's first message. The \
         variables `#ID`, `#ROOM`, `#REMOTE_ADDR`, `#QUERY_STRING`, `#QUERY_<NAME>` and `#HTTP_<NAME>`, a header \
         field of the client's request, are replaced.",
    ),
    flag("leavemsg", Text("MESSAGE", |draft, text| {
        draft.leave = Some(text.to_owned());
        Ok(())
    }))
    .text(
        "Write this to the program when a client has left. The program reads it after that client's last message. \
         The variables are those of `--joinmsg`.",
    ),
    flag("maxmessage", Bytes(MAX_MESSAGE, |draft| &mut draft.config.limits.message)).default("1m").text(
        "Largest message of a client. At most `1g`; `k`, `m` and `g` stand for powers of 1024. A client that sends a \
         larger one is closed with 1009.",
    ),
    flag("maxline", Bytes(MAX_MESSAGE, |draft| &mut draft.recipe().max_line)).default("16m").text(
        "Largest message of the program. At most `1g`. The delimiter does not count. A longer line is discarded up \
         to its end, counted and logged, and the program goes on; a longer packet of `--frame=gwsocket` ends the \
         program. With `--binary` the limit has no effect.",
    ),
];

static PROGRAM: &[Flag<Draft>] = &[
    flag("relay", words!(|draft| draft.relay_to_sender, "others" => false, "all" => true))
        .equals_only()
        .bare("others")
        .conflicts(&["connect"])
        .text(
            "Run no program; pass messages between clients. A message goes to the other clients of the room, with \
             `all` to the sender too; so do join and leave messages. It stays whole, text or binary. With `--json` or \
             `--frame=json`, `_from` is added, and `_to` and `_except` are obeyed.",
        ),
    flag("connect", Raw("ADDRESS", |draft, text| {
        addresses::destination(text).map(|destination| draft.connect = Some(destination))
    }))
    .text(
        "Run no program; connect to this address. `IP:PORT`; `[IPV6]:PORT`; `localhost:PORT`, which is 127.0.0.1; \
         `HOST:PORT`, which is looked up for each connection; or `unix:PATH`. A client whose connection fails is \
         closed with 1011.",
    ),
    flag(
        "share",
        words!(
            |draft| draft.share,
            "room" => Some(Share::Room),
            "client" => Some(Share::Client),
            "server" => Some(Share::Server),
        ),
    )
    .otherwise("room, or client with --connect")
    .text(
        "Which clients share a process or a connection. `room`: all clients of a room. `client`: each client has its \
         own. `server`: all clients of all rooms. The section SHARING AND RELAYING describes them.",
    ),
    flag("tcp", Switch(|_, _| {})).text(
        "Talk to the program over TCP. The program must listen on 127.0.0.1 at the port in its variable `PORT`. \
         Until it listens, clients wait. What the program prints goes to the log. The listening socket must belong to \
         the server's user, or to the user of the program's process (not of a child process, as with `sudo -u`). \
         While another user listens on the port, or where the system does not show who does (see the section FILES), \
         the server does not connect.",
    ),
    flag("tcpports", Text("FIRST:LAST", |draft, text| values::ports(text).map(|ports| draft.tcp.ports = ports)))
        .default("9001:9999")
        .conflicts(&["maxrooms"])
        .needs(&["tcp"])
        .text(
            "Ports for programs that talk over TCP. Both ends are included. Each room takes one port. Ports in use \
             are skipped. When all are in use, a client for another room is refused with 503.",
        ),
    flag("delay", Seconds(|draft| &mut draft.program.delay))
        .default("0")
        .text(
            "Wait this long after starting the program. Its clients wait too. Programs that use `--tcp` do not need \
             it.",
        ),
    flag("connecttimeout", Timeout(|draft| &mut draft.tcp.connect_timeout)).default("10").text(
        "How long a TCP program has until it listens. The time begins after `--delay`. A program to which the server \
         has not connected by then is ended, and its clients are closed with 1011.",
    ),
    flag("passenv", Text("LIST", |draft, text| {
        let names = text.strip_prefix('+').map(|more| values::variables(&format!("{VARIABLES},{more}")));
        names.unwrap_or_else(|| values::variables(text)).map(|names| draft.variables = names)
    }))
    .default(VARIABLES)
    .text(
        "Environment variables that the program inherits. Names separated by commas. Variables that are not set are \
         left out. `--passenv +LIST` adds to the default; `--passenv=` passes none.",
    ),
    flag("cgienv", On(|draft| &mut draft.program.cgi_environment)).text(
        "Pass the first client's request as CGI variables. By default the program gets only the room, and the query \
         and address of that client.",
    ),
    flag(
        "stderr",
        words!(
            |draft| draft.program.stderr,
            "log" => Stderr::Log,
            "inherit" => Stderr::Inherit,
            "null" => Stderr::Null,
        ),
    )
    .default("inherit")
    .text(
        "Where the program's standard error goes. `log`: to the log line by line, with room and process id; lines \
         are cut after 8 KiB. `inherit`: to the server's own standard error. `null`: to /dev/null.",
    ),
    flag("linger", Seconds(|draft| &mut draft.recipe().times.linger)).default("0").text(
        "Keep the program after its last client has left. A client that comes back within this time finds it running.",
    ),
    flag("inputgrace", Seconds(|draft| &mut draft.recipe().stop[0].wait)).default("0.25").text(
        "How long a stopping program may read nothing. To stop a program, the server closes its standard input \
         first. As long as the program goes on reading what was sent before, it gets no signal, for at most this time \
         and `--grace` together. Many programs (Python, Node) read ahead and then work on it: give such a program the \
         time it may need, for instance 3600. The server does not wait longer than the program runs, but its own \
         shutdown may take as long.",
    ),
    flag("grace", Seconds(|draft| &mut draft.recipe().stop[1].wait)).default("3").text(
        "Time between the stop signal and KILL. It also limits how long the signal is delayed while the program is \
         reading, see `--inputgrace`.",
    ),
    flag("stopsignal", Text("NAME", |draft, text| {
        values::signal(text).map(|signal| draft.recipe().stop[0].signal = signal)
    }))
    .default("TERM")
    .text(
        "Signal that asks the program to stop. A name, with or without `SIG`, or a number. It is sent to the \
         program's process group, at the time that `--inputgrace` describes.",
    ),
    flag("exitend", On(|draft| &mut draft.config.exit_end)).conflicts(&["oneshot"]).text(
        "Exit when the first program ends, with its status. The status is 128 and the number of the signal if a \
         signal ended it.",
    ),
];

static CLIENTS: &[Flag<Draft>] = &[
    flag("origin", Text("LIST", |draft, text| addresses::origins(text).map(|origin| draft.config.origin = origin)))
        .otherwise("the request's own host")
        .text(
            "Web pages that may connect. A list of `host`, `host:port` or `scheme://host[:port]`, separated by \
             commas, which replaces the default; `*` allows all. By default the host in the `Origin` header must be \
             the one in `Host`; ports are ignored. Other pages are refused with 403, and the log names what to add. \
             Clients other than browsers, which send no `Origin`, may always connect.",
        ),
    flag("protocol", Text("LIST", |draft, text| {
        values::protocols(text).map(|protocols| draft.config.protocols = protocols)
    }))
    .otherwise("any")
    .text(
        "Subprotocols to choose from. Names separated by commas; case counts. Of those that a client offers in \
         `Sec-WebSocket-Protocol`, the first that is in the list is chosen, and none if none is. By default the first \
         one offered is chosen; one that begins with `bearer.`, which is a token, only if there is no other. With \
         `--protocol=` none is ever chosen. Browsers end a connection if none of theirs is chosen.",
    ),
    flag("maxclients", Count(|draft| &mut draft.config.limits.clients))
        .otherwise("what the system's limits allow")
        .text(
            "Maximum number of connections. Further ones are refused with 503. At most half may be connections that \
             have not sent their request yet. The section LIMITS says what the system allows.",
        ),
    flag("maxroomclients", Count(|draft| &mut draft.config.limits.room_clients))
        .otherwise("no limit")
        .text("Maximum number of clients in one room. Further ones are refused with 503."),
    flag("maxaddrclients", Count(|draft| &mut draft.config.limits.address_clients)).otherwise("no limit").text(
        "Maximum number of clients from one address. An IPv6 /64 counts as one address. Further ones are refused \
         with 429. Behind a proxy all clients have the proxy's address.",
    ),
    flag("rooms", Text("LIST", |draft, text| values::rooms(text).map(|rooms| draft.config.rooms = Some(rooms))))
        .otherwise("any")
        .text(
            "Allowed rooms. Names separated by commas; case counts. Other rooms are refused with 400, and so are \
             reserved names even if they are listed.",
        ),
    flag("defaultroom", Text("NAME", |draft, text| {
        values::room(text).map(|room| draft.config.default_room = Some(room))
    }))
    .text(
        "Room for clients whose path is `/`. Without it they are refused with 404, except with `--share client` or \
         `server`.",
    ),
    flag("maxrooms", Count(|draft| &mut draft.config.limits.rooms))
        .aliases(&["maxforks"])
        .otherwise("no limit")
        .text(
            "Maximum number of rooms; with `--share`, of processes. Those that are still stopping count. A client \
             for another one is refused with 503.",
        ),
    flag("oneshot", On(|draft| &mut draft.config.oneshot)).text(
        "Serve one client, then exit. Plain requests do not count, and a second client is refused with 503. The \
         server exits with status 0 when the client has left and the program has ended, whatever its status.",
    ),
    flag("maxqueue", Bytes(MAX_QUEUE, |draft| &mut draft.recipe().max_queue)).default("4m").text(
        "Maximum number of bytes queued for one client. When it is reached, `--slow` says what happens. One message \
         always fits, and what `--cache` replays does not count. At most `1024g`.",
    ),
    flag(
        "slow",
        words!(
            |draft| draft.recipe().slow,
            "disconnect" => Slow::Disconnect,
            "drop" => Slow::Drop,
            "block" => Slow::Block,
        ),
    )
    .default("disconnect")
    .text(
        "What to do with a slow client. `disconnect`: the room waits for it, at most `--patience` while other clients \
         have caught up, otherwise as long as it takes something within 10 seconds; then it is closed with 1013. \
         `drop`: messages that do not fit are dropped for that client, whole, and counted. `block`: the room waits as \
         long as the client takes something within 30 seconds. Bytes count as taken when the client's system has \
         acknowledged them.",
    ),
    flag("patience", Seconds(|draft| &mut draft.recipe().times.patience)).default("2").text(
        "How long clients wait for a slow one in their room. They wait at most this long at a time, and at most a \
         tenth of the time, however many clients are slow. Time counts only while a client that has caught up is kept \
         waiting. Only for `--slow=disconnect`.",
    ),
    flag("handshaketimeout", Timeout(|draft| &mut draft.config.times.handshake))
        .default("10")
        .text("How long a new connection has to send its request."),
    flag("ping", SecondsOrOff(|draft| &mut draft.config.times.ping)).default("20").text(
        "Ping a client that was silent this long; 0 is off. After three times as long the connection counts as lost. \
         Any byte sent or received counts as a sign of life, except the pings. The time stops while the server does \
         not read from that client because the program's input is full.",
    ),
    flag("idle", SecondsOrOff(|draft| &mut draft.config.times.idle)).default("0").text(
        "Close a client that was idle this long; 0 is off. Idle is a client that sends no message; pings and pongs do not \
         count. The close code is 1008.",
    ),
];

static HTTP: &[Flag<Draft>] = &[
    flag("api", On(|draft| &mut draft.config.api)).text(
        "Show rooms as JSON under `/api/`. `/api/rooms/` lists all rooms; `/api/ROOM/` is one of them, \
         `/api/ROOM/connections` the number of its clients, `/api/ROOM/metadata` what its program has set with \
         `_meta`. Pages that `--origin` allows may read it.",
    ),
    flag("console", On(|draft| &mut draft.config.console)).text(
        "Serve a page to try the server by hand. It is at `/` and at the path of each room, and sends and shows \
         messages in a browser. Files of `--staticdir` come first. With `--api` it lists the rooms.",
    ),
    flag(
        "metrics",
        words!(
            |draft| draft.config.metrics,
            "rooms" => Some(Metrics::Rooms),
            "global" => Some(Metrics::Global),
        ),
    )
    .equals_only()
    .bare("rooms")
    .text(
        "Serve metrics under `/metrics`. They are OpenMetrics text. `rooms`, the default value, has figures for each \
         room; `global` leaves them out.",
    ),
    flag("staticdir", Directory(|draft| &mut draft.config.static_dir)).text(
        "Serve the files in this directory. For a directory in it, its `index.html` is served. There are no listings, \
         and files whose names begin with a dot are not served.",
    ),
    flag("header", Text("FIELD", |draft, text| {
        let field = values::header(text)?;
        draft.config.headers.http.push(field.clone());
        draft.config.headers.ws.push(field);
        Ok(())
    }))
    .repeatable()
    .text(
        "Add a header field to every response. `NAME: VALUE`, as in `--header 'X-Frame-Options: DENY'`; may be given \
         several times. Fields that the server sets itself are refused.",
    ),
    flag("header-http", Text("FIELD", |draft, text| {
        values::header(text).map(|field| draft.config.headers.http.push(field))
    }))
    .repeatable()
    .text("Add a header field to responses to plain requests."),
    flag("header-ws", Text("FIELD", |draft, text| {
        values::header(text).map(|field| draft.config.headers.ws.push(field))
    }))
    .repeatable()
    .text("Add a header field to responses that open a websocket."),
];

static LOG: &[Flag<Draft>] = &[
    flag(
        "log",
        words!(|draft| draft.config.log.format, "text" => LogFormat::Text, "json" => LogFormat::Json),
    )
    .default("text")
    .text("Log format. The log goes to standard error; `json` is one object a line."),
    flag(
        "verbose",
        Switch(|draft, _| {
            let level = &mut draft.config.log.level;
            *level = if *level == Level::Info { Level::Debug } else { Level::Trace };
        }),
    )
    .short('v')
    .repeatable()
    .text("Log plain requests and more details too."),
    flag("quiet", Switch(|draft, _| draft.config.log.level = Level::Warn))
        .short('q')
        .conflicts(&["verbose"])
        .text("Log warnings and errors only."),
];

static OTHER: &[Flag<Draft>] = &[
    flag(
        "help",
        Switch(|draft, typed| draft.print = Some(if typed == "--help" { help::long } else { help::short })),
    )
    .short('h')
    .stops()
    .text("Print the options. `-h` prints one line for each, `--help` describes them."),
    flag(
        "version",
        Switch(|draft, _| draft.print = Some(|_| format!("scalesocket {}\n", env!("CARGO_PKG_VERSION")))),
    )
    .short('V')
    .stops()
    .text("Print the version."),
    flag("man", Switch(|draft, _| draft.print = Some(|table| man::render(man::PAGE, table))))
        .stops()
        .text("Print the man page. For `man -l -` or `mandoc`."),
    flag(
        "completions",
        words!(
            |draft| draft.print,
            "bash" => Some(completions::bash),
            "zsh" => Some(completions::zsh),
            "fish" => Some(completions::fish),
        ),
    )
    .stops()
    .text("Print completions for a shell."),
    flag("websocketd", Switch(|_, _| {})).stops().text(
        "Work as websocketd does. Must be the first argument; the rest is a command line of `websocketd`, whose man \
         page describes it. A link with that name needs no option.",
    ),
];
