//! What may happen.

use std::time::Duration;

use kms_agent_cache::Demand;
use kms_agent_core::SourceErrorKind;
use proptest::prelude::*;

use super::world::{NAMES, Which};

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Time passes, long enough for upkeep.
    Pass(Duration),
    /// Somebody sets the wall clock, by so many milliseconds.
    SetWall(i64),
    /// A secret gets a new version, which may be due to be rotated after so long.
    Put(usize, Option<Duration>),
    Delete(usize),
    /// How KMS answers from now on.
    Trouble(Option<SourceErrorKind>),
    /// So many readers at a time.
    Read {
        name: usize,
        which: Which,
        demand: Demand,
        readers: usize,
    },
    Purge(usize),
    PurgeAll,
    /// The operator changes the rules.
    Reload(Rules),
    /// The agent is somebody else from now on.
    Become(u8),
    /// The agent ends and comes back.
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
    /// Closed, or flushed and let go of.
    pub(super) closed: bool,
    /// How long it was away.
    pub(super) away: Duration,
    /// By how much the wall clock is behind when it comes back.
    pub(super) behind: Duration,
    /// It comes back where there is no network.
    pub(super) offline: bool,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    prop_oneof![
        6 => duration(1_000..400_000).prop_map(Step::Pass),
        1 => (-4_000_000_i64..4_000_000).prop_map(Step::SetWall),
        4 => (name.clone(), prop::option::weighted(0.3, duration(1_000..600_000)))
            .prop_map(|(name, rotates_after)| Step::Put(name, rotates_after)),
        1 => name.clone().prop_map(Step::Delete),
        3 => trouble().prop_map(Step::Trouble),
        14 => read(),
        1 => name.prop_map(Step::Purge),
        1 => Just(Step::PurgeAll),
        1 => rules().prop_map(Step::Reload),
        1 => (0_u8..2).prop_map(Step::Become),
        2 => restart().prop_map(Step::Restart),
    ]
}

fn duration(millis: std::ops::Range<u64>) -> impl Strategy<Value = Duration> + Clone {
    millis.prop_map(Duration::from_millis)
}

fn seconds(choices: &'static [u64]) -> impl Strategy<Value = Duration> {
    prop::sample::select(choices).prop_map(Duration::from_secs)
}

fn trouble() -> impl Strategy<Value = Option<SourceErrorKind>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(SourceErrorKind::Unavailable)),
        1 => Just(Some(SourceErrorKind::Throttled)),
        1 => Just(Some(SourceErrorKind::ServerFailure)),
        1 => Just(Some(SourceErrorKind::NoCredentials)),
        1 => Just(Some(SourceErrorKind::Refused)),
    ]
}

fn read() -> impl Strategy<Value = Step> {
    let which = prop_oneof![
        6 => Just(Which::Current),
        1 => Just(Which::Previous),
        2 => (1_u32..4).prop_map(Which::Numbered),
    ];
    let demand = prop_oneof![4 => Just(Demand::Any), 1 => Just(Demand::RefreshNow)];
    let readers = prop_oneof![3 => Just(1_usize), 1 => Just(4)];
    (0..NAMES.len(), which, demand, readers).prop_map(|(name, which, demand, readers)| Step::Read {
        name,
        which,
        demand,
        readers,
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
