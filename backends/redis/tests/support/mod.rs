//! A real server, and agents that share it.
#![allow(dead_code, reason = "each test file uses a part")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on panics"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kms_agent_backend_redis::FACTORY;
use kms_agent_cache::metric::ReadMetrics;
use kms_agent_cache::{Answer, Demand, Policy, SecretService, SystemClock};
use kms_agent_core::config::{ConfigTable, Located, RawTable, RawValue};
use kms_agent_core::registry::{BackendConfig, BackendContext};
use kms_agent_core::{CacheBackend, DataKeySource, SecretSource, SourceError, Timeline};
use kms_agent_test_support::{ScriptedSource, secret_ref};
use tempfile::TempDir;

/// Only a hang ever takes so long.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A redis-server of its own, or nothing where this machine does not have the program.
pub(crate) struct Server {
    process: Option<Child>,
    pub(crate) port: u16,
    folder: TempDir,
    options: Vec<String>,
}

impl Server {
    /// Starts a server with further `options`. `None`, with a printed reason, where redis-server is not installed.
    pub(crate) fn start(options: &[&str]) -> Option<Self> {
        let is_there = Command::new("redis-server")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_ok();
        if !is_there {
            assert!(
                std::env::var_os("KMS_AGENT_TEST_REQUIRE_REDIS").is_none(),
                "redis-server is not installed"
            );
            eprintln!("skipped: redis-server is not installed");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self {
            process: None,
            port: 0,
            folder,
            options: options.iter().map(|&option| option.to_owned()).collect(),
        };
        for _ in 0..20 {
            let free = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            server.port = free.local_addr().expect("an address").port();
            drop(free);
            if server.run() {
                return Some(server);
            }
        }
        panic!("redis-server does not start");
    }

    /// Starts the process. Returns whether it listens.
    pub(crate) fn run(&mut self) -> bool {
        let mut process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(self.port.to_string())
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server starts");
        let output = process.stdout.take().expect("it is piped");
        let is_ready = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("Ready to accept connections"));
        self.process = Some(process);
        if !is_ready {
            self.stop();
        }
        is_ready
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Sends `signal` to the process, such as `STOP`.
    pub(crate) fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs");
        let sent = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(process.id().to_string())
            .status()
            .expect("kill runs");
        assert!(sent.success());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Runs a command on the server.
    pub(crate) fn command(&self, words: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.url()).expect("a client");
        let mut connection = client.get_connection().expect("it connects");
        let mut command = redis::cmd(words.first().expect("a command"));
        for word in words.iter().skip(1) {
            command.arg(word);
        }
        command.query(&mut connection).expect("it answers")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The key of a fleet.
pub(crate) struct Key(TempDir);

impl Default for Key {
    fn default() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = kms_agent_sealed::key::RootKey::random().expect("random numbers");
        let source = kms_agent_sealed::key::KeySource::File(folder.path().join("fleet.key"));
        source.make(&key).expect("it is written");
        Self(folder)
    }
}

impl Key {
    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.0.path().join("fleet.key")
    }
}

/// Reads the backend's config from pairs of text.
pub(crate) fn config(entries: &[(&str, &str)]) -> Box<dyn BackendConfig> {
    let entries: BTreeMap<String, Located> = entries
        .iter()
        .map(|(key, value)| {
            let value = value
                .parse()
                .map_or_else(|_| RawValue::String((*value).to_owned()), RawValue::Integer);
            ((*key).to_owned(), Located { line: 1, value })
        })
        .collect();
    let report = RefCell::default();
    let mut table = ConfigTable::root(RawTable { line: 1, entries }, &report);
    let config = (FACTORY.configure)(&mut table);
    table.finish();
    assert!(report.borrow().problems.is_empty(), "{report:?}");
    config
}

pub(crate) fn key_text(key: &Path) -> String {
    key.display().to_string()
}

/// An agent, by default with a KMS of its own, so that each call shows whose it was.
pub(crate) struct Agent<S = ScriptedSource> {
    pub(crate) service: Arc<SecretService>,
    pub(crate) source: Arc<S>,
    pub(crate) backend: Arc<dyn CacheBackend>,
}

pub(crate) async fn agent(url: &str, key: &Path, policy: Policy) -> Agent {
    agent_of(url, key, policy, ScriptedSource::new()).await
}

pub(crate) async fn agent_of<S: SecretSource>(
    url: &str,
    key: &Path,
    policy: Policy,
    source: Arc<S>,
) -> Agent<S> {
    let entries = [
        ("Url", url),
        ("KeyFile", &key_text(key)),
        ("TimeoutMs", "1000"),
    ];
    open(&entries, None, policy, source).await
}

/// An agent whose key KMS makes.
pub(crate) async fn agent_with_data_key(url: &str, keys: Arc<dyn DataKeySource>) -> Agent {
    let entries = [("Url", url), ("KmsKeyId", "key-a"), ("TimeoutMs", "1000")];
    let source = ScriptedSource::new();
    open(&entries, Some(keys), Policy::default(), source).await
}

async fn open<S: SecretSource>(
    entries: &[(&str, &str)],
    data_keys: Option<Arc<dyn DataKeySource>>,
    policy: Policy,
    source: Arc<S>,
) -> Agent<S> {
    let config = config(entries);
    let capacity = NonZeroUsize::new(100).expect("not zero");
    let clock: Arc<dyn kms_agent_core::Clock> = Arc::new(SystemClock);
    let context = BackendContext {
        capacity,
        clock: Arc::clone(&clock),
        data_keys,
    };
    let backend = config.open(context).await.expect("it opens");
    let service = SecretService::new(
        Arc::clone(&backend),
        Arc::clone(&source) as _,
        Timeline::new(clock),
        policy,
        capacity,
        ReadMetrics::register(&mut prometheus_client::registry::Registry::default()),
    );
    let agent = Agent {
        service,
        source,
        backend,
    };
    agent.wait_until_connected().await;
    agent
}

impl<S: SecretSource> Agent<S> {
    pub(crate) async fn wait_until_connected(&self) {
        self.wait("it is connected", async |agent: &Self| {
            agent.trouble().await.is_none()
        })
        .await;
    }

    pub(crate) async fn read(&self, name: &str) -> Result<Answer, Arc<SourceError>> {
        self.service.read(&secret_ref(name), Demand::Any).await
    }

    pub(crate) async fn refresh(&self, name: &str) -> Result<Answer, Arc<SourceError>> {
        self.service
            .read(&secret_ref(name), Demand::RefreshNow)
            .await
    }

    /// Returns the value of a read that succeeds.
    pub(crate) async fn value(&self, name: &str) -> String {
        text(&self.read(name).await.expect("it is answered"))
    }

    pub(crate) async fn trouble(&self) -> Option<&'static str> {
        let stats = self.backend.stats().await.expect("it answers");
        stats.store.expect("it has a store").trouble
    }

    /// Waits until `holds`.
    pub(crate) async fn wait(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        let waiting = async {
            while !holds(self).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, waiting)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"));
    }
}

pub(crate) fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(answer.secret.answer.expose()).into_owned()
}

/// Returns the cache key of the secret `name`.
pub(crate) fn cache_key(name: &str) -> kms_agent_core::SecretKey {
    kms_agent_core::SecretKey {
        scope: Arc::new(kms_agent_core::Scope {
            endpoint: "kms.example".into(),
            identity: "identity".into(),
        }),
        secret: secret_ref(name),
    }
}

impl<S> Agent<S> {
    /// Returns whether the backend answers `name` without KMS.
    pub(crate) async fn has(&self, name: &str) -> bool {
        let now = self.service.timeline().now();
        let found = self.backend.get(&cache_key(name), now).await;
        found.expect("it answers").is_some()
    }
}
