//! Rooms: who is in, which process answers, what happens when they come and go. Knows nothing of HTTP.

mod failures;
mod history;
mod join;
mod listing;
mod member;
mod past;
mod ports;
mod room;
mod side;
mod state;
mod table;

pub use self::join::JoinError;
pub use self::listing::{Facts, Joined, Waiting};
pub use self::member::Member;
pub use self::room::Room;
pub use self::table::{Bounds, ReserveError, RoomSlot, Table};
