//! Age of entries after a restart, with a right or wrong wall clock.
#![expect(clippy::expect_used, reason = "a test that cannot go on panics")]

mod support;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_cache::metric::ReadMetrics;
use kms_agent_cache::{Answer, CacheStatus, Demand, Policy, SecretService};
use kms_agent_core::{CacheBackend, Clock, Timeline, Timestamp};
use kms_agent_test_support::{ManualClock, ScriptedSource, secret_ref, throttled};

use self::support::Folder;

const DAY: Duration = Duration::from_hours(24);

/// Process on the store in a folder.
struct Process {
    service: Arc<SecretService>,
    source: Arc<ScriptedSource>,
    backend: Arc<dyn CacheBackend>,
    clock: ManualClock,
}

impl Process {
    async fn start(folder: &Folder, clock: ManualClock) -> Self {
        let capacity = NonZeroUsize::new(10).expect("not zero");
        let shared = Arc::new(clock.clone());
        let backend = folder
            .open_at(capacity, shared.clone())
            .await
            .expect("it opens");
        let timeline = match backend.info().resumed {
            Some(resumed) => Timeline::resume(shared, &resumed),
            None => Timeline::new(shared),
        };
        let source = ScriptedSource::new();
        let service = SecretService::new(
            Arc::clone(&backend),
            Arc::clone(&source) as _,
            timeline,
            Policy {
                ttl: Duration::from_mins(5),
                max_stale: Duration::from_hours(1),
                refresh_ahead: false,
                ..Policy::default()
            },
            capacity,
            ReadMetrics::register(&mut prometheus_client::registry::Registry::default()),
        );
        Self {
            service,
            source,
            backend,
            clock,
        }
    }

    async fn read(&self) -> Answer {
        self.service
            .read(&secret_ref("s"), Demand::Any)
            .await
            .expect("an answer")
    }

    /// Reads as a reader does while KMS is unreachable.
    async fn read_offline(&self) -> Option<CacheStatus> {
        self.source.then_error(throttled());
        let read = self.service.read(&secret_ref("s"), Demand::Any).await;
        read.ok().map(|answer| answer.status)
    }

    /// Lets time pass, with the sweep that comes every second.
    async fn live(&self, time: Duration) {
        self.clock.advance(time);
        let now = self.service.timeline().now();
        self.backend.sweep(now).await.expect("sweeping works");
    }
}

/// Creates a folder in which a process stored a secret, and went on for a hundred seconds.
async fn hundred_seconds_after(stop: bool) -> (Folder, ManualClock) {
    let folder = Folder::default();
    let clock = ManualClock::default();
    let process = Process::start(&folder, clock.clone()).await;
    process.source.then_value("kept");
    process.read().await;
    process.live(Duration::from_secs(100)).await;
    if stop {
        process.service.close().await.expect("it closes");
        return (folder, clock);
    }
    process.source.then_value("later");
    let later = secret_ref("later");
    let read = process.service.read(&later, Demand::Any).await;
    read.expect("an answer");
    process.backend.flush().await.expect("it flushes");
    (folder.as_after_a_kill(), clock)
}

#[tokio::test]
async fn a_restart_goes_on_by_the_wall_clock() {
    for stop in [true, false] {
        let (folder, clock) = hundred_seconds_after(stop).await;
        // Boot time of another machine, or after a reboot, is meaningless.
        let wall = clock.wall().plus(Duration::from_mins(1));
        let rebooted = ManualClock::default();
        rebooted.set_wall(wall);
        let answer = Process::start(&folder, rebooted).await.read().await;
        assert_eq!(answer.age, Duration::from_secs(160));
        assert!(matches!(answer.status, CacheStatus::Hit { .. }));
    }
}

#[tokio::test]
async fn a_wall_clock_behind_makes_entries_expired_and_no_younger() {
    for stop in [true, false] {
        let (folder, clock) = hundred_seconds_after(stop).await;
        let behind = ManualClock::default();
        behind.set_wall(clock.wall().minus(DAY));
        let process = Process::start(&folder, behind.clone()).await;
        process.source.then_error(throttled());
        let answer = process.read().await;
        assert!(answer.age >= Duration::from_secs(100), "{:?}", answer.age);
        assert!(
            matches!(answer.status, CacheStatus::Stale { .. }),
            "{:?}",
            answer.status
        );
        // The next process continues from the time of that process, though the clock is still behind.
        process.live(Duration::from_secs(50)).await;
        process.service.close().await.expect("it closes");
        let process = Process::start(&folder, behind).await;
        process.source.then_error(throttled());
        let answer = process.read().await;
        assert!(answer.age >= Duration::from_secs(150), "{:?}", answer.age);
    }
}

#[tokio::test]
async fn what_is_fetched_under_a_wall_clock_behind_is_fresh() {
    let (folder, clock) = hundred_seconds_after(true).await;
    let behind = ManualClock::default();
    behind.set_wall(clock.wall().minus(DAY));
    let process = Process::start(&folder, behind).await;
    process.source.then_value("new");
    process.read().await;
    process.live(Duration::from_secs(10)).await;
    let answer = process.read().await;
    assert_eq!(answer.age, Duration::from_secs(10));
    assert!(matches!(answer.status, CacheStatus::Hit { .. }));
}

#[tokio::test]
async fn a_wall_clock_that_is_put_right_at_work_makes_nothing_older() {
    let folder = Folder::default();
    // A machine that starts in 1970 and gets the time later.
    let clock = ManualClock::default();
    let right = clock.wall();
    clock.set_wall(right.minus(DAY * 20_000));
    let process = Process::start(&folder, clock.clone()).await;
    process.source.then_value("kept");
    process.read().await;
    process.live(Duration::from_secs(50)).await;
    clock.set_wall(right);
    process.live(Duration::from_secs(50)).await;
    process.service.close().await.expect("it closes");
    clock.advance(Duration::from_mins(1));
    let answer = Process::start(&folder, clock).await.read().await;
    assert_eq!(answer.age, Duration::from_secs(160));
    assert!(matches!(answer.status, CacheStatus::Hit { .. }));
}

#[tokio::test]
async fn a_wall_clock_far_ahead_makes_entries_dead() {
    let (folder, clock) = hundred_seconds_after(true).await;
    let ahead = ManualClock::default();
    ahead.set_wall(clock.wall().plus(DAY));
    let process = Process::start(&folder, ahead).await;
    process.source.then_error(throttled());
    let read = process.service.read(&secret_ref("s"), Demand::Any).await;
    read.expect_err("nothing may be answered");
}

/// Starts a process at the wall time `wall`.
async fn start_at(folder: &Folder, wall: Timestamp) -> Process {
    let clock = ManualClock::default();
    clock.set_wall(wall);
    Process::start(folder, clock).await
}

#[tokio::test]
async fn a_clock_that_was_wrong_for_one_run_deletes_nothing() {
    let year = DAY * 365;
    for wrong in [
        "in 1970",
        "behind by days",
        "ahead by days",
        "ahead by years",
    ] {
        let (folder, clock) = hundred_seconds_after(true).await;
        let right = clock.wall().plus(Duration::from_mins(1));
        let wall = match wrong {
            "in 1970" => Timestamp::from_millis(1000),
            "behind by days" => right.minus(3 * DAY),
            "ahead by days" => right.plus(3 * DAY),
            _ => right.plus(70 * year),
        };
        let process = start_at(&folder, wall).await;
        let offline = process.read_offline().await;
        let is_ahead = wrong.starts_with("ahead");
        assert_eq!(offline.is_none(), is_ahead, "{wrong}: {offline:?}");
        for _ in 0..5 {
            process.live(Duration::from_secs(1)).await;
        }
        // A commit and a close both write the note for the next process.
        process.backend.flush().await.expect("it flushes");
        process.service.close().await.expect("it closes");

        let process = start_at(&folder, right).await;
        process.source.then_error(throttled());
        let answer = process.read().await;
        assert_eq!(answer.age, Duration::from_secs(160), "{wrong}");
        assert!(matches!(answer.status, CacheStatus::Hit { .. }), "{wrong}");
    }
}

#[tokio::test]
async fn several_runs_with_a_wrong_clock_add_up_to_what_they_lasted() {
    let (folder, clock) = hundred_seconds_after(true).await;
    for _ in 0..4 {
        let process = start_at(&folder, Timestamp::from_millis(1000)).await;
        process.live(Duration::from_secs(40)).await;
        process.service.close().await.expect("it closes");
    }
    // The clock is right again, and behind by the length of those runs: no entry is younger than it was.
    let process = start_at(&folder, clock.wall().plus(Duration::from_secs(1))).await;
    let answer = process.read().await;
    assert!(answer.age >= Duration::from_secs(260), "{:?}", answer.age);
}

#[tokio::test]
async fn a_clock_that_kms_confirms_counts_for_the_next_process_and_removes_what_is_dead() {
    let (folder, clock) = hundred_seconds_after(true).await;
    let later = clock.wall().plus(DAY);
    let process = start_at(&folder, later).await;
    assert_eq!(process.read_offline().await, None);
    process.live(Duration::from_secs(1)).await;
    let entries = async |process: &Process| {
        let stats = process.backend.stats().await.expect("it works");
        stats.entries
    };
    // A scan waits until the store is listed; until then the number of entries is an estimate.
    let listing = process.backend.scan(None, NonZeroUsize::MIN);
    listing.await.expect("it works");
    assert_eq!(entries(&process).await, 1);
    process.source.confirm_clock();
    process.source.then_value("later");
    let later_secret = secret_ref("later");
    let read = process.service.read(&later_secret, Demand::Any);
    read.await.expect("an answer");
    process.live(Duration::from_secs(10)).await;
    // Records listed only now are removed by the next sweep.
    while entries(&process).await > 1 {
        process.live(Duration::ZERO).await;
        tokio::task::yield_now().await;
    }
    process.service.close().await.expect("it closes");

    let process = start_at(&folder, later.plus(Duration::from_secs(20))).await;
    let read = process.service.read(&later_secret, Demand::Any);
    assert_eq!(read.await.expect("an answer").age, Duration::from_secs(19));
}

#[tokio::test]
async fn a_clock_that_is_confirmed_heals_a_store_that_was_created_with_one_ahead() {
    let folder = Folder::default();
    let right = ManualClock::default().wall();
    let process = start_at(&folder, right.plus(70 * 365 * DAY)).await;
    process.source.then_value("kept");
    process.read().await;
    process.service.close().await.expect("it closes");
    let process = start_at(&folder, right).await;
    process.source.confirm_clock();
    process.source.then_value("new");
    process.read().await;
    process.live(Duration::from_secs(10)).await;
    process.service.close().await.expect("it closes");
    let process = start_at(&folder, right.plus(Duration::from_secs(30))).await;
    let answer = process.read().await;
    assert!(matches!(answer.status, CacheStatus::Hit { .. }));
    assert_eq!(answer.age, Duration::from_secs(30));
}
