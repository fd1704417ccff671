//! The read path, driven from outside under a manual clock, with calls to the source counted.
#![expect(clippy::expect_used, reason = "a test that cannot go on panics")]

mod calls;
mod freshness;
mod harness;
mod outage;
mod purge;
mod readiness;
mod refusal;
mod single_flight;
mod watch;
