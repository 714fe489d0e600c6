//! The options of websocketd, those of 0.4.1 and of its newest version. After a change, render the man page with
//! `cargo run -- --websocketd --man > man/websocketd.1`.

use std::ffi::OsStr;

use super::super::draft::Draft;
use super::super::flag::Value::{Directory, On, Raw, Switch, Text};
use super::super::flag::{Flag, Section, Value};
use super::super::go_flags::{integer, unsigned};
use super::super::values;

const fn flag(name: &'static str, value: Value<Draft>) -> Flag<Draft> {
    Flag::new(name, value)
}

/// A value of one of websocketd's options: a number, a text or a path.
macro_rules! value {
    ($name:literal, $field:ident = $parse:path) => {
        Text($name, |draft, text| $parse(text).map(|value| draft.websocketd.$field = value))
    };
    ($name:literal, $field:ident: list) => {
        Text($name, |draft, text| {
            draft.websocketd.$field.push(text.to_owned());
            Ok(())
        })
    };
    ($name:literal, $field:ident: path) => {
        Raw($name, |draft, text: &OsStr| {
            draft.websocketd.$field = Some(text.into());
            Ok(())
        })
    };
}

/// All options, in the order of help and man page.
pub(in crate::cli) static TABLE: &[Section<Draft>] = &[
    Section { title: "Listening", flags: LISTENING },
    Section { title: "Programs", flags: PROGRAMS },
    Section { title: "Clients", flags: CLIENTS },
    Section { title: "HTTP", flags: HTTP },
    Section { title: "Other", flags: OTHER },
];

static LISTENING: &[Flag<Draft>] = &[
    flag("port", value!("N", port = integer))
        .default("0")
        .text("Port to listen on. 0 is 80, with `--ssl` 443."),
    flag("address", value!("HOST", hosts: list)).otherwise("all addresses").text(
        "Listen on this address; may be given several times. An IPv6 address in brackets, as in `[::1]`.",
    ),
    flag("unixsocket", value!("PATH", socket: path))
        .text("Listen on this unix socket. On it alone without `--port`, `--address` and `--redirport`."),
    flag("redirport", value!("N", redirect_port = integer))
        .default("0")
        .text("Redirect requests on this port to `--port`; 0 is off. On each address."),
    flag("ssl", On(|draft| &mut draft.websocketd.ssl)).text("Use TLS. Needs `--sslcert` and `--sslkey`."),
    flag("sslcert", value!("FILE", certificate: path)).text("Certificate chain, PEM."),
    flag("sslkey", value!("FILE", key: path)).text("Key of the certificate, PEM."),
    flag("sslca", value!("FILE", client_ca: path))
        .text("Require certificates of clients, signed by one of these, PEM. No effect without `--ssl`."),
];

static PROGRAMS: &[Flag<Draft>] = &[
    flag("dir", Directory(|draft| &mut draft.websocketd.face.script_dir))
        .text("Directory of programs, instead of COMMAND. The section PATHS says which one a request starts."),
    flag("binary", On(|draft| &mut draft.websocketd.binary)).text(
        "Pass bytes through unchanged. Each read of the program's output is a binary message. Without it, each line \
         is a text message, and each text message of the client is a line.",
    ),
    flag("passstderr", On(|draft| &mut draft.websocketd.pass_stderr)).text(
        "Send standard error to the client too. Each line of either stream is a message \
         `{\"stream\":\"stdout\",\"data\":\"LINE\"}` or `{\"stream\":\"stderr\",...}`. Not with `--binary`.",
    ),
    flag("passenv", Text("LIST", |draft, text| {
        draft.variables = text.split(',').map(str::to_owned).collect();
        Ok(())
    }))
    .default("PATH,LD_LIBRARY_PATH")
    .text("Environment variables that programs inherit. Names separated by commas."),
    flag("maxforks", value!("N", max_forks = integer))
        .default("1024")
        .text("Maximum number of programs, those of `--cgidir` included. More are refused with 429; 0 is no limit."),
    flag("closems", value!("MS", close_time = unsigned)).default("0").text(
        "Milliseconds added to each wait when a program is stopped. Its input is closed; INT follows after 100 ms, \
         TERM after another 250 ms and KILL after another 500 ms.",
    ),
];

static CLIENTS: &[Flag<Draft>] = &[
    flag("sameorigin", On(|draft| &mut draft.websocketd.face.same_origin))
        .text("Refuse websockets whose `Origin` differs from `Host` in host or port. With 403; so are those without `Origin`."),
    flag("origin", value!("LIST", origins = text))
        .otherwise("any")
        .text(
            "Refuse websockets whose `Origin` is not in this list. With 403; so are those without `Origin`. \
             `[scheme://]host[:port]`, separated by commas.",
        ),
    flag("maxframesize", value!("BYTES", max_message = integer))
        .default("1048576")
        .text("Largest message of a client. A client that sends a larger one is closed with 1009; 0 is 1 GiB."),
    flag("pingms", value!("MS", ping = integer))
        .default("0")
        .text("Ping clients that were silent this many milliseconds; 0 is off. After twice this time they are gone."),
    flag("reverselookup", On(|draft| &mut draft.websocketd.face.reverse_lookup))
        .text("Look up names of clients for `REMOTE_HOST`."),
];

static HTTP: &[Flag<Draft>] = &[
    flag("staticdir", Directory(|draft| &mut draft.config.static_dir))
        .text("Serve the files in this directory."),
    flag("cgidir", Directory(|draft| &mut draft.websocketd.face.cgi_dir))
        .text("Serve the CGI programs in this directory."),
    flag("devconsole", On(|draft| &mut draft.websocketd.face.console))
        .text("Serve a page to try websockets at every path. Not with `--staticdir` or `--cgidir`."),
    flag("header", Text("FIELD", |draft, text| header(draft, text, true, true)))
        .text("Add a header field to every response; may be given several times. `NAME: VALUE`."),
    flag("header-ws", Text("FIELD", |draft, text| header(draft, text, true, false)))
        .text("Add a header field to responses that open a websocket."),
    flag("header-http", Text("FIELD", |draft, text| header(draft, text, false, true)))
        .text("Add a header field to other responses."),
];

static OTHER: &[Flag<Draft>] = &[
    flag("loglevel", value!("LEVEL", level = text))
        .default("access")
        .text("Level of the log. `debug`, `trace`, `access`, `info`, `error`, `fatal` or `none`."),
    flag("help", Switch(|draft, _| draft.websocketd.help = true))
        .short('h')
        .stops()
        .text("Print the options."),
    flag("version", On(|draft| &mut draft.websocketd.version)).text("Print the version."),
    flag("license", On(|draft| &mut draft.websocketd.license)).text("Print version and license."),
    flag("man", On(|draft| &mut draft.websocketd.man))
        .text("Print the man page. Not an option of websocketd."),
];

#[expect(clippy::unnecessary_wraps, reason = "parses a value, as the other functions do")]
fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Adds a header field. One that cannot be sent is left out with a warning: websocketd takes any.
#[expect(clippy::unnecessary_wraps, reason = "a setter of the table")]
fn header(draft: &mut Draft, text: &str, ws: bool, http: bool) -> Result<(), String> {
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    let name = canonical(name);
    // Scripts use it to name a subprotocol, as none is negotiated.
    let protocol = ws && name == "Sec-Websocket-Protocol";
    let checked = if protocol { "X" } else { &name };
    match values::header(&format!("{checked}:{}", value.replace(['\r', '\n'], " "))) {
        Ok((_, value)) => {
            let headers = &mut draft.config.headers;
            for (list, wanted) in [(&mut headers.ws, ws), (&mut headers.http, http && !protocol)] {
                if wanted {
                    list.push((name.clone(), value.clone()));
                }
            }
        }
        Err(reason) => draft.config.warnings.push(format!("header {text:?} is not sent: {reason}")),
    }
    Ok(())
}

/// `x-FOO` as `X-Foo`.
fn canonical(name: &str) -> String {
    let mut start = true;
    let letter = |c: char| {
        let c = if start { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        start = c == '-';
        c
    };
    name.chars().map(letter).collect()
}
