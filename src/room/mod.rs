//! Rooms: their clients, their backend, and what happens when clients join and leave. Knows nothing of HTTP.

mod entry_error;
mod failures;
mod history;
mod join;
mod life;
mod listing;
mod member;
mod names;
mod past;
mod ports;
mod room;
mod side;
mod slot;
mod state;
mod table;

pub use self::entry_error::EntryError;
pub use self::listing::{Facts, Waiting};
pub use self::member::Member;
pub use self::slot::{ProcessSlot, RoomSlot};
pub use self::table::{Bounds, Table};
