//! Random histories against a plain model of what the agent promises, with a backend under the real read path:
//! never older than the hard limit, never silent about it, never of another version or identity, never after
//! KMS decided against it, never more calls than allowed; and what was fetched is found, also by the next
//! process.

mod book;
mod house;
mod read;
mod step;
mod world;

use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};

use self::house::House;
use self::step::{Step, step};
use crate::Fixture;

/// Asks for another number of histories.
const CASES: &str = "PROPTEST_CASES";

/// The most steps of a history.
const STEPS: usize = 80;

/// Lives through so many histories, each on a fixture of its own, and panics with the shortest that breaks a
/// promise.
pub fn any_history_keeps_the_promises<F: Fixture>(fixture: impl Fn() -> F, histories: u32) {
    let mut config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    if std::env::var_os(CASES).is_none() {
        config.cases = histories;
    }
    let lived = TestRunner::new(config).run(&vec(step(), 1..STEPS), |steps| {
        live(&fixture(), steps);
        Ok(())
    });
    if let Err(broken) = lived {
        panic!("{broken}");
    }
}

fn live(fixture: &impl Fixture, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut house = House::open(fixture).await;
        for step in steps {
            house = house.take(step).await;
        }
        house.close().await;
    });
}
