//! A client that has joined a room.

use std::sync::Arc;
use std::time::Instant;

use super::names::Name;
use super::slot::Registration;
use crate::backend::Handle;
use crate::clients::Client;
use crate::recipe::Recipe;
use crate::sink::{Messages, Pushed, WriteResult};

/// A client's membership: it leaves the room when this is dropped, whatever happens to its thread.
pub struct Member {
    pub(super) registration: Registration,
    pub(super) name: Arc<Name>,
    pub(super) backend: Arc<Handle>,
    pub(super) client: Arc<Client>,
}

impl Member {
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// How its room works.
    pub fn recipe(&self) -> &Arc<Recipe> {
        &self.registration.room.recipe
    }

    /// The process that serves it, if there is one.
    pub fn pid(&self) -> Option<i32> {
        self.backend.pid()
    }

    /// Hands a client that was closed to the backlog, which ends it in bounded time.
    pub fn watch_close(&self) {
        self.backend.watch_close(&self.client);
    }

    /// Passes messages on to the program: see [`Handle::input`].
    pub fn input(&self, messages: Messages<'_>, stay: impl FnMut(Instant) -> bool) -> Pushed {
        // Its join was not sent: the client was gone by then.
        if !self.client.has_joined() {
            return Pushed { taken: 0, waited: false, after: WriteResult::Refused };
        }
        self.backend.input(&self.client, messages, stay)
    }

    /// Hands the client to the backlog if something waits in its outbox.
    pub fn watch(&self, after: WriteResult) {
        self.backend.watch(&self.client, after);
    }
}

impl Drop for Member {
    /// The program sees the leave after the client's last message, because both come from the client's own thread;
    /// and before the end of its input, because the slot is given back afterwards.
    fn drop(&mut self) {
        let Self { registration, name, backend, client } = self;
        let room = &registration.room;
        client.mark_finished();
        // Removed first, so that it does not get what the program prints about its leave. If the backend has ended,
        // the client is no member any more and its slot is free already.
        let present = room.lock().begin_to_leave(client);
        backend.cancel_turn(client);
        client.leave_once(|| {
            if client.has_joined()
                && let Some(notice) = room.leave_notice(client)
            {
                backend.push_notice(&notice);
            }
        });
        if present {
            registration.give_back(name, |state| state.leaving.retain(|leaving| leaving.id != client.id));
        }
        backend.members_changed();
    }
}
