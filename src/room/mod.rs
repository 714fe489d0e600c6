//! Rooms: who is in, which process answers, what happens when they come and go. Knows nothing of HTTP.

mod history;
mod past;
mod ports;
mod room;
mod table;
mod template;

pub use self::room::{JoinError, Member, Room};
pub use self::table::{Bounds, Facts, Hooks, ReserveError, Table, Ticket};
