//! The agent's own ceiling on calls, so that one machine does not use up the quota its account shares.

mod bucket;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::source::{Purpose, SourceErrorKind};
use kms_agent_core::{Clock, SourceError};

use self::bucket::{Bucket, Rank};

/// Turns for calls: a burst of one second's worth, refreshes of held entries first, at most half of it
/// all for readers who refuse a copy, and checks of watched secrets only where nobody waits.
#[derive(Debug)]
pub(crate) struct Budget(Option<Buckets>);

#[derive(Debug)]
struct Buckets {
    all: Bucket,
    refresh_now: Bucket,
    clock: Arc<dyn Clock>,
}

impl Budget {
    /// `None` means no ceiling.
    pub(crate) fn new(per_second: Option<NonZeroU32>, clock: Arc<dyn Clock>) -> Self {
        Self(per_second.map(|per_second| {
            let interval = Duration::from_secs(1) / per_second.get();
            Buckets {
                all: Bucket::new(interval),
                refresh_now: Bucket::new(2 * interval),
                clock,
            }
        }))
    }

    /// Waits for a turn. Fails as soon as it is clear that none comes before `deadline`, by boot time.
    pub(crate) async fn take(
        &self,
        purpose: Purpose,
        deadline: Duration,
    ) -> Result<(), SourceError> {
        let Some(buckets) = &self.0 else {
            return Ok(());
        };
        let clock = &*buckets.clock;
        let rank = match purpose {
            Purpose::Refresh => Rank::First,
            Purpose::Read | Purpose::RefreshNow | Purpose::Watch => Rank::Later,
        };
        let taken = async {
            if purpose == Purpose::Watch {
                return buckets.all.take_spare(clock);
            }
            if purpose == Purpose::RefreshNow {
                buckets
                    .refresh_now
                    .take(clock, Rank::Later, deadline)
                    .await?;
            }
            buckets.all.take(clock, rank, deadline).await
        };
        taken.await.map_err(|wait: Duration| {
            SourceError::new(
                SourceErrorKind::BudgetSpent,
                "the agent's own ceiling of calls (KMS.MaxRequestsPerSecond) is reached",
            )
            .with_retry_after(Some(wait))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ManualClock, manual_clock, settle};

    const SECOND: Duration = Duration::from_secs(1);

    fn budget(per_second: u32, clock: &Arc<ManualClock>) -> Arc<Budget> {
        let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
        Arc::new(Budget::new(NonZeroU32::new(per_second), clock))
    }

    /// Number of the `count` turns that are free without waiting.
    async fn at_once(budget: &Budget, purpose: Purpose, count: usize) -> usize {
        let mut taken = 0;
        for _ in 0..count {
            // A deadline in the past: what would have to wait fails.
            taken += usize::from(budget.take(purpose, Duration::ZERO).await.is_ok());
        }
        taken
    }

    #[tokio::test]
    async fn no_ceiling_means_no_waiting() {
        let clock = manual_clock();
        assert_eq!(
            at_once(&budget(0, &clock), Purpose::RefreshNow, 5000).await,
            5000
        );
    }

    #[tokio::test]
    async fn a_burst_is_one_second_s_worth_and_comes_back_with_time() {
        let clock = manual_clock();
        let budget = budget(10, &clock);
        assert_eq!(at_once(&budget, Purpose::Read, 30).await, 10);
        clock.advance(SECOND / 2);
        assert_eq!(at_once(&budget, Purpose::Read, 30).await, 5);
        clock.advance(100 * SECOND);
        assert_eq!(at_once(&budget, Purpose::Read, 30).await, 10);
    }

    #[tokio::test]
    async fn refresh_now_gets_at_most_half() {
        let clock = manual_clock();
        let budget = budget(10, &clock);
        assert_eq!(at_once(&budget, Purpose::RefreshNow, 30).await, 5);
        assert_eq!(at_once(&budget, Purpose::Read, 30).await, 5);
    }

    #[tokio::test]
    async fn even_one_call_a_second_leaves_refresh_now_its_share() {
        let clock = manual_clock();
        let budget = budget(1, &clock);
        assert_eq!(at_once(&budget, Purpose::RefreshNow, 3).await, 1);
        clock.advance(SECOND);
        assert_eq!(at_once(&budget, Purpose::RefreshNow, 3).await, 0);
        clock.advance(SECOND);
        assert_eq!(at_once(&budget, Purpose::RefreshNow, 3).await, 1);
    }

    #[tokio::test]
    async fn a_call_without_budget_in_time_gets_a_retry_time() {
        let clock = manual_clock();
        let budget = budget(1, &clock);
        assert_eq!(at_once(&budget, Purpose::Read, 2).await, 1);
        let error = budget
            .take(Purpose::Read, clock.boot() + SECOND / 2)
            .await
            .expect_err("no turn within half a second");
        assert_eq!(error.kind(), SourceErrorKind::BudgetSpent);
        assert_eq!(error.retry_after(), Some(SECOND));
    }

    #[tokio::test]
    async fn a_refresh_goes_before_readers_that_have_waited_longer() {
        let clock = manual_clock();
        let budget = budget(1, &clock);
        assert_eq!(at_once(&budget, Purpose::Read, 1).await, 1);
        let wait = |purpose| {
            let (budget, deadline) = (Arc::clone(&budget), clock.boot() + 10 * SECOND);
            tokio::spawn(async move { budget.take(purpose, deadline).await })
        };
        let reader = wait(Purpose::Read);
        settle().await;
        let refresh = wait(Purpose::Refresh);
        settle().await;
        clock.advance(SECOND);
        settle().await;
        assert!(refresh.is_finished() && !reader.is_finished());
        clock.advance(SECOND);
        assert!(reader.await.expect("no panic").is_ok());
    }

    #[tokio::test]
    async fn a_watch_takes_only_what_nobody_waits_for() {
        let clock = manual_clock();
        let budget = budget(1, &clock);
        assert_eq!(at_once(&budget, Purpose::Watch, 2).await, 1);
        let reader = {
            let (budget, deadline) = (Arc::clone(&budget), clock.boot() + 10 * SECOND);
            tokio::spawn(async move { budget.take(Purpose::Read, deadline).await })
        };
        settle().await;
        let deadline = clock.boot() + 10 * SECOND;
        let error = budget
            .take(Purpose::Watch, deadline)
            .await
            .expect_err("a reader waits");
        assert_eq!(error.retry_after(), Some(SECOND));
        clock.advance(SECOND);
        assert!(reader.await.expect("no panic").is_ok());
        assert_eq!(at_once(&budget, Purpose::Watch, 1).await, 0);
        clock.advance(SECOND);
        assert_eq!(at_once(&budget, Purpose::Watch, 1).await, 1);
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_makes_room() {
        let clock = manual_clock();
        let budget = budget(1, &clock);
        assert_eq!(at_once(&budget, Purpose::Read, 1).await, 1);
        let wait = || {
            let (budget, deadline) = (Arc::clone(&budget), clock.boot() + 10 * SECOND);
            tokio::spawn(async move { budget.take(Purpose::Read, deadline).await })
        };
        let first = wait();
        settle().await;
        let second = wait();
        settle().await;
        first.abort();
        settle().await;
        clock.advance(SECOND);
        assert!(second.await.expect("no panic").is_ok());
    }
}
