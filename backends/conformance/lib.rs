//! The executable contract of [`kms_agent_core::CacheBackend`]: each clause is a function, and a named test of
//! every backend.
//!
//! A backend's tests name a fixture and get the whole suite:
//!
//! ```
//! # use std::sync::Arc;
//! # use kms_agent_core::CacheBackend;
//! # use kms_agent_core::registry::BackendContext;
//! # #[derive(Default)] struct MyFixture;
//! impl kms_agent_conformance::Fixture for MyFixture {
//!     async fn open(&self, context: BackendContext) -> Arc<dyn CacheBackend> {
//!         // For a durable backend: the same place every time, in a temporary folder of the fixture.
//! #       unimplemented!()
//!     }
//! }
//! kms_agent_conformance::conformance!(MyFixture::default());
//! kms_agent_conformance::model!(MyFixture::default(), histories: 64);
//! ```
//!
//! The clauses test the backend alone. The [`model`](mod@model) puts it under the real read path and compares the
//! answers to readers, through random histories, with a plain model of the agent's promises.

pub mod clause;
pub mod model;
mod sample;

use std::sync::Arc;

use kms_agent_core::CacheBackend;
use kms_agent_core::registry::BackendContext;

/// Source of a backend under test.
pub trait Fixture {
    /// Opens the backend. A durable one finds the entries of the previous opening, which may have been dropped
    /// without being closed; any other begins empty.
    fn open(&self, context: BackendContext) -> impl Future<Output = Arc<dyn CacheBackend>>;
}

/// Declares one test for each clause, each on its own fixture, made by the given expression.
#[macro_export]
macro_rules! conformance {
    ($fixture:expr) => {
        $crate::conformance!(@tests $fixture;
            what_was_put_is_returned_byte_for_byte
            an_unknown_key_is_absent
            keys_that_differ_in_any_part_are_separate
            a_put_replaces
            an_expired_entry_is_returned_and_a_dead_one_never
            what_was_removed_is_gone
            removing_an_absent_key_succeeds
            clearing_drops_everything_and_the_cache_goes_on
            capacity_holds_after_a_sweep
            a_new_entry_displaces_a_busy_one
            the_least_recently_used_go_first
            a_scan_visits_everything_once
            a_scan_of_nothing_is_empty
            hits_are_counted_and_outlive_replacement
            a_sweep_drops_the_dead_and_only_them
            a_longer_life_by_replacement_survives_the_old_deadline
            a_value_that_left_is_let_go_by_the_next_sweep
            readers_see_whole_entries_while_writers_replace_them
            an_abandoned_call_leaves_the_cache_usable
            stats_count_what_is_held
            durable_entries_survive_reopening_and_others_do_not
            removals_are_durable_without_a_flush
            a_closed_cache_says_so
        );
    };
    (@tests $fixture:expr; $($clause:ident)*) => {
        $(
            #[::tokio::test]
            async fn $clause() {
                $crate::clause::$clause(&$fixture).await;
            }
        )*
    };
}

/// Declares the test that runs random histories over the backend, each on its own fixture, made by the given
/// expression. The environment variable `PROPTEST_CASES` sets another number of them.
#[macro_export]
macro_rules! model {
    ($fixture:expr, histories: $histories:expr) => {
        #[test]
        fn any_history_keeps_the_promises() {
            $crate::model::any_history_keeps_the_promises(|| $fixture, $histories);
        }
    };
}
