//! Thin names over the system calls that std does not have, all without `unsafe` (rustix).

pub mod deadline;
pub mod limits;
pub mod poll;
pub mod process;
pub mod socket;
