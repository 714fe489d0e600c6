//! What the options of websocketd set beside the settings that both faces share.

use std::path::PathBuf;

use crate::config::Websocketd;

#[derive(Debug, Default)]
pub(in crate::cli) struct Options {
    pub(super) face: Websocketd,
    pub(super) port: i64,
    pub(super) redirect_port: i64,
    pub(super) hosts: Vec<String>,
    pub(super) socket: Option<PathBuf>,
    pub(super) ssl: bool,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) binary: bool,
    pub(super) pass_stderr: bool,
    pub(super) max_message: i64,
    pub(super) max_forks: i64,
    /// Milliseconds.
    pub(super) close_time: i64,
    /// Milliseconds.
    pub(super) ping: i64,
    pub(super) origins: String,
    pub(super) level: String,
    pub(super) help: bool,
    pub(super) version: bool,
    pub(super) license: bool,
    pub(super) man: bool,
}
