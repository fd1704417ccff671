//! The task behind the watchers of one secret.

use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::Backoff;
use kms_agent_core::secret::{SecretKey, SecretRef};
use kms_agent_core::source::{Purpose, SourceError, SourceErrorKind};

use super::{SecretService, key_in};
use crate::policy::Freshness;
use crate::upstream::single_flight::Join;
use crate::watch::{WatchState, WatchedSecret};

const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Outcome of a check.
enum Checked {
    /// The state is as KMS or the cache has it.
    Done,
    /// KMS could not be asked.
    Failed,
}

impl SecretService {
    /// Checks `secret` until its last watcher leaves.
    pub(crate) async fn keep_watching(
        self: Arc<Self>,
        secret: SecretRef,
        watched: Arc<WatchedSecret>,
    ) {
        loop {
            // A task of its own, so that a panic in it is followed by another try.
            let service = Arc::clone(&self);
            let (of_task, task_state) = (secret.clone(), Arc::clone(&watched));
            let mut task =
                tokio::spawn(async move { service.check_in_turn(&of_task, &task_state).await });
            tokio::select! {
                _ = &mut task => self.timeline.sleep(FIRST_PAUSE).await,
                () = watched.abandoned() => task.abort(),
            }
            if self.watches.end(&secret) {
                return;
            }
        }
    }

    /// Checks `secret` whenever a check is due.
    async fn check_in_turn(self: &Arc<Self>, secret: &SecretRef, watched: &WatchedSecret) {
        let mut failures = 0;
        loop {
            let every = self.policy.load().general.watch_every;
            let now = self.timeline.now();
            let due_at = watched.known().due_at(every).unwrap_or(now);
            let mut pause = due_at.since(now);
            if pause.is_zero() {
                match self.check(secret, watched).await {
                    Checked::Done => {
                        failures = 0;
                        continue;
                    }
                    Checked::Failed => {
                        pause = Backoff::new(FIRST_PAUSE, every).pause(failures);
                        failures += 1;
                    }
                }
            }
            tokio::select! {
                () = self.timeline.sleep(pause) => {}
                () = watched.woken() => {}
            }
        }
    }

    async fn check(self: &Arc<Self>, secret: &SecretRef, watched: &WatchedSecret) -> Checked {
        let arrived_at = self.boot();
        let mut scope = self.scope();
        if scope.is_none() {
            let source = self.source.load_full();
            source.learn_scope(arrived_at).await;
            scope = self.scope();
        }
        let is_known = scope.is_some();
        let key = key_in(scope, secret.clone());
        let known = watched.known();
        // A state that a failure of KMS leaves in force.
        let mut fallback = match watched.state() {
            state @ WatchState::Version(_) => Some(state),
            _ => None,
        };
        if is_known && !known.is_outdated() {
            let now = self.timeline.now();
            if let Some(entry) = self.entry(&key, now).await {
                let lifetime = entry.lifetime;
                match self.judge(self.policy.load().of(&secret.id), &lifetime, now) {
                    Freshness::Fresh { .. }
                        if known.asked_at.is_none_or(|at| at < lifetime.fetched_at) =>
                    {
                        let version = &entry.secret.version_id;
                        watched.note(version, lifetime.fetched_at, lifetime.rotates_at);
                        return Checked::Done;
                    }
                    Freshness::Dead => {}
                    _ => {
                        fallback.get_or_insert(WatchState::Version(entry.secret.version_id));
                    }
                }
            }
        }
        if let Some(refusal) = self.recall(&key, &self.policy.load().general) {
            watched.note_answered(&known);
            watched.note_refusal(&refusal, self.timeline.now());
            return Checked::Done;
        }
        if let Some(fallback) = &fallback
            && let Some(standing) = self.outage.standing(&key, self.boot())
            && !standing.retry
        {
            watched.set(fallback.clone());
            return Checked::Failed;
        }
        let join = if known.is_outdated() {
            Join::Next
        } else {
            Join::Any
        };
        match self.ask_for_watch(key, join, arrived_at).await {
            Err(error) if error.kind().is_transient() => {
                match fallback {
                    Some(fallback) => watched.set(fallback),
                    // Others go first; the next try comes soon.
                    None if error.kind() == SourceErrorKind::BudgetSpent => {}
                    None => watched.set(WatchState::Unavailable(error)),
                }
                Checked::Failed
            }
            // The fetch itself has noted the answer.
            Ok(()) | Err(_) => {
                watched.note_answered(&known);
                Checked::Done
            }
        }
    }

    async fn ask_for_watch(
        self: &Arc<Self>,
        key: SecretKey,
        join: Join,
        arrived_at: Duration,
    ) -> Result<(), Arc<SourceError>> {
        let waiter = self.join(key, Purpose::Watch, join, arrived_at);
        match waiter.outcome().await {
            Some(outcome) => outcome.map(drop),
            None => Err(super::read::crashed()),
        }
    }
}
