//! Removals and announcements of this agent, until the server has taken them.

use std::time::Duration;

use kms_agent_core::Removal;

use super::{Link, OwnRemoval, lock};
use crate::journal::Entry;
use crate::journal::Event;
use crate::key::FleetKey;
use crate::server::session::Session;
use crate::server::trouble::Trouble;
use crate::server::trouble::TroubleKind;

/// Removals of this agent that are repeated after the server lost writes.
const REMOVALS_REPEATED_FOR: Duration = Duration::from_mins(1);

/// Longest wait of a removal for an epoch that another agent has begun.
const EPOCH_PATIENCE: Duration = Duration::from_secs(2);

/// Pause between two attempts in that time.
const EPOCH_PAUSE: Duration = Duration::from_millis(20);

/// Removals that wait for a server; older ones give way to a purge of everything.
const MAX_PENDING: usize = 10_000;

impl Link {
    /// Appends an entry to the journal, or keeps it until the server can be used: the other agents must learn that
    /// their copies may be old. In a new epoch too, whose records do not have it.
    pub(crate) async fn announce(&self, entry: &Entry) {
        let deadline = self.clock.boot() + EPOCH_PATIENCE;
        loop {
            let Some(session) = self.session() else {
                break;
            };
            let Err(trouble) = session.append(entry, self.sequence()).await else {
                return;
            };
            let epoch_changed = trouble.kind == TroubleKind::EpochChanged;
            self.failed(trouble);
            let now = self.clock.boot();
            if !epoch_changed || now >= deadline {
                break;
            }
            self.clock.sleep_until(now + EPOCH_PAUSE).await;
        }
        let mut unannounced = lock(&self.unannounced);
        if unannounced.len() == MAX_PENDING {
            unannounced.pop_front();
        }
        unannounced.push_back(*entry);
    }

    /// Makes a removal on the server, or keeps it until the server can be used. Returns why it was not taken.
    pub(crate) async fn remove(&self, removal: OwnRemoval) -> Result<(), Option<Trouble>> {
        let deadline = self.clock.boot() + EPOCH_PATIENCE;
        loop {
            let Some(session) = self.session() else {
                self.keep(removal);
                return Err(None);
            };
            let Err(trouble) = self.make(&session, &removal).await else {
                return Ok(());
            };
            self.failed(trouble.clone());
            let now = self.clock.boot();
            if trouble.kind != TroubleKind::EpochChanged || now >= deadline {
                self.keep(removal);
                return Err(Some(trouble));
            }
            self.clock.sleep_until(now + EPOCH_PAUSE).await;
        }
    }

    /// Takes a removal that the server took off the list of those that wait.
    pub(super) fn settle(&self, removal: &OwnRemoval) {
        let mut pending = lock(&self.pending);
        if let Some(at) = pending.iter().position(|it| it == removal) {
            pending.remove(at);
        }
    }

    /// Keeps a removal until the server takes it.
    pub(super) fn keep(&self, removal: OwnRemoval) {
        let mut pending = lock(&self.pending);
        if pending.len() == MAX_PENDING {
            pending.clear();
            pending.push_back(OwnRemoval::Purge(Removal::Everything));
        }
        pending.push_back(removal);
    }

    pub(super) async fn make(
        &self,
        session: &Session,
        removal: &OwnRemoval,
    ) -> Result<(), Trouble> {
        // What was fetched up to this moment goes, by the clock of every agent.
        let at = session.time().on_server_at_latest(self.now());
        let near = self.sequence();
        match removal {
            OwnRemoval::Purge(Removal::Name(name)) => {
                session.purge(name).await?;
                let name = session.keyring.name_id(name);
                let event = Event::Purged { name };
                session.append(&Entry { event, at }, near).await?;
            }
            OwnRemoval::Purge(Removal::Everything) => {
                if session.purge_all(at).await?.is_none() {
                    return Err(Trouble::new(
                        TroubleKind::EpochChanged,
                        "another agent purges everything at the same time",
                    ));
                }
                // A new key too, where KMS makes them. The epoch alone removes all entries.
                let rotated = self
                    .key
                    .rotate(&session.connection, &self.prefix, session.timeout)
                    .await;
                if let Err(error) = rotated {
                    tracing::warn!(
                        %error,
                        "Everything was purged, but no new data key was created; purge again to create one"
                    );
                } else if matches!(self.key, FleetKey::Kms(_)) {
                    lock(&self.state).session = None;
                }
                // The next reading of the journal finds the new epoch.
                self.broken.notify_one();
            }
            OwnRemoval::Decision(key) => {
                let keys = session.keyring.server_keys(&session.epoch, key);
                session.decide(&keys, None).await?;
                let place = session.keyring.place_id(key);
                let event = Event::Refused { place };
                session.append(&Entry { event, at }, near).await?;
            }
        }
        self.note_taken(removal.clone());
        Ok(())
    }

    /// Remembers a removal that the server took, to be repeated should it lose it.
    pub(crate) fn note_taken(&self, removal: OwnRemoval) {
        let now = self.clock.boot();
        let mut taken = lock(&self.taken);
        while taken
            .front()
            .is_some_and(|(at, _)| now > *at + REMOVALS_REPEATED_FOR)
        {
            taken.pop_front();
        }
        taken.push_back((now, removal));
        self.committed(self.now());
    }

    /// Makes the removals and announcements that the server has not taken, before anything else is read.
    pub(super) async fn make_up(&self, session: &Session) -> Result<(), Trouble> {
        loop {
            let removal = lock(&self.pending).front().cloned();
            let Some(removal) = removal else {
                break;
            };
            self.make(session, &removal).await?;
            self.settle(&removal);
            if removal == OwnRemoval::Purge(Removal::Everything) {
                // The rest belongs to the epoch that this began.
                return Err(Trouble::new(
                    TroubleKind::EpochChanged,
                    "this agent purged everything",
                ));
            }
        }
        loop {
            let entry = lock(&self.unannounced).front().copied();
            let Some(entry) = entry else {
                return Ok(());
            };
            session.append(&entry, self.sequence()).await?;
            lock(&self.unannounced).pop_front();
        }
    }
}
