//! Where connections come from: TCP and unix sockets, sockets inherited from systemd or inetd, and the
//! loop that accepts.

pub mod accept;
mod bind;
mod inherited;
mod listener;
mod refuse;

pub use self::bind::bind;
pub use self::inherited::{Inherited, inetd, systemd};
pub use self::listener::{Announced, ListenError, Listener};
