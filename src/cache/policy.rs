//! Freshness of answers: time to live, stale use, negative answers.

use std::time::Duration;

use kms_agent_core::lifetime::{Lifetime, Timestamp};
use kms_agent_core::{Pattern, SecretId, jitter};

/// The most that is added to a rotation date, so that a fleet of agents does not ask in one moment.
pub const ROTATION_JITTER: Duration = Duration::from_secs(30);

/// The operator's rules on age, as the config file gives them. May change while the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Time that an answer is fresh; zero: nothing is stored.
    pub ttl: Duration,
    /// Time past that in which it may be served while KMS cannot answer.
    pub max_stale: Duration,
    /// Time that a refusal is remembered.
    pub negative_ttl: Duration,
    /// Whether entries in use are refreshed before they expire.
    pub refresh_ahead: bool,
    /// Whether an expired copy is served at all while KMS cannot answer.
    pub serve_stale: bool,
    /// Interval of checks of watched secrets.
    pub watch_every: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ttl: Duration::from_mins(5),
            max_stale: Duration::from_hours(24),
            negative_ttl: Duration::from_secs(5),
            refresh_ahead: true,
            serve_stale: true,
            watch_every: Duration::from_secs(30),
        }
    }
}

/// The operator's rules for all secrets, and those that differ for some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// Rules for a secret that no pattern matches.
    pub general: Policy,
    /// Rules by secret. The first whose pattern matches counts.
    pub by_secret: Vec<SecretPolicy>,
}

/// Rules for the secrets that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretPolicy {
    /// Secrets that it is for.
    pub pattern: Pattern,
    /// Rules for them, complete.
    pub policy: Policy,
    /// Whether KMS is asked for the extended configuration of managed secrets.
    pub extended_config: bool,
}

impl Policies {
    /// The rules for `id`.
    pub fn of(&self, id: &SecretId) -> &Policy {
        self.rule(id).map_or(&self.general, |rule| &rule.policy)
    }

    /// Whether KMS is asked for the extended configuration of `id`.
    pub fn wants_extended_config(&self, id: &SecretId) -> bool {
        self.rule(id).is_some_and(|rule| rule.extended_config)
    }

    fn rule(&self, id: &SecretId) -> Option<&SecretPolicy> {
        self.by_secret.iter().find(|rule| rule.pattern.matches(id))
    }
}

impl From<Policy> for Policies {
    fn from(general: Policy) -> Self {
        Self {
            general,
            by_secret: Vec::new(),
        }
    }
}

/// Freshness of an entry at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Answer it without asking KMS.
    Fresh {
        /// For how much longer.
        left: Duration,
    },
    /// Ask KMS; only a transient failure makes it an answer.
    Expired {
        /// For how long it has been.
        since: Duration,
    },
    /// Never answer it again.
    Dead,
}

impl Policy {
    /// The lifetime of an answer that was asked for at `fetched_at` and says the secret rotates at
    /// `rotates_at`. A rotation date in the past, as KMS shows it while a rotation is late, is no bound.
    pub fn stamp(&self, fetched_at: Timestamp, rotates_at: Option<Timestamp>) -> Lifetime {
        let rotates_at = rotates_at
            .filter(|at| *at > fetched_at)
            .map(|at| at.plus(jitter::up_to(ROTATION_JITTER)));
        let mut lifetime = Lifetime {
            fetched_at,
            rotates_at,
            usable_until: fetched_at,
        };
        lifetime.usable_until = self.dead_at(&lifetime);
        lifetime
    }

    /// Freshness of an entry at `now`.
    pub fn judge(&self, lifetime: &Lifetime, now: Timestamp) -> Freshness {
        let fresh_until = self.fresh_until(lifetime);
        if lifetime.fetched_at > now {
            // The clock is behind the one that stamped the entry.
            self.of_unknown_age()
        } else if now < fresh_until {
            Freshness::Fresh {
                left: fresh_until.since(now),
            }
        } else if now < self.dead_at(lifetime) {
            Freshness::Expired {
                since: now.since(fresh_until),
            }
        } else {
            Freshness::Dead
        }
    }

    /// Freshness of an entry of unknown age: neither fresh nor dead.
    pub(crate) fn of_unknown_age(&self) -> Freshness {
        if self.max_stale.is_zero() {
            Freshness::Dead
        } else {
            Freshness::Expired {
                since: Duration::ZERO,
            }
        }
    }

    fn fresh_until(&self, lifetime: &Lifetime) -> Timestamp {
        let by_age = lifetime.fetched_at.plus(self.ttl);
        lifetime.rotates_at.map_or(by_age, |at| at.min(by_age))
    }

    /// The lifetime as this policy would have stamped it, for an entry that another one stamped.
    pub(crate) fn restamp(&self, lifetime: Lifetime) -> Lifetime {
        Lifetime {
            usable_until: self.dead_at(&lifetime),
            ..lifetime
        }
    }

    fn dead_at(&self, lifetime: &Lifetime) -> Timestamp {
        self.fresh_until(lifetime).plus(self.max_stale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_000_000_000);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn policy() -> Policy {
        Policy {
            ttl: seconds(300),
            max_stale: seconds(1000),
            ..Policy::default()
        }
    }

    #[test]
    fn an_entry_is_fresh_then_expired_then_dead() {
        let lifetime = policy().stamp(T0, None);
        let at = |n| policy().judge(&lifetime, T0.plus(seconds(n)));
        assert_eq!(at(0), Freshness::Fresh { left: seconds(300) });
        assert_eq!(at(299), Freshness::Fresh { left: seconds(1) });
        assert_eq!(at(300), Freshness::Expired { since: seconds(0) });
        assert_eq!(
            at(1299),
            Freshness::Expired {
                since: seconds(999)
            }
        );
        assert_eq!(at(1300), Freshness::Dead);
        assert_eq!(lifetime.usable_until, T0.plus(seconds(1300)));
    }

    #[test]
    fn a_rotation_ahead_ends_freshness_within_its_jitter_and_a_past_one_does_not() {
        let ahead = policy().stamp(T0, Some(T0.plus(seconds(60))));
        assert!(matches!(
            policy().judge(&ahead, T0.plus(seconds(59))),
            Freshness::Fresh { .. }
        ));
        assert!(matches!(
            policy().judge(&ahead, T0.plus(seconds(90))),
            Freshness::Expired { .. }
        ));
        let past = policy().stamp(T0, Some(T0.minus(seconds(60))));
        assert!(matches!(
            policy().judge(&past, T0.plus(seconds(299))),
            Freshness::Fresh { .. }
        ));
    }

    #[test]
    fn the_first_rule_that_matches_counts_and_the_general_one_is_for_the_rest() {
        let rule = |pattern, ttl, extended_config| SecretPolicy {
            pattern: Pattern::parse(pattern).expect("a pattern"),
            policy: Policy {
                ttl: seconds(ttl),
                ..policy()
            },
            extended_config,
        };
        let policies = Policies {
            general: policy(),
            by_secret: vec![
                rule("app/db", 10, true),
                rule("app/*", 20, false),
                rule("app/x", 30, true),
            ],
        };
        for (id, ttl, extended) in [
            ("app/db", 10, true),
            ("app/x", 20, false),
            ("web", 300, false),
            ("acs:kms:cn-a:1:secret/app/db", 300, false),
        ] {
            let id = SecretId::parse(id).expect("an id");
            assert_eq!(policies.of(&id).ttl, seconds(ttl), "{id:?}");
            assert_eq!(policies.wants_extended_config(&id), extended, "{id:?}");
        }
    }

    #[test]
    fn a_changed_policy_counts_for_entries_already_held() {
        let lifetime = policy().stamp(T0, None);
        let shorter = Policy {
            ttl: seconds(10),
            ..policy()
        };
        assert_eq!(
            shorter.judge(&lifetime, T0.plus(seconds(20))),
            Freshness::Expired { since: seconds(10) }
        );
    }

    #[test]
    fn an_entry_from_the_future_is_expired_and_not_dead() {
        let lifetime = policy().stamp(T0, None);
        assert_eq!(
            policy().judge(&lifetime, T0.minus(seconds(86_400))),
            Freshness::Expired { since: seconds(0) }
        );
    }
}
