//! What readers may be told.

use std::sync::Arc;
use std::time::Duration;

use kms_agent_cache::{Answer, CacheStatus, Demand, Policy};
use kms_agent_core::{SecretRef, SourceError, Timestamp};

use super::book::{Book, Copy, Owned};
use super::world::{Call, Outcome};

/// A read, and all there is to judge it by.
#[derive(Debug)]
pub(super) struct Read<'a> {
    pub(super) secret: &'a SecretRef,
    pub(super) demand: Demand,
    pub(super) readers: usize,
    pub(super) policy: &'a Policy,
    pub(super) now: Timestamp,
    /// What was held before.
    pub(super) copy: Option<Copy>,
    /// What it brought into the cache.
    pub(super) fetched: Vec<Copy>,
    /// The calls that were made for it.
    pub(super) calls: Vec<Call>,
    /// Whether KMS was known to fail.
    pub(super) was_failing: bool,
    /// Whether it was known to have failed at this very moment.
    pub(super) was_just_failing: bool,
    /// Whether a refusal was remembered.
    pub(super) was_refused: bool,
}

impl<'a> Read<'a> {
    pub(super) fn begin(
        book: &Book,
        secret: &'a SecretRef,
        (demand, readers): (Demand, usize),
        (policy, now): (&'a Policy, Timestamp),
        owned: Option<&Owned>,
    ) -> Self {
        let is = |known: &dyn Fn(&Owned) -> bool| owned.is_some_and(known);
        Self {
            secret,
            demand,
            readers,
            policy,
            now,
            copy: owned
                .and_then(|owned| book.copy(owned))
                // Nothing is read from the cache where nothing is to be stored.
                .filter(|copy| !policy.ttl.is_zero() && !copy.is_surely_dead(policy, now))
                .cloned(),
            fetched: Vec::new(),
            calls: Vec::new(),
            was_failing: is(&|owned| book.is_failing(owned)),
            was_just_failing: is(&|owned| book.is_just_failed(owned, now)),
            was_refused: is(&|owned| book.is_refused(owned, policy, now)),
        }
    }

    /// Never more calls than allowed.
    pub(super) fn judge_calls(&self) {
        let count = self.calls.len();
        assert!(self.calls.iter().all(|call| call.secret == *self.secret));
        let may_be_refreshed = |copy: &Copy| {
            self.policy.refresh_ahead
                && self.now >= copy.asked_at.plus(Book::refreshed_after(copy, self.policy))
        };
        let copy = self.copy.as_ref();
        let fresh = copy.filter(|copy| copy.is_surely_fresh(self.policy, self.now));
        let usable = copy
            .filter(|copy| self.policy.serve_stale && copy.is_surely_usable(self.policy, self.now));
        let most = match self.demand {
            // One that may be under way already, and one that begins afterwards.
            Demand::RefreshNow => self.readers.min(2),
            Demand::Any if fresh.is_some_and(|copy| !may_be_refreshed(copy)) => 0,
            Demand::Any if self.was_refused => 0,
            Demand::Any if fresh.or(usable).is_some() && self.was_just_failing => 0,
            Demand::Any => 1,
        };
        // What leaves no trace is asked for again by a reader who comes a moment later.
        let leaves_trace = |call: &&Call| match call.outcome {
            Outcome::Value { .. } => !self.policy.ttl.is_zero(),
            Outcome::Decided | Outcome::Refused => !self.policy.negative_ttl.is_zero(),
            Outcome::Failed => usable.is_some(),
        };
        let traces = self.calls.iter().filter(leaves_trace).count();
        let is_allowed = traces <= most && count <= most * self.readers;
        assert!(
            is_allowed,
            "no more than {most} of {:?} is allowed",
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
        assert_eq!(self.demand, Demand::Any, "a copy for who wants none");
        match &answer.status {
            CacheStatus::Hit { left } => {
                assert!(!copy.is_aged, "fresh, though nobody knows its age");
                assert!(self.now < last, "fresh for longer than its TTL");
                let bounds = first.since(self.now)..=last.since(self.now);
                assert!(bounds.contains(left), "fresh for {left:?} more");
            }
            CacheStatus::Stale { since, .. } => {
                assert!(self.policy.serve_stale, "a stale answer is forbidden");
                assert!(
                    self.now >= first || copy.is_aged,
                    "a fresh copy is no stale one"
                );
                let bounds = self.now.since(last)..=self.now.since(first);
                assert!(bounds.contains(since), "stale for {since:?}");
                assert!(*since < self.policy.max_stale, "past the hard limit");
                assert!(self.was_failing || self.has_failed(), "KMS does not fail");
            }
            CacheStatus::Forwarded { .. } => {}
        }
    }

    /// What KMS says now.
    fn judge_forwarded(&self, answer: &Answer, text: &str) {
        assert_eq!(answer.age, Duration::ZERO);
        let is_said = |call: &Call| matches!(&call.outcome, Outcome::Value { text: said, .. } if said == text);
        assert!(self.calls.iter().any(is_said), "KMS did not say {text}");
    }

    fn judge_error(&self, error: &SourceError) {
        if self.demand == Demand::Any
            && let Some(copy) = &self.copy
        {
            assert!(
                !copy.is_surely_fresh(self.policy, self.now),
                "a fresh copy is kept back: {error}"
            );
            let stands_in = self.policy.serve_stale
                && error.kind().is_transient()
                && copy.is_surely_usable(self.policy, self.now);
            assert!(!stands_in, "a copy that may stand in is kept back: {error}");
        }
        if error.kind().is_transient() {
            assert!(self.has_failed(), "a failure is remembered for readers");
        } else {
            let refuses = |call: &Call| matches!(call.outcome, Outcome::Decided | Outcome::Refused);
            let is_remembered = self.was_refused && self.demand == Demand::Any;
            assert!(
                is_remembered || self.calls.iter().any(refuses),
                "a refusal outlived its time: {error}"
            );
        }
    }

    fn has_failed(&self) -> bool {
        let fails = |call: &Call| matches!(call.outcome, Outcome::Failed);
        self.calls.iter().any(fails)
    }
}
