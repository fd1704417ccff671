//! The plain model: what the agent holds and remembers, were it as simple as its promises.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kms_agent_cache::Policy;
use kms_agent_cache::policy::ROTATION_JITTER;
use kms_agent_core::{Resumed, SecretId, SecretRef, Timestamp};

use super::world::{Call, Identity, Outcome};

/// Whose copy of what.
pub(super) type Owned = (Identity, SecretRef);

#[derive(Debug, Default)]
pub(super) struct Book {
    copies: BTreeMap<Owned, Copy>,
    /// When KMS last refused something, if it has not given it since.
    refusals: HashMap<Owned, Timestamp>,
    /// What KMS was asked for in vain, and has not answered since; when it was, if it has not answered anything
    /// since.
    failures: HashMap<(Option<Identity>, SecretRef), Option<Timestamp>>,
    /// Whether KMS was asked in vain for anything, and has not answered since.
    is_outage: bool,
    /// As whom something was last stored.
    last_stored_as: Option<Identity>,
    /// As whom the store was used before this process.
    pub(super) resumed: Option<Identity>,
    /// Whether the agent has yet to find out if it is still the same.
    is_resumed_in_doubt: bool,
}

/// An answer that is held.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) text: String,
    pub(super) asked_at: Timestamp,
    rotates_at: Option<Timestamp>,
    /// Not if some rules called it dead: it may have been wiped, and it may not.
    pub(super) is_certain: bool,
    /// It is older than it seems, so it counts as expired.
    pub(super) is_aged: bool,
}

impl Copy {
    /// The bounds of when it expires; what lies between is drawn.
    pub(super) fn fresh_until(&self, policy: &Policy) -> (Timestamp, Timestamp) {
        let by_age = self.asked_at.plus(policy.ttl);
        match self.rotates_at {
            None => (by_age, by_age),
            Some(at) => (by_age.min(at), by_age.min(at.plus(ROTATION_JITTER))),
        }
    }

    /// The bounds of when it dies.
    fn usable_until(&self, policy: &Policy) -> (Timestamp, Timestamp) {
        let (first, last) = self.fresh_until(policy);
        (first.plus(policy.max_stale), last.plus(policy.max_stale))
    }

    /// Whether it must be answered without asking.
    pub(super) fn is_surely_fresh(&self, policy: &Policy, now: Timestamp) -> bool {
        self.is_certain && !self.is_aged && now < self.fresh_until(policy).0
    }

    /// Whether it must stand in for an answer that KMS cannot give.
    pub(super) fn is_surely_usable(&self, policy: &Policy, now: Timestamp) -> bool {
        let is_allowed = !self.is_aged || !policy.max_stale.is_zero();
        self.is_certain && is_allowed && now < self.usable_until(policy).0
    }

    /// Whether it must not be answered at all.
    pub(super) fn is_surely_dead(&self, policy: &Policy, now: Timestamp) -> bool {
        now >= self.usable_until(policy).1
    }
}

impl Book {
    pub(super) fn copy(&self, owned: &Owned) -> Option<&Copy> {
        self.copies.get(owned)
    }

    /// Whether KMS refused this so lately that it must not be asked again.
    pub(super) fn is_refused(&self, owned: &Owned, policy: &Policy, now: Timestamp) -> bool {
        self.refusals
            .get(owned)
            .is_some_and(|at| now < at.plus(policy.negative_ttl))
    }

    /// Whether KMS may be known to be failing for this.
    pub(super) fn is_failing(&self, owned: &Owned) -> bool {
        self.is_outage || self.failed_at(owned).is_some()
    }

    /// Whether KMS was asked for this in vain at this very moment, and must be left alone.
    pub(super) fn is_just_failed(&self, owned: &Owned, now: Timestamp) -> bool {
        self.failed_at(owned) == Some(Some(now))
    }

    #[expect(clippy::option_option, reason = "when, and whether at all")]
    fn failed_at(&self, (identity, secret): &Owned) -> Option<Option<Timestamp>> {
        self.failures
            .get(&(Some(*identity), secret.clone()))
            .copied()
    }

    /// Takes down a call, made while the agent took itself for `identity`. Returns the copy it brought.
    pub(super) fn note(
        &mut self,
        call: &Call,
        identity: Option<Identity>,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<Copy> {
        let owned = (call.identity, call.secret.clone());
        let asked = (identity, call.secret.clone());
        if matches!(call.outcome, Outcome::Failed) {
            self.failures.insert(asked, Some(now));
            self.is_outage = true;
            return None;
        }
        self.failures.remove(&asked);
        self.failures.values_mut().for_each(|at| *at = None);
        self.is_outage = false;
        match &call.outcome {
            Outcome::Value {
                text,
                rotates_after,
            } => {
                self.refusals.remove(&owned);
                if !policy.ttl.is_zero() {
                    let copy = Copy {
                        text: text.clone(),
                        asked_at: now,
                        rotates_at: rotates_after.map(|after| now.plus(after)),
                        is_certain: true,
                        is_aged: false,
                    };
                    self.last_stored_as = Some(call.identity);
                    self.copies.insert(owned, copy.clone());
                    return Some(copy);
                }
            }
            Outcome::Decided => {
                self.copies.remove(&owned);
                self.refusals.insert(owned, now);
            }
            Outcome::Refused | Outcome::Failed => {
                self.refusals.insert(owned, now);
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

    /// New rules: what they call dead may be wiped, even if the next ones would let it live, and what belongs
    /// to another identity too.
    pub(super) fn reload(&mut self, identity: Option<Identity>, policy: &Policy, now: Timestamp) {
        for ((owner, _), copy) in &mut self.copies {
            copy.is_certain &= identity.is_none_or(|identity| identity == *owner)
                && now < copy.usable_until(policy).0;
        }
    }

    /// Another process: what it knows is what the store held.
    pub(super) fn restart(&mut self, is_durable: bool) {
        let before = std::mem::take(self);
        if is_durable {
            self.copies = before.copies;
            self.last_stored_as = before.last_stored_as;
            self.resumed = before.last_stored_as;
            self.is_resumed_in_doubt = true;
        }
    }

    /// What that process makes of the time at its start, by what the last one wrote down before it ended.
    pub(super) fn resume(
        &mut self,
        ended_at: Timestamp,
        last: &Resumed,
        (now, wall): (Timestamp, Timestamp),
    ) {
        let is_behind = wall < last.wall_at;
        assert!(last.written_at <= ended_at, "written before its time");
        assert!(
            is_behind
                || now
                    == last
                        .written_at
                        .max(last.counted_from.plus(wall.since(last.wall_at))),
            "time goes on by the wall clock"
        );
        for copy in self.copies.values_mut() {
            assert!(!copy.is_certain || copy.asked_at <= last.written_at.min(now));
            copy.is_aged = is_behind;
        }
    }

    /// Upkeep: what belongs to another identity than the agent has turned out to have goes, and what is dead.
    /// `held` is what the backend lists after it.
    pub(super) fn upkeep(
        &mut self,
        known: Option<Identity>,
        policy: &Policy,
        now: Timestamp,
        held: &BTreeMap<Owned, Timestamp>,
    ) {
        if let Some((last, known)) = self.resumed.zip(known)
            && std::mem::take(&mut self.is_resumed_in_doubt)
            && last != known
        {
            self.copies.retain(|(identity, _), _| *identity != last);
        }
        self.copies
            .retain(|_, copy| !copy.is_surely_dead(policy, now));
        for (owned, asked_at) in held {
            let copy = self.copies.get(owned);
            let copy = copy.unwrap_or_else(|| panic!("{owned:?} should be gone"));
            assert_eq!(
                copy.asked_at, *asked_at,
                "an older copy of {owned:?} is held"
            );
        }
        self.copies.retain(|owned, copy| {
            let is_held = held.contains_key(owned);
            let may_be_gone = !copy.is_surely_usable(policy, now);
            assert!(is_held || may_be_gone, "{owned:?} is lost");
            copy.is_certain |= is_held && !may_be_gone;
            is_held
        });
    }

    /// How long after it was asked for a copy may be refreshed ahead of its end, at the earliest.
    pub(super) fn refreshed_after(copy: &Copy, policy: &Policy) -> Duration {
        copy.fresh_until(policy)
            .0
            .since(copy.asked_at)
            .mul_f64(0.75)
    }
}
