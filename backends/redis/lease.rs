//! The right to fetch a key: for the fleet, or for this agent alone.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_core::fleet::Lease;
use kms_agent_core::{BackendError, CacheEntry, SecretKey, SourceError, Timestamp};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::journal::{Entry, Event};
use crate::keyring::ServerKeys;
use crate::local::Moment;
use crate::note;
use crate::record::{Mark, content};
use crate::server::{Link, OwnRemoval, Session, Store, Trouble};

/// A fetch that only this agent knows of: the server cannot be used.
pub(crate) struct LocalLease {
    link: Arc<Link>,
    key: SecretKey,
    mark: Moment,
}

/// A fetch that the other agents wait for.
pub(crate) struct SharedLease {
    link: Arc<Link>,
    session: Arc<Session>,
    key: SecretKey,
    keys: ServerKeys,
    id: Mark,
    generation: Vec<u8>,
    mark: Moment,
    /// Ends the renewal of the lease.
    alive: CancellationToken,
    _renewal: DropGuard,
    /// Whether the lease was ended by its outcome.
    is_over: bool,
}

impl LocalLease {
    pub(crate) fn new(link: &Arc<Link>, key: &SecretKey) -> Self {
        Self {
            link: Arc::clone(link),
            key: key.clone(),
            mark: link.local().mark(),
        }
    }
}

#[async_trait]
impl Lease for LocalLease {
    async fn store(self: Box<Self>, entry: CacheEntry) -> Result<bool, BackendError> {
        let held = self.link.local().hold(&self.key, &entry, None, self.mark);
        Ok(held?)
    }

    async fn refuse(
        self: Box<Self>,
        _error: &Arc<SourceError>,
        is_decision: bool,
        _remembered_for: Duration,
    ) {
        if is_decision {
            self.link.local().remove(&self.key);
            // The other agents learn of it once the server can be used.
            let _ = self
                .link
                .remove(OwnRemoval::Decision(self.key.clone()))
                .await;
        }
    }

    async fn discard(self: Box<Self>) {
        self.link.local().remove(&self.key);
        let _ = self
            .link
            .remove(OwnRemoval::Decision(self.key.clone()))
            .await;
    }

    async fn fail(self: Box<Self>, _error: &Arc<SourceError>, _retry_after: Duration) {}
}

impl SharedLease {
    pub(crate) fn new(
        link: &Arc<Link>,
        session: &Arc<Session>,
        key: &SecretKey,
        id: Mark,
        generation: Vec<u8>,
        mark: Moment,
    ) -> Self {
        let alive = CancellationToken::new();
        Self {
            link: Arc::clone(link),
            session: Arc::clone(session),
            key: key.clone(),
            keys: session.keyring.server_keys(&session.epoch, key),
            id,
            generation,
            mark,
            _renewal: alive.clone().drop_guard(),
            alive,
            is_over: false,
        }
    }

    /// Renews the lease each third of its time while it is held.
    pub(crate) fn keep_alive(&self) {
        let (link, session) = (Arc::clone(&self.link), Arc::clone(&self.session));
        let (keys, id, alive) = (self.keys.clone(), self.id, self.alive.clone());
        tokio::spawn(async move {
            loop {
                let due_at = link.clock.boot() + session.lease_time / 3;
                tokio::select! {
                    () = alive.cancelled() => return,
                    () = link.clock.sleep_until(due_at) => {}
                }
                // A lease that is lost shows when its outcome is stored.
                match session.renew(&keys, &id).await {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return,
                }
            }
        });
    }

    /// Ends a lease that is not needed, in the background.
    pub(crate) fn end(mut self) {
        self.end_in_background();
    }

    fn end_in_background(&mut self) {
        self.is_over = true;
        let (link, session) = (Arc::clone(&self.link), Arc::clone(&self.session));
        let (keys, id, key) = (self.keys.clone(), self.id, self.key.clone());
        self.link.writes.spawn(async move {
            finish(&link, &session, &key, session.end(&keys, &id, None)).await;
        });
    }

    fn note(&self, error: &SourceError, lives_for: Duration) -> Option<(Vec<u8>, Duration)> {
        if lives_for.is_zero() {
            return None;
        }
        let sealed = note::seal(
            &self.session.keyring,
            &self.session.epoch,
            &self.generation,
            &self.key,
            error,
            lives_for,
        )?;
        let value = crate::record::stamp(&self.generation, &self.id, &sealed.ok()?);
        Some((value, lives_for))
    }

    /// Removes the record, and leaves a note in its place where there is one.
    async fn remove_for_all(&self, note: Option<(Vec<u8>, Duration)>) {
        let session = &self.session;
        let removal = OwnRemoval::Decision(self.key.clone());
        self.link.local().remove(&self.key);
        let entry = Entry {
            event: Event::Refused {
                place: session.keyring.place_id(&self.key),
            },
            at: self.server_now(),
        };
        let made = async {
            session.decide(&self.keys, note).await?;
            session.append(&entry, self.link.sequence()).await
        };
        match made.await {
            Ok(()) => self.link.note_taken(removal),
            Err(trouble) => {
                self.link.failed(trouble);
                // In a new epoch, or before anything else is read after the reconnection.
                let _ = self.link.remove(removal).await;
            }
        }
    }

    /// Stores the entry on the server and tells the other agents. Returns whether it may be held: not if its key was
    /// removed since the lease began.
    async fn store_for_all(&self, entry: &CacheEntry) -> bool {
        let session = &self.session;
        let now = self.link.now();
        let stored = session
            .store(&self.key, &self.id, &self.generation, entry, now)
            .await;
        let content = content(entry.secret.answer.expose());
        let announcement = Entry {
            event: Event::Stored {
                place: session.keyring.place_id(&self.key),
                content: session.keyring.content_tag(&content),
            },
            at: session.time().on_server(entry.lifetime.fetched_at),
        };
        let may_be_held = match stored {
            Ok(Store::Stored) => {
                self.link.committed(now);
                self.link.announce(&announcement).await;
                return true;
            }
            Ok(Store::Lost | Store::Purged) => false,
            Err(trouble) => {
                self.link.failed(trouble);
                // The server may have taken it all the same.
                self.link.announce(&announcement).await;
                true
            }
        };
        let end = session.end(&self.keys, &self.id, None);
        finish(&self.link, session, &self.key, end).await;
        may_be_held
    }

    fn server_now(&self) -> Timestamp {
        self.session.time().on_server_at_latest(self.link.now())
    }
}

#[async_trait]
impl Lease for SharedLease {
    async fn store(mut self: Box<Self>, entry: CacheEntry) -> Result<bool, BackendError> {
        let fetched_at = entry.lifetime.fetched_at;
        let on_server = self.session.time().on_server(fetched_at);
        let held = {
            let mut local = self.link.local();
            local.hold(&self.key, &entry, Some(on_server), self.mark)
        };
        self.is_over = true;
        if held? {
            let link = Arc::clone(&self.link);
            link.writes.spawn(async move {
                if !self.store_for_all(&entry).await {
                    self.link.local().take_back(&self.key, fetched_at);
                }
            });
            return Ok(true);
        }
        // A removal at about the time of the question: the server knows which of both came first.
        if !self.store_for_all(&entry).await {
            return Ok(false);
        }
        let mark = self.link.local().mark();
        if !self.link.is_in_epoch(&self.session.epoch) {
            return Ok(false);
        }
        let mut local = self.link.local();
        Ok(local.hold(&self.key, &entry, Some(on_server), mark)?)
    }

    async fn refuse(
        mut self: Box<Self>,
        error: &Arc<SourceError>,
        is_decision: bool,
        remembered_for: Duration,
    ) {
        self.is_over = true;
        let note = self.note(error, remembered_for);
        let session = &self.session;
        if !is_decision {
            let end = session.end(&self.keys, &self.id, note);
            finish(&self.link, session, &self.key, end).await;
            return;
        }
        self.remove_for_all(note).await;
    }

    async fn discard(mut self: Box<Self>) {
        self.is_over = true;
        self.remove_for_all(None).await;
    }

    async fn fail(mut self: Box<Self>, error: &Arc<SourceError>, retry_after: Duration) {
        self.is_over = true;
        let note = self.note(error, retry_after);
        let session = &self.session;
        let end = session.end(&self.keys, &self.id, note);
        finish(&self.link, session, &self.key, end).await;
    }
}

/// Ends a lease by `end` and tells those who wait for it.
async fn finish(
    link: &Link,
    session: &Session,
    key: &SecretKey,
    end: impl Future<Output = Result<(), Trouble>>,
) {
    if let Err(trouble) = end.await {
        link.failed(trouble);
        return;
    }
    let entry = Entry {
        event: Event::Ended {
            place: session.keyring.place_id(key),
        },
        at: session.time().on_server(link.now()),
    };
    link.announce(&entry).await;
}

impl Drop for SharedLease {
    fn drop(&mut self) {
        if !self.is_over {
            self.end_in_background();
        }
    }
}

impl fmt::Debug for SharedLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedLease")
    }
}

impl fmt::Debug for LocalLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalLease")
    }
}
