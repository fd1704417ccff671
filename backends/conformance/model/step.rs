//! Steps of a history, and how they are drawn.

use std::time::Duration;

use kms_agent_cache::Demand;
use kms_agent_core::SourceErrorKind;
use proptest::prelude::*;

use super::fake_kms::{NAMES, WantedVersion};

#[derive(Clone, Debug)]
pub(super) enum HistoryStep {
    /// Lets time pass, long enough for maintenance.
    Pass(Duration),
    /// Moves the wall clock by so many milliseconds.
    SetWall(i64),
    /// Gives a secret a new version, which may be due for rotation after a duration.
    Put(usize, Option<Duration>),
    Delete(usize),
    /// Makes KMS fail from now on, or answer again.
    Fail(Option<SourceErrorKind>),
    /// Reads a secret with several readers at a time.
    Read {
        name: usize,
        which: WantedVersion,
        demand: Demand,
        readers: usize,
    },
    Purge(usize),
    PurgeAll,
    /// Reloads the policy.
    Reload(Rules),
    /// Gives the agent another identity.
    ChangeIdentity(u8),
    /// Stops the agent and starts it again.
    Restart(Restart),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) ttl: Duration,
    pub(super) max_stale: Duration,
    pub(super) negative_ttl: Duration,
    pub(super) serve_stale: bool,
    pub(super) refresh_ahead: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Restart {
    /// Whether the backend is closed, or only flushed and dropped.
    pub(super) closed: bool,
    /// Time between the two processes.
    pub(super) away: Duration,
    /// How far the wall clock is set back meanwhile.
    pub(super) behind: Duration,
    /// Whether KMS cannot be reached at startup.
    pub(super) offline: bool,
}

pub(super) fn step() -> impl Strategy<Value = HistoryStep> {
    let name = 0..NAMES.len();
    prop_oneof![
        6 => duration(1_000..400_000).prop_map(HistoryStep::Pass),
        1 => (-4_000_000_i64..4_000_000).prop_map(HistoryStep::SetWall),
        4 => (name.clone(), prop::option::weighted(0.3, duration(1_000..600_000)))
            .prop_map(|(name, rotates_after)| HistoryStep::Put(name, rotates_after)),
        1 => name.clone().prop_map(HistoryStep::Delete),
        3 => failure().prop_map(HistoryStep::Fail),
        14 => read(),
        1 => name.prop_map(HistoryStep::Purge),
        1 => Just(HistoryStep::PurgeAll),
        1 => rules().prop_map(HistoryStep::Reload),
        1 => (0_u8..2).prop_map(HistoryStep::ChangeIdentity),
        2 => restart().prop_map(HistoryStep::Restart),
    ]
}

fn duration(millis: std::ops::Range<u64>) -> impl Strategy<Value = Duration> + Clone {
    millis.prop_map(Duration::from_millis)
}

fn seconds(choices: &'static [u64]) -> impl Strategy<Value = Duration> {
    prop::sample::select(choices).prop_map(Duration::from_secs)
}

fn failure() -> impl Strategy<Value = Option<SourceErrorKind>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(SourceErrorKind::Unavailable)),
        1 => Just(Some(SourceErrorKind::Throttled)),
        1 => Just(Some(SourceErrorKind::ServerFailure)),
        1 => Just(Some(SourceErrorKind::NoCredentials)),
        1 => Just(Some(SourceErrorKind::Refused)),
    ]
}

fn read() -> impl Strategy<Value = HistoryStep> {
    let which = prop_oneof![
        6 => Just(WantedVersion::Current),
        1 => Just(WantedVersion::Previous),
        2 => (1_u32..4).prop_map(WantedVersion::Numbered),
    ];
    let demand = prop_oneof![4 => Just(Demand::Any), 1 => Just(Demand::RefreshNow)];
    let readers = prop_oneof![3 => Just(1_usize), 1 => Just(4)];
    (0..NAMES.len(), which, demand, readers).prop_map(|(name, which, demand, readers)| {
        HistoryStep::Read {
            name,
            which,
            demand,
            readers,
        }
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    (
        seconds(&[0, 60, 300]),
        seconds(&[0, 600, 3600]),
        seconds(&[0, 5]),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(ttl, max_stale, negative_ttl, serve_stale, refresh_ahead)| Rules {
                ttl,
                max_stale,
                negative_ttl,
                serve_stale,
                refresh_ahead,
            },
        )
}

fn restart() -> impl Strategy<Value = Restart> {
    (
        any::<bool>(),
        duration(0..200_000),
        prop_oneof![2 => Just(Duration::ZERO), 1 => duration(1..400_000)],
        any::<bool>(),
    )
        .prop_map(|(closed, away, behind, offline)| Restart {
            closed,
            away,
            behind,
            offline,
        })
}
