//! The second face: a drop-in for websocketd. Each client has a program of its own, and its room is named by the text
//! that stands in the log about it, which is unique.

mod cgi;
mod environment;
mod origin;
mod path;
mod reverse;
mod scope;
mod scripts;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use self::cgi::CgiPrograms;
use self::environment::Session;
use self::origin::Rules;
use self::scope::{pair, url};
use self::scripts::{NoScript, Script, Scripts};
use super::{Face, Leaving, Request, address};
use crate::clients::Client;
use crate::config::{Config, Level, Websocketd};
use crate::counters::Count;
use crate::gate::Refusal;
use crate::http::files::FileServer;
use crate::http::head::Head;
use crate::http::respond::{Reply, refuse};
use crate::http::route::{BadRequest, Plain, Route, upgrade};
use crate::http::{console, plain};
use crate::log::Log;
use crate::recipe::{Backend, Recipe, Variables};
use crate::site::Target;
use crate::sys::reason;

/// See the module's documentation.
pub struct WebsocketdFace {
    config: Arc<Config>,
    settings: Arc<Websocketd>,
    log: Log,
    files: Option<FileServer>,
    scripts: Option<Scripts>,
    programs: Option<CgiPrograms>,
    last_id: AtomicU64,
}

impl WebsocketdFace {
    /// # Errors
    /// If the directory of programs cannot be opened.
    pub fn new(
        config: &Arc<Config>,
        settings: &Arc<Websocketd>,
        log: &Log,
        files: Option<FileServer>,
    ) -> Result<Self, String> {
        let failed = |path: &Path, e| format!("cannot open the directory {}: {}", path.display(), reason(&e));
        let open = |path: &Path| Scripts::open(path).map_err(|e| failed(path, e));
        let open_programs = |path: &Path| CgiPrograms::open(path).map_err(|e| failed(path, e));
        Ok(Self {
            config: Arc::clone(config),
            settings: Arc::clone(settings),
            log: log.clone(),
            files,
            scripts: settings.script_dir.as_deref().map(open).transpose()?,
            programs: settings.cgi_dir.as_deref().map(open_programs).transpose()?,
            last_id: AtomicU64::new(0),
        })
    }
}

impl Face for WebsocketdFace {
    fn route(&self, request: &Request<'_>) -> Result<Route, Refusal> {
        let head = request.head;
        let path = match path::clean(head.path()) {
            path::Path::Clean(path) => path,
            path::Path::Moved(mut place) => {
                if let Some(query) = head.query() {
                    place.extend(["?", query]);
                }
                return Ok(Route::Plain(Plain::Moved(place)));
            }
            path::Path::Bad => return Err(Refusal::new(400, "Bad Request", Count::RefusedBad)),
        };
        if asks_upgrade(head) && self.has_programs() {
            return upgrade(head).map(Route::Upgrade).map_err(|error| {
                let refusal = bad_handshake(error);
                self.log_refused(request, &refusal.reason);
                refusal
            });
        }
        if self.settings.console {
            return Ok(Route::Plain(Plain::Console));
        }
        if let Some(programs) = &self.programs
            && let Some(call) = programs.call(request, &path, &self.settings.passed)
        {
            self.log.at(Level::Access, "CGI").room(&call.label).category("http").write();
            return Ok(Route::Program(Box::new(call)));
        }
        Ok(Route::Plain(Plain::File))
    }

    fn target(&self, request: &Request<'_>) -> Result<Target, Refusal> {
        let head = request.head;
        let path::Path::Clean(path) = path::clean(head.path()) else {
            return Err(Refusal::new(400, "Bad Request", Count::RefusedBad));
        };
        let script = self.scripts.as_ref().map(|scripts| scripts.find(&path)).transpose();
        let script = script.map_err(|error| no_script(&error))?;
        let sent = head.values("origin").next();
        origin::check(self.rules(), sent, &environment::host(head), request.is_secure).map_err(|error| {
            no_handshake(403, "Forbidden", format!("Unable to Upgrade: {error}"), Count::RefusedOrigin)
        })?;
        let recipe =
            script.as_ref().map_or_else(|| Arc::clone(&self.config.recipe), |script| self.recipe(script));
        let id = self.next_id();
        let remote = environment::remote(request);
        let name =
            request.peer.filter(|_| self.settings.reverse_lookup).and_then(|peer| reverse::name(peer.ip()));
        let remote_host = name.as_deref().unwrap_or(&remote);
        let mut room = url(request);
        let command =
            recipe.program().map_or_else(Default::default, |program| program.path.to_string_lossy());
        let origin = origin::effective(self.rules(), sent);
        for (key, value) in
            [("id", &*id.to_string()), ("remote", remote_host), ("command", &command), ("origin", &origin)]
        {
            pair(&mut room, key, value);
        }
        let script = script.map(|script| script.length);
        let variables = environment::variables(request, &Session { path: &path, script, id, remote_host });
        Ok(Target { room: room.into(), recipe, variables })
    }

    fn variables(&self, _: &Request<'_>, target: &Target) -> Variables {
        target.variables.clone()
    }

    fn reply(&self, request: &Request<'_>, plain: &Plain) -> Reply {
        let (head, url) = (request.head, url(request));
        let log = |message| self.log.at(Level::Access, message).room(&url).category("http").write();
        match (plain, &self.files) {
            (Plain::File, Some(_)) => log("STATIC"),
            (Plain::File, None) => log("NOT FOUND"),
            (Plain::Console, _) => {
                log("DEVCONSOLE");
                return console::reply(false);
            }
            _ => {}
        }
        let reply = plain::reply(head, plain, self.files.as_ref(), "");
        if reply.status == 404 { refuse(404, "404 page not found") } else { reply }
    }

    fn refusal(&self, refusal: &Refusal) -> Reply {
        if refusal.is_room_limit { refuse(429, "429 Too Many Requests") } else { refusal.reply() }
    }

    fn log_start(&self) {
        let say = |what: &str, value: &str| {
            self.log.at(Level::Info, &format!("{what:<28}: {value}")).category("server").write();
        };
        if let Some(directory) = &self.settings.script_dir {
            say("Serving from directory", &directory.to_string_lossy());
        } else if let Some(program) = self.config.recipe.program().filter(|_| self.has_programs()) {
            let mut words = program.path.to_string_lossy().into_owned();
            for argument in &program.arguments {
                words.extend([" ", &argument.to_string_lossy()]);
            }
            say("Serving using application", &words);
        }
        for (what, directory) in [
            ("Serving static content from", &self.config.static_dir),
            ("Serving CGI scripts from", &self.settings.cgi_dir),
        ] {
            if let Some(directory) = directory {
                say(what, &directory.to_string_lossy());
            }
        }
    }

    fn log_listening(&self, address: &str, redirects: bool) {
        let secure = if self.config.tls.is_some() { "s" } else { "" };
        // All addresses: the name is of more use.
        let address = match address.strip_prefix("[::]:") {
            Some(port) => &format!("{}:{port}", rustix::system::uname().nodename().to_string_lossy()),
            None => address,
        };
        let say = |what: &str, scheme: &str| {
            let url = if address.starts_with("unix:") {
                address.to_owned()
            } else {
                format!("{scheme}://{address}/")
            };
            self.log.at(Level::Info, &format!("{what}: {url}")).category("server").write();
        };
        if redirects {
            return say("Starting redirect server   ", "http");
        }
        say("Starting WebSocket server   ", &format!("ws{secure}"));
        let http = format!("http{secure}");
        if self.settings.console {
            say("Developer console enabled   ", &http);
        } else if self.files.is_some() || self.settings.cgi_dir.is_some() {
            say("Serving CGI or static files ", &http);
        }
    }

    /// The line was written with the response, when it was known what was asked for.
    fn log_request(&self, _: &Request<'_>, _: &Reply) {}

    fn log_refusal(&self, request: Option<&Request<'_>>, peer: Option<SocketAddr>, refusal: &Refusal) {
        match request {
            None => {
                let line = self.log.debug("refused").field("address", address(peer));
                line.number("status", refusal.status).field("reason", &refusal.reason).write();
            }
            Some(request) if refusal.is_room_limit => {
                let message = "Max of possible forks already active, upgrade rejected";
                self.log.error(message).room(&url(request)).category("http").write();
            }
            Some(request) => self.log_refused(request, &refusal.reason),
        }
    }

    fn log_joined(&self, client: &Client) {
        self.log.at(Level::Access, "CONNECT").room(&client.room).category("session").write();
    }

    fn log_left(&self, leaving: &Leaving<'_>) {
        let room = &leaving.client.room;
        let line = self.log.debug("Terminated websocket connection").room(room).category("websocket");
        line.pid(leaving.pid).field("error", leaving.reason).write();
        let line = self.log.at(Level::Access, "DISCONNECT").room(room).category("session");
        line.pid(leaving.pid).write();
    }
}

impl WebsocketdFace {
    /// Whether there is anything to upgrade for.
    fn has_programs(&self) -> bool {
        let named =
            |recipe: &Recipe| recipe.program().is_some_and(|program| !program.path.as_os_str().is_empty());
        self.scripts.is_some() || named(&self.config.recipe)
    }

    fn rules(&self) -> Rules<'_> {
        Rules { same_origin: self.settings.same_origin, origins: self.settings.origins.as_deref() }
    }

    /// The recipe of a script: that of the server, with this program.
    fn recipe(&self, script: &Script) -> Arc<Recipe> {
        let mut recipe = Recipe::clone(&self.config.recipe);
        if let Backend::Stdio(program) = &mut recipe.backend {
            program.name = script.path.clone().into();
            program.path.clone_from(&script.path);
        }
        Arc::new(recipe)
    }

    /// Nanoseconds since 1970, never the same twice.
    fn next_id(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let next = |last: u64| now.max(last + 1);
        // It cannot fail: there is always a next one.
        self.last_id
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(next(last)))
            .map_or(now, next)
    }

    fn log_refused(&self, request: &Request<'_>, reason: &str) {
        let mut scope = url(request);
        pair(&mut scope, "remote", &environment::remote(request));
        self.log.at(Level::Access, reason).room(&scope).category("session").write();
    }
}

/// Whether a request is to be upgraded. All others are plain requests.
fn asks_upgrade(head: &Head) -> bool {
    let exact = head.values("upgrade").next().is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
    exact && head.asks_upgrade() && head.has_token("connection", "upgrade")
}

fn bad_handshake(error: BadRequest) -> Refusal {
    let (status, body) = match error {
        BadRequest::HandshakeMethod => (405, "Method Not Allowed"),
        _ => (400, "Bad Request"),
    };
    no_handshake(status, body, format!("Unable to Upgrade: {error}"), Count::RefusedBad)
}

fn no_handshake(status: u16, body: &str, reason: String, count: Count) -> Refusal {
    let field = Some(("Sec-WebSocket-Version", "13"));
    Refusal { reason, field, ..Refusal::new(status, body, count) }
}

fn no_script(error: &NoScript) -> Refusal {
    let (status, body, reason) = match error {
        NoScript::NotFound => (404, "404 Not Found", "NOT FOUND: script not found"),
        NoScript::Forbidden => (403, "Forbidden", "Unable to Upgrade: script is not executable"),
    };
    Refusal { reason: reason.to_owned(), ..Refusal::new(status, body, Count::RefusedBad) }
}
