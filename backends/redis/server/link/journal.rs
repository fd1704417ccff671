//! Entries of the journal, applied to the local map.

use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::Removal;

use super::{Link, OwnRemoval, lock};
use crate::journal::Entry;
use crate::journal::Event;
use crate::journal::Head;
use crate::server::session::Session;
use crate::server::session::head;
use crate::server::trouble::Trouble;
use crate::server::trouble::TroubleKind;

/// Readings of the journal between two readings of the server's clock.
const POLLS_PER_CLOCK: u32 = 10;

/// Readings of the journal between two comparisons of the data key, about a minute.
const POLLS_PER_KEY: u32 = 85;

/// Removals of this agent that are repeated after the server lost writes.
const REMOVALS_REPEATED_FOR: Duration = Duration::from_mins(1);

impl Link {
    pub(super) async fn read_journal(&self, session: &Session, polls: u32) -> Result<(), Trouble> {
        let began = self.clock.boot();
        let timeout = session.timeout;
        let found = head(&session.connection, &session.keyring, timeout).await?;
        let Some(found) = found else {
            // The server was emptied. The next connection begins a journal.
            return Err(Trouble::new(
                TroubleKind::Failing,
                "the server lost the journal",
            ));
        };
        if polls.is_multiple_of(POLLS_PER_KEY)
            && !self
                .key
                .is_current(&session.connection, &self.prefix, timeout)
                .await?
        {
            return Err(Trouble::new(
                TroubleKind::KeyChanged,
                "another agent made a new data key",
            ));
        }
        let known = self.sequence();
        let mut time = session.server_clock;
        if polls.is_multiple_of(POLLS_PER_CLOCK) {
            let connection = &session.connection;
            time = self
                .read_time(connection, &session.keyring, timeout, Some(time))
                .await?;
        }
        if found.epoch == session.epoch && found.sequence == known && time == session.server_clock {
            self.make_up(session).await?;
            let mut state = lock(&self.state);
            state.polled_at = began;
            return Ok(());
        }
        let next = Arc::new(Session {
            connection: session.connection.clone(),
            keyring: Arc::clone(&session.keyring),
            epoch: found.epoch.clone(),
            server_clock: time,
            origin: Arc::clone(&self.origin),
            timeout: session.timeout,
            lease_time: session.lease_time,
        });
        // Before entries of the old epoch go: a reader that begins after they have gone must not find the old epoch.
        self.replace(&next);
        let before = Some(Head {
            epoch: session.epoch.clone(),
            sequence: known,
        });
        self.catch_up(&next, before, &found).await?;
        self.make_up(&next).await?;
        lock(&self.state).polled_at = began;
        Ok(())
    }

    /// Puts `next` in the place of the session, unless a call has ended that.
    pub(super) fn replace(&self, next: &Arc<Session>) {
        let mut state = lock(&self.state);
        if state.session.is_some() {
            state.session = Some(Arc::clone(next));
        }
    }

    /// Applies what happened since `before`.
    pub(super) async fn catch_up(
        &self,
        session: &Session,
        before: Option<Head>,
        found: &Head,
    ) -> Result<(), Trouble> {
        let epoch_changed = before.as_ref().is_none_or(|it| it.epoch != found.epoch);
        let known = before.map_or(0, |it| {
            if it.epoch == found.epoch {
                it.sequence
            } else {
                0
            }
        });
        let mut sequence = found.sequence;
        if epoch_changed || found.sequence != known {
            let has_lost_writes = found.sequence < known;
            let read = if has_lost_writes || found.sequence == 0 {
                None
            } else {
                session.entries(known).await?
            };
            let begins_with_purge = |entries: &[Entry]| {
                entries
                    .first()
                    .is_some_and(|entry| entry.event == Event::AllPurged)
            };
            match read {
                Some((entries, last)) => {
                    if epoch_changed && !begins_with_purge(&entries) {
                        self.doubt_all();
                    }
                    self.apply(session, &entries);
                    sequence = last;
                }
                None => self.doubt_all(),
            }
            if (epoch_changed || has_lost_writes) && self.has_history() {
                self.repeat_removals();
            }
        }
        let mut state = lock(&self.state);
        state.last_head = Some(Head {
            epoch: found.epoch.clone(),
            sequence,
        });
        Ok(())
    }

    pub(super) fn has_history(&self) -> bool {
        lock(&self.state).last_head.is_some()
    }

    pub(super) fn doubt_all(&self) {
        self.local().doubt_all();
        self.wake_all();
    }

    /// Puts the removals of the last minute among those that the server has still to take.
    pub(super) fn repeat_removals(&self) {
        let now = self.clock.boot();
        let mut pending = lock(&self.pending);
        for (at, removal) in lock(&self.taken).drain(..) {
            // A purge of everything has begun an epoch, which the server has lost; what it removed is gone with it.
            let repeats = removal != OwnRemoval::Purge(Removal::Everything);
            if repeats && now <= at + REMOVALS_REPEATED_FOR && !pending.contains(&removal) {
                pending.push_back(removal);
            }
        }
    }

    pub(super) fn apply(&self, session: &Session, entries: &[Entry]) {
        for entry in entries {
            match entry.event {
                Event::Stored { place, content } => {
                    let fetched_at = session.time().here(entry.at);
                    self.local().stored_elsewhere(place, content, fetched_at);
                    self.wake(&place);
                }
                Event::Refused { place } => {
                    let until = session.time().here_at_latest(entry.at);
                    self.local().remove_place(place, entry.at, until);
                    self.wake(&place);
                }
                Event::Purged { name } => {
                    let until = session.time().here_at_latest(entry.at);
                    self.local().remove_name(name, entry.at, until);
                }
                Event::Ended { place } => self.wake(&place),
                Event::AllPurged => {
                    self.local().clear();
                    self.wake_all();
                }
            }
        }
    }
}
