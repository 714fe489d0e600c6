//! The environment variables of the server.

use std::ffi::{OsStr, OsString};

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: Vec<(OsString, OsString)>,
}

impl Environment {
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self { variables: variables.into_iter().collect() }
    }

    /// The value of a variable. If a name is repeated, the first counts, as in getenv(3).
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        let name = name.as_ref();
        self.variables.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_os_str())
    }
}
