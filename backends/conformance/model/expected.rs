//! The plain model: copies, refusals and failures that the agent must hold and remember.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kms_agent_cache::Policy;
use kms_agent_cache::policy::ROTATION_JITTER;
use kms_agent_core::{Resumed, SecretId, SecretRef, Timestamp};

use super::fake_kms::{Identity, KmsCall, KmsOutcome};

/// Identity that read a secret, and the secret.
pub(super) type CopyKey = (Identity, SecretRef);

#[derive(Debug, Default)]
pub(super) struct Expected {
    copies: BTreeMap<CopyKey, HeldCopy>,
    /// Time of the last refusal of each secret that KMS has not given since.
    refusals: HashMap<CopyKey, Timestamp>,
    /// Failed calls, by secret, until KMS answers for that secret. The time is dropped once KMS answers anything.
    failures: HashMap<(Option<Identity>, SecretRef), Option<Timestamp>>,
    /// Whether the last call failed.
    is_outage: bool,
    /// Identity under which an entry was last stored.
    last_stored_as: Option<Identity>,
    /// Identity of the previous process.
    pub(super) resumed: Option<Identity>,
    /// Whether the agent has yet to compare its identity with `resumed`.
    is_resumed_in_doubt: bool,
}

/// A cached answer.
#[derive(Clone, Debug)]
pub(super) struct HeldCopy {
    pub(super) text: String,
    pub(super) asked_at: Timestamp,
    rotates_at: Option<Timestamp>,
    /// False if an earlier policy called it dead: it may have been wiped.
    pub(super) is_certain: bool,
    /// Whether it is older than its time says, so that it counts as expired.
    pub(super) is_aged: bool,
}

impl HeldCopy {
    /// Bounds of its expiry; the jitter between them is random.
    pub(super) fn fresh_until(&self, policy: &Policy) -> (Timestamp, Timestamp) {
        let by_age = self.asked_at.plus(policy.ttl);
        match self.rotates_at {
            None => (by_age, by_age),
            Some(at) => (by_age.min(at), by_age.min(at.plus(ROTATION_JITTER))),
        }
    }

    /// Bounds of the time after which it is dead.
    fn usable_until(&self, policy: &Policy) -> (Timestamp, Timestamp) {
        let (first, last) = self.fresh_until(policy);
        (first.plus(policy.max_stale), last.plus(policy.max_stale))
    }

    /// Whether it must be answered without a call.
    pub(super) fn is_surely_fresh(&self, policy: &Policy, now: Timestamp) -> bool {
        self.is_certain && !self.is_aged && now < self.fresh_until(policy).0
    }

    /// Whether it must be served while KMS fails.
    pub(super) fn is_surely_usable(&self, policy: &Policy, now: Timestamp) -> bool {
        let is_allowed = !self.is_aged || !policy.max_stale.is_zero();
        self.is_certain && is_allowed && now < self.usable_until(policy).0
    }

    /// Whether it must not be served at all.
    pub(super) fn is_surely_dead(&self, policy: &Policy, now: Timestamp) -> bool {
        now >= self.usable_until(policy).1
    }
}

impl Expected {
    pub(super) fn copy(&self, key: &CopyKey) -> Option<&HeldCopy> {
        self.copies.get(key)
    }

    /// Whether KMS refused this so recently that it must not be called.
    pub(super) fn is_refused(&self, key: &CopyKey, policy: &Policy, now: Timestamp) -> bool {
        self.refusals
            .get(key)
            .is_some_and(|at| now < at.plus(policy.negative_ttl))
    }

    /// Whether KMS may be known to be failing for this.
    pub(super) fn is_failing(&self, key: &CopyKey) -> bool {
        self.is_outage || self.failed_at(key).is_some()
    }

    /// Whether a call for this failed at `now`, so that no other is allowed yet.
    pub(super) fn is_just_failed(&self, key: &CopyKey, now: Timestamp) -> bool {
        self.failed_at(key) == Some(Some(now))
    }

    #[expect(
        clippy::option_option,
        reason = "the outer says whether it failed, the inner when"
    )]
    fn failed_at(&self, (identity, secret): &CopyKey) -> Option<Option<Timestamp>> {
        self.failures
            .get(&(Some(*identity), secret.clone()))
            .copied()
    }

    /// Records a call that the agent made with `identity` as its own. Returns the copy that it brought.
    pub(super) fn record(
        &mut self,
        call: &KmsCall,
        identity: Option<Identity>,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<HeldCopy> {
        let key = (call.identity, call.secret.clone());
        let asked = (identity, call.secret.clone());
        if matches!(call.outcome, KmsOutcome::Failed) {
            self.failures.insert(asked, Some(now));
            self.is_outage = true;
            return None;
        }
        self.failures.remove(&asked);
        self.failures.values_mut().for_each(|at| *at = None);
        self.is_outage = false;
        match &call.outcome {
            KmsOutcome::Value {
                text,
                rotates_after,
            } => {
                self.refusals.remove(&key);
                if !policy.ttl.is_zero() {
                    let copy = HeldCopy {
                        text: text.clone(),
                        asked_at: now,
                        rotates_at: rotates_after.map(|after| now.plus(after)),
                        is_certain: true,
                        is_aged: false,
                    };
                    self.last_stored_as = Some(call.identity);
                    self.copies.insert(key, copy.clone());
                    return Some(copy);
                }
            }
            KmsOutcome::Decided => {
                self.copies.remove(&key);
                self.refusals.insert(key, now);
            }
            KmsOutcome::Refused | KmsOutcome::Failed => {
                self.refusals.insert(key, now);
            }
        }
        None
    }

    pub(super) fn purge(&mut self, id: &SecretId) {
        self.copies.retain(|(_, secret), _| secret.id != *id);
        self.refusals.retain(|(_, secret), _| secret.id != *id);
    }

    pub(super) fn purge_all(&mut self) {
        self.copies.clear();
        self.refusals.clear();
        self.last_stored_as = None;
    }

    /// Applies another policy. Copies that it calls dead may be wiped, even if a later policy would keep them, and
    /// so may copies of another identity.
    pub(super) fn reload(&mut self, identity: Option<Identity>, policy: &Policy, now: Timestamp) {
        for ((owner, _), copy) in &mut self.copies {
            copy.is_certain &= identity.is_none_or(|identity| identity == *owner)
                && now < copy.usable_until(policy).0;
        }
    }

    /// Starts another process, which knows only what the store held.
    pub(super) fn restart(&mut self, is_durable: bool) {
        let before = std::mem::take(self);
        if is_durable {
            self.copies = before.copies;
            self.last_stored_as = before.last_stored_as;
            self.resumed = before.last_stored_as;
            self.is_resumed_in_doubt = true;
        }
    }

    /// Checks the time of that process at startup against the last record of the previous process.
    pub(super) fn resume(
        &mut self,
        ended_at: Timestamp,
        last: &Resumed,
        (now, wall): (Timestamp, Timestamp),
    ) {
        let is_behind = wall < last.wall_at;
        assert!(last.written_at <= ended_at, "the record is from the future");
        assert!(
            is_behind
                || now
                    == last
                        .written_at
                        .max(last.counted_from.plus(wall.since(last.wall_at))),
            "time continues by the wall clock"
        );
        for copy in self.copies.values_mut() {
            assert!(!copy.is_certain || copy.asked_at <= last.written_at.min(now));
            copy.is_aged = is_behind;
        }
    }

    /// Maintenance: drops dead copies and, once the agent has learnt its identity, those of another. `held` is the
    /// backend's list afterwards.
    pub(super) fn maintenance(
        &mut self,
        known: Option<Identity>,
        policy: &Policy,
        now: Timestamp,
        held: &BTreeMap<CopyKey, Timestamp>,
    ) {
        if let Some((last, known)) = self.resumed.zip(known)
            && std::mem::take(&mut self.is_resumed_in_doubt)
            && last != known
        {
            self.copies.retain(|(identity, _), _| *identity != last);
        }
        self.copies
            .retain(|_, copy| !copy.is_surely_dead(policy, now));
        for (key, asked_at) in held {
            let copy = self.copies.get(key);
            let copy = copy.unwrap_or_else(|| panic!("{key:?} should be gone"));
            assert_eq!(copy.asked_at, *asked_at, "an older copy of {key:?} is held");
        }
        self.copies.retain(|key, copy| {
            let is_held = held.contains_key(key);
            let may_be_gone = !copy.is_surely_usable(policy, now);
            assert!(is_held || may_be_gone, "{key:?} is lost");
            copy.is_certain |= is_held && !may_be_gone;
            is_held
        });
    }

    /// Age from which a copy may be refreshed ahead of its expiry.
    pub(super) fn refreshed_after(copy: &HeldCopy, policy: &Policy) -> Duration {
        copy.fresh_until(policy)
            .0
            .since(copy.asked_at)
            .mul_f64(0.75)
    }
}
