//! The variables that the server was started with.

use std::ffi::{OsStr, OsString};

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: Vec<(OsString, OsString)>,
}

impl Environment {
    /// Takes them from `std::env::vars_os`, or from a test.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self { variables: variables.into_iter().collect() }
    }

    /// A variable's value. Of two with one name the first counts, as for getenv(3).
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        let name = name.as_ref();
        self.variables.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_os_str())
    }
}
