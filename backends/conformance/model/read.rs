//! Judgement of the answers that readers get.

use std::sync::Arc;
use std::time::Duration;

use kms_agent_cache::{Answer, CacheStatus, Demand, Policy};
use kms_agent_core::{SecretRef, SourceError, Timestamp};

use super::expected::{CopyKey, Expected, HeldCopy};
use super::fake_kms::{KmsCall, KmsOutcome};

/// A read, with everything that its answer is judged by.
#[derive(Debug)]
pub(super) struct Read<'a> {
    pub(super) secret: &'a SecretRef,
    pub(super) demand: Demand,
    pub(super) readers: usize,
    pub(super) policy: &'a Policy,
    pub(super) now: Timestamp,
    /// Copy that was cached before the read.
    pub(super) copy: Option<HeldCopy>,
    /// Copies that the read brought into the cache.
    pub(super) fetched: Vec<HeldCopy>,
    /// Calls that were made for the read.
    pub(super) calls: Vec<KmsCall>,
    /// Whether KMS was known to fail.
    pub(super) was_failing: bool,
    /// Whether KMS was known to have failed at this moment.
    pub(super) was_just_failing: bool,
    /// Whether a refusal was remembered.
    pub(super) was_refused: bool,
}

impl<'a> Read<'a> {
    pub(super) fn begin(
        expected: &Expected,
        secret: &'a SecretRef,
        (demand, readers): (Demand, usize),
        (policy, now): (&'a Policy, Timestamp),
        key: Option<&CopyKey>,
    ) -> Self {
        let is = |known: &dyn Fn(&CopyKey) -> bool| key.is_some_and(known);
        Self {
            secret,
            demand,
            readers,
            policy,
            now,
            copy: key
                .and_then(|key| expected.copy(key))
                // With a TTL of zero the cache is not read.
                .filter(|copy| !policy.ttl.is_zero() && !copy.is_surely_dead(policy, now))
                .cloned(),
            fetched: Vec::new(),
            calls: Vec::new(),
            was_failing: is(&|key| expected.is_failing(key)),
            was_just_failing: is(&|key| expected.is_just_failed(key, now)),
            was_refused: is(&|key| expected.is_refused(key, policy, now)),
        }
    }

    /// Checks that no more calls were made than allowed.
    pub(super) fn judge_calls(&self) {
        let count = self.calls.len();
        assert!(self.calls.iter().all(|call| call.secret == *self.secret));
        let may_be_refreshed = |copy: &HeldCopy| {
            self.policy.refresh_ahead
                && self.now
                    >= copy
                        .asked_at
                        .plus(Expected::refreshed_after(copy, self.policy))
        };
        let copy = self.copy.as_ref();
        let fresh = copy.filter(|copy| copy.is_surely_fresh(self.policy, self.now));
        let usable = copy
            .filter(|copy| self.policy.serve_stale && copy.is_surely_usable(self.policy, self.now));
        let most = match self.demand {
            // One call may be under way already, and one begins afterwards.
            Demand::RefreshNow => self.readers.min(2),
            Demand::Any if fresh.is_some_and(|copy| !may_be_refreshed(copy)) => 0,
            Demand::Any if self.was_refused => 0,
            Demand::Any if fresh.or(usable).is_some() && self.was_just_failing => 0,
            Demand::Any => 1,
        };
        // Without a trace in the cache the next reader causes another call.
        let leaves_trace = |call: &&KmsCall| match call.outcome {
            KmsOutcome::Value { .. } => !self.policy.ttl.is_zero(),
            KmsOutcome::Decided | KmsOutcome::Refused => !self.policy.negative_ttl.is_zero(),
            KmsOutcome::Failed => usable.is_some(),
        };
        let traces = self.calls.iter().filter(leaves_trace).count();
        let is_allowed = traces <= most && count <= most * self.readers;
        assert!(
            is_allowed,
            "at most {most} of these calls are allowed: {:?}",
            self.calls
        );
    }

    pub(super) fn judge(&self, result: &Result<Answer, Arc<SourceError>>) {
        match result {
            Ok(answer) => self.judge_answer(answer),
            Err(error) => self.judge_error(error),
        }
    }

    fn judge_answer(&self, answer: &Answer) {
        if let Some(wanted) = self.secret.selector.version_id() {
            assert_eq!(&*answer.secret.version_id, wanted, "another version");
        }
        let text = std::str::from_utf8(answer.secret.answer.expose()).expect("text");
        if let CacheStatus::Forwarded { .. } = answer.status {
            return self.judge_forwarded(answer, text);
        }
        let copy = self
            .copy
            .iter()
            .chain(&self.fetched)
            .find(|copy| copy.text == text)
            .unwrap_or_else(|| panic!("{text} is not what should be held"));
        let (first, last) = copy.fresh_until(self.policy);
        assert_eq!(answer.age, self.now.since(copy.asked_at), "the true age");
        assert_eq!(
            self.demand,
            Demand::Any,
            "RefreshNow was answered from the cache"
        );
        match &answer.status {
            CacheStatus::Hit { left } => {
                assert!(!copy.is_aged, "fresh, although its age is unknown");
                assert!(self.now < last, "fresh for longer than its TTL");
                let bounds = first.since(self.now)..=last.since(self.now);
                assert!(bounds.contains(left), "fresh for {left:?} more");
            }
            CacheStatus::Stale { since, .. } => {
                assert!(self.policy.serve_stale, "a stale answer is forbidden");
                assert!(
                    self.now >= first || copy.is_aged,
                    "a fresh copy is marked stale"
                );
                let bounds = self.now.since(last)..=self.now.since(first);
                assert!(bounds.contains(since), "stale for {since:?}");
                assert!(*since < self.policy.max_stale, "past the hard limit");
                assert!(self.was_failing || self.has_failed(), "KMS does not fail");
            }
            CacheStatus::Forwarded { .. } => {}
        }
    }

    /// Checks an answer that comes straight from KMS.
    fn judge_forwarded(&self, answer: &Answer, text: &str) {
        assert_eq!(answer.age, Duration::ZERO);
        let is_said = |call: &KmsCall| matches!(&call.outcome, KmsOutcome::Value { text: said, .. } if said == text);
        assert!(self.calls.iter().any(is_said), "KMS did not say {text}");
    }

    fn judge_error(&self, error: &SourceError) {
        if self.demand == Demand::Any
            && let Some(copy) = &self.copy
        {
            assert!(
                !copy.is_surely_fresh(self.policy, self.now),
                "a fresh copy was not served: {error}"
            );
            let stands_in = self.policy.serve_stale
                && error.kind().is_transient()
                && copy.is_surely_usable(self.policy, self.now);
            assert!(!stands_in, "a usable stale copy was not served: {error}");
        }
        if error.kind().is_transient() {
            assert!(self.has_failed(), "a failure was served from memory");
        } else {
            let refuses =
                |call: &KmsCall| matches!(call.outcome, KmsOutcome::Decided | KmsOutcome::Refused);
            let is_remembered = self.was_refused && self.demand == Demand::Any;
            assert!(
                is_remembered || self.calls.iter().any(refuses),
                "a refusal outlived its time: {error}"
            );
        }
    }

    fn has_failed(&self) -> bool {
        let fails = |call: &KmsCall| matches!(call.outcome, KmsOutcome::Failed);
        self.calls.iter().any(fails)
    }
}
