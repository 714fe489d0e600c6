//! A client's hold on its room: what it can do there, and that it leaves, whatever happens.

use std::sync::Arc;
use std::time::Instant;

use super::room::Room;
use crate::backend::Handle;
use crate::clients::Client;
use crate::sink::{Messages, Pushed, WriteResult};

/// A client's membership: it leaves the room when this is dropped, whatever happens to its thread.
pub struct Member {
    pub(super) room: Arc<Room>,
    pub(super) child: Arc<Handle>,
    pub(super) client: Arc<Client>,
}

impl Member {
    /// The client.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Has the end of a client that was closed seen through: written out, answered, ended.
    pub fn see_through(&self) {
        self.child.see_through(&self.client);
    }

    /// Passes messages on to the program: see [`Handle::input`].
    pub fn input(&self, messages: Messages<'_>, stay: impl FnMut(Instant) -> bool) -> Pushed {
        // Its join was not taken: the client was gone by then.
        if !self.client.has_joined() {
            return Pushed { taken: 0, waited: false, after: WriteResult::Refused };
        }
        self.child.input(&self.client, messages, stay)
    }

    /// Has the client's sink watched if something waits in it.
    pub fn mind(&self, after: WriteResult) {
        self.child.mind(&self.client, after);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.client.finish();
        self.room.leave(&self.client, &self.child);
    }
}
