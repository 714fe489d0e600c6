//! Listening: TCP and unix sockets, sockets inherited from systemd or inetd, and the accept loop.

pub mod accept;
mod bind;
#[cfg_attr(not(feature = "tls"), path = "no_certificates.rs")]
mod certificates;
mod inherited;
mod listener;
mod refuse;

pub use self::bind::bind;
pub use self::certificates::Certificates;
pub use self::inherited::{Inherited, inetd, systemd};
pub use self::listener::{Announced, ListenError, Listener};
