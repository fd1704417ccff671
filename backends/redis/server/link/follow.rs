//! The task that connects, reads the journal again and again, and connects again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kms_agent_core::Backoff;

use super::{Link, lock};
use crate::key::FleetKey;
use crate::keyring::Keyring;
use crate::server::connection::Connection;
use crate::server::session::Session;
use crate::server::session::begin_journal;
use crate::server::session::head;
use crate::server::trouble::Trouble;
use crate::server::trouble::TroubleKind;

/// Pause between two readings of the journal.
const POLL_EVERY: Duration = Duration::from_millis(700);

/// The same while a reader waits for another agent.
const POLL_WHILE_WAITING: Duration = Duration::from_millis(200);

const RECONNECT: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));

impl Link {
    /// Follows the server until the agent stops.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            match self.connect().await {
                Ok(session) => {
                    failures = 0;
                    self.publish(session);
                    let trouble = self.poll().await;
                    lock(&self.state).session = None;
                    if trouble.kind == TroubleKind::KeyChanged {
                        continue;
                    }
                    self.note_trouble(trouble);
                }
                Err(trouble) if trouble.kind == TroubleKind::EpochChanged => continue,
                Err(trouble) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    self.note_trouble(trouble);
                }
            }
            let pause = RECONNECT.pause(failures);
            failures = failures.saturating_add(1);
            self.clock.sleep_until(self.clock.boot() + pause).await;
        }
    }

    pub(super) async fn keyring(
        &self,
        connection: &Connection,
        timeout: Duration,
    ) -> Result<Arc<Keyring>, Trouble> {
        let known = lock(&self.state).keyring.clone();
        if let (Some(keyring), FleetKey::File(_)) = (&known, &self.key) {
            return Ok(Arc::clone(keyring));
        }
        let keyring = self.key.keyring(connection, &self.prefix, timeout).await?;
        if known.is_some_and(|known| Arc::ptr_eq(&known, &keyring)) {
            return Ok(keyring);
        }
        let replaced = lock(&self.state)
            .keyring
            .replace(Arc::clone(&keyring))
            .is_some();
        if replaced {
            // Entries of the other key are no longer the fleet's.
            self.local().clear();
            lock(&self.state).last_head = None;
        }
        self.local().adopt(Arc::clone(&keyring));
        tracing::info!("The key of the shared cache was read");
        Ok(keyring)
    }

    /// Connects, repeats removals, and catches up with the journal.
    pub(super) async fn connect(&self) -> Result<Session, Trouble> {
        let known = lock(&self.state).keyring.clone();
        if let (FleetKey::File(source), None) = (&self.key, known) {
            // Without the key no server is bothered.
            let source = source.clone();
            let found = kms_agent_core::run_blocking(move || source.load().map(drop)).await;
            if let Ok(Err(error)) = found {
                return Err(Trouble::new(TroubleKind::KeyMissing, error.message()));
            }
        }
        let connection = self.settings.connect(&self.clock).await?;
        let timeout = self.settings.timeout.max(Duration::from_secs(1));
        let keyring = self.keyring(&connection, timeout).await?;
        let time = self.read_time(&connection, &keyring, timeout, None).await?;
        let found = head(&connection, &keyring, timeout).await?;
        let found = if let Some(found) = found {
            found
        } else {
            begin_journal(&connection, &keyring, timeout).await?;
            head(&connection, &keyring, timeout)
                .await?
                .ok_or_else(|| Trouble::unexpected("GET of the journal"))?
        };
        let before = lock(&self.state).last_head.clone();
        let session = Session {
            connection,
            keyring,
            epoch: found.epoch.clone(),
            server_clock: time,
            origin: Arc::clone(&self.origin),
            timeout: self.settings.timeout,
            lease_time: self.lease_time,
        };
        self.catch_up(&session, before, &found).await?;
        self.make_up(&session).await?;
        Ok(session)
    }

    pub(super) fn publish(&self, session: Session) {
        let mut state = lock(&self.state);
        state.session = Some(Arc::new(session));
        state.polled_at = self.clock.boot();
        let had_trouble = state.trouble.take().is_some();
        drop(state);
        self.connected_once.send_replace(true);
        self.wake_all();
        if had_trouble {
            tracing::info!("The shared cache server works again");
        } else {
            tracing::info!("Connected to the shared cache server");
        }
    }

    /// Reads the journal again and again. Returns why it cannot be read any more.
    pub(super) async fn poll(&self) -> Trouble {
        let mut polls: u32 = 0;
        loop {
            let pause = if lock(&self.waiting).is_empty() {
                POLL_EVERY
            } else {
                POLL_WHILE_WAITING
            };
            let due_at = self.clock.boot() + pause;
            tokio::select! {
                () = self.clock.sleep_until(due_at) => {}
                () = self.broken.notified() => {}
            }
            let session = match self.current() {
                Ok(session) => session,
                Err(trouble) => return trouble,
            };
            polls = polls.wrapping_add(1);
            if let Err(trouble) = self.read_journal(&session, polls).await {
                if trouble.kind == TroubleKind::EpochChanged {
                    continue;
                }
                self.failures.fetch_add(1, Ordering::Relaxed);
                return trouble;
            }
        }
    }

    /// Returns the session, or why a call ended it.
    pub(super) fn current(&self) -> Result<Arc<Session>, Trouble> {
        let state = lock(&self.state);
        state.session.clone().ok_or_else(|| {
            let trouble = state.trouble.clone();
            trouble.unwrap_or_else(|| Trouble::new(TroubleKind::KeyChanged, "the session ended"))
        })
    }
}
