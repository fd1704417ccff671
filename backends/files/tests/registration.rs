//! Registration: one line in the list of backends is all that the agent needs.
#![expect(clippy::expect_used, reason = "a test that cannot go on panics")]

mod support;

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use kms_agent_cache::metric::ReadMetrics;
use kms_agent_cache::{Answer, CacheStatus, Demand, Policy, SecretService};
use kms_agent_core::Timeline;
use kms_agent_core::config::{ConfigTable, RawValue, Report};
use kms_agent_core::registry::{BackendContext, ChosenBackend, OpenError, Registry};
use kms_agent_test_support::{ManualClock, ScriptedSource, secret_ref};

use self::support::{files_table, table};

/// List of `src/agent/backends.rs` with one more line.
const BACKENDS: Registry = Registry::new(&[
    kms_agent_backend_memory::FACTORY,
    kms_agent_backend_files::FACTORY,
]);

/// Table `Cache` with `name` as its `CacheType`.
fn choose(name: &str, path: &Path) -> (Option<ChosenBackend>, Report) {
    let report = RefCell::default();
    let cache = table([
        ("CacheType", RawValue::String(name.to_owned())),
        ("Files", RawValue::Table(files_table(path))),
    ]);
    let mut cache = ConfigTable::root(cache, &report);
    let chosen = BACKENDS.configure(&mut cache, "InMemory");
    cache.finish();
    (chosen, report.into_inner())
}

/// Agent as it is after startup, without HTTP.
struct Agent {
    service: Arc<SecretService>,
    source: Arc<ScriptedSource>,
}

impl Agent {
    async fn start(path: &Path, clock: &ManualClock) -> Result<Self, OpenError> {
        let (chosen, report) = choose("Files", path);
        assert_eq!(report.problems, []);
        let clock = Arc::new(clock.clone());
        let capacity = NonZeroUsize::new(10).expect("not zero");
        let context = BackendContext {
            capacity,
            clock: Arc::clone(&clock) as _,
            data_keys: None,
        };
        let backend = chosen.expect("one is chosen").config.open(context).await?;
        let source = ScriptedSource::new();
        let service = SecretService::new(
            backend,
            Arc::clone(&source) as _,
            Timeline::new(clock),
            Policy::default(),
            capacity,
            ReadMetrics::register(&mut prometheus_client::registry::Registry::default()),
        );
        Ok(Self { service, source })
    }

    async fn read(&self) -> Answer {
        let read = self.service.read(&secret_ref("s"), Demand::Any).await;
        read.expect("answered")
    }
}

#[tokio::test]
async fn one_line_makes_the_agent_answer_from_it_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = ManualClock::default();
    let agent = Agent::start(folder.path(), &clock).await.expect("a start");
    agent.source.then_value("value");
    let fetched = agent.read().await;
    assert!(matches!(fetched.status, CacheStatus::Forwarded { .. }));
    agent.service.close().await.expect("it closes");
    drop(agent);

    let agent = Agent::start(folder.path(), &clock).await.expect("a start");
    let found = agent.read().await;
    assert!(matches!(found.status, CacheStatus::Hit { .. }));
    assert_eq!(found.secret.answer.expose(), b"value");
    assert_eq!(agent.source.calls().len(), 0);
}

#[test]
fn an_unknown_name_is_refused_with_the_known_ones() {
    let (_, report) = choose("Filse", Path::new("."));
    let messages: Vec<&str> = report
        .problems
        .iter()
        .map(|problem| problem.message.as_str())
        .collect();
    assert_eq!(messages, ["must be one of InMemory, Files"]);
}

#[tokio::test]
async fn a_folder_has_one_agent_at_a_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = ManualClock::default();
    let _first = Agent::start(folder.path(), &clock).await.expect("a start");
    let refused = Agent::start(folder.path(), &clock).await.err();
    let message = refused.expect("it is refused").message;
    let path = folder.path().to_str().expect("a path of text");
    assert!(
        message.contains(path) && message.contains("in use"),
        "{message}"
    );
}

#[tokio::test]
async fn a_damaged_file_is_a_miss_and_half_a_file_is_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = ManualClock::default();
    let agent = Agent::start(folder.path(), &clock).await.expect("a start");
    agent.source.then_value("value");
    agent.read().await;
    let entries = || {
        let files = std::fs::read_dir(folder.path()).expect("it is listed");
        let paths = files.map(|file| file.expect("a file").path());
        paths
            .filter(|path| path.extension().is_some())
            .collect::<Vec<_>>()
    };
    let file = entries().pop().expect("a file");
    let mut bytes = std::fs::read(&file).expect("it is read");
    bytes.pop();
    std::fs::write(&file, &bytes).expect("it is written");
    agent.source.then_value("again");
    assert_eq!(agent.read().await.secret.answer.expose(), b"again");
    assert!(!entries().contains(&file));
    drop(agent);

    std::fs::write(&file, &bytes).expect("it is written");
    std::fs::write(file.with_extension("unfinished"), b"").expect("it is written");
    let agent = Agent::start(folder.path(), &clock).await.expect("a start");
    assert_eq!(agent.read().await.secret.answer.expose(), b"again");
    assert_eq!(entries().len(), 1);
}
