//! Random histories against a plain model of the agent's promises, with a backend under the real read path.
//!
//! No answer is older than the hard limit, stale without a mark, of another version or identity, or given after
//! KMS decided against it. No more calls are made than allowed. A fetched secret is found again, also by the
//! next process.

mod expected;
mod fake_kms;
mod harness;
mod read;
mod step;

use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};

use self::harness::Harness;
use self::step::{HistoryStep, step};
use crate::Fixture;

/// Environment variable with another number of histories.
const CASES: &str = "PROPTEST_CASES";

/// Most steps of a history.
const STEPS: usize = 80;

/// Runs so many histories, each on its own fixture, and panics with the shortest one that breaks a promise.
pub fn any_history_keeps_the_promises<F: Fixture>(fixture: impl Fn() -> F, histories: u32) {
    let mut config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    if std::env::var_os(CASES).is_none() {
        config.cases = histories;
    }
    let lived = TestRunner::new(config).run(&vec(step(), 1..STEPS), |steps| {
        run_history(&fixture(), steps);
        Ok(())
    });
    if let Err(broken) = lived {
        panic!("{broken}");
    }
}

fn run_history(fixture: &impl Fixture, steps: Vec<HistoryStep>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut harness = Harness::open(fixture).await;
        for step in steps {
            harness = harness.take(step).await;
        }
        harness.close().await;
    });
}
