//! SIGHUP: the config file is read again, and what can change without a restart does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::{Clock, Scope, SecretService, SecretSource};
use kms_agent_kms::{Environment, KmsMetrics, KmsSource, Settings};
use tokio::signal::unix::Signal;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Config;
use crate::telemetry::{Log, Opened};

/// Tables whose keys all take effect at once, and keys of other tables that do.
const LIVE: [&str; 8] = [
    "Log.",
    "KMS.",
    "Credentials.",
    "Cache.TtlSeconds",
    "Cache.MaxStaleSeconds",
    "Cache.NegativeTtlSeconds",
    "Cache.RefreshAhead",
    "Server.IgnoreTransientErrors",
];

/// How long a new source may take to get credentials before readers are handed over to it anyway.
const WARM_UP: Duration = Duration::from_secs(5);

/// Makes the fetchers of this process, one after another.
pub(crate) struct Sources {
    pub(crate) environment: Environment,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: KmsMetrics,
    /// The scope that the store was last used with.
    pub(crate) resumed: Option<Arc<Scope>>,
}

impl Sources {
    /// A fetcher, and the task that keeps it going until it is dropped.
    pub(crate) fn open(&self, settings: &Settings) -> (Arc<KmsSource>, AbortOnDropHandle<()>) {
        let source = KmsSource::new(
            settings.clone(),
            &self.environment,
            Arc::clone(&self.clock),
            self.metrics.clone(),
        );
        if let Some(scope) = &self.resumed {
            source.resume(scope);
        }
        let maintained = Arc::clone(&source);
        let maintenance = tokio::spawn(async move { maintained.maintain().await });
        (source, AbortOnDropHandle::new(maintenance))
    }
}

/// What a reload works with.
pub(crate) struct Reloader {
    /// What is in force.
    pub(crate) config: Config,
    pub(crate) sources: Sources,
    pub(crate) service: Arc<SecretService>,
    pub(crate) log: Arc<Log>,
    /// Keeps the source in use going.
    pub(crate) maintenance: AbortOnDropHandle<()>,
}

impl Reloader {
    /// Reloads the file at every SIGHUP, for as long as it is polled. Without a file it only keeps the source
    /// going.
    pub(crate) async fn run(mut self, hangups: Option<(Signal, PathBuf)>) {
        if let Some((mut hangups, path)) = hangups {
            while hangups.recv().await.is_some() {
                self.reload(&path).await;
            }
        }
        // Ends only with the process.
        let _ = self.maintenance.await;
    }

    async fn reload(&mut self, path: &Path) {
        let path = path.to_owned();
        let loaded = match tokio::task::spawn_blocking(move || Config::load(&path)).await {
            Ok(Ok(config)) => config,
            Ok(Err(error)) => {
                tracing::error!(
                    problems = %error,
                    "The config file was not reloaded; the old configuration stays in force"
                );
                return;
            }
            // The runtime is ending.
            Err(_) => return,
        };
        let differing: Vec<String> = loaded
            .differing_keys(&self.config)
            .into_iter()
            .map(str::to_owned)
            .collect();
        let (live, fixed): (Vec<_>, Vec<_>) = differing.into_iter().partition(|key| is_live(key));
        let touches = |tables: &[&str]| {
            live.iter()
                .any(|key| tables.iter().any(|table| key.starts_with(table)))
        };

        if touches(&["Log."]) {
            self.log.apply(Opened::open(&loaded.log));
        }
        if touches(&["KMS.", "Credentials."]) {
            self.replace_source(&loaded).await;
        }
        if touches(&["Cache.", "Server."]) {
            self.service.set_policy(loaded.cache.policy.clone()).await;
        }
        for key in &live {
            self.config.adopt(key, &loaded);
        }
        tracing::info!(changed = live.join(", "), "The configuration was reloaded");
        if !fixed.is_empty() {
            tracing::warn!(keys = fixed.join(", "), "These changes need a restart");
        }
    }

    /// Hands readers over to a new source once that has credentials, so that none of them waits for it.
    async fn replace_source(&mut self, config: &Config) {
        let (source, maintenance) = self.sources.open(&config.kms);
        let clock = &self.sources.clock;
        let deadline = clock.boot() + WARM_UP;
        while !source.credentials().usable && clock.boot() < deadline {
            clock
                .sleep_until(clock.boot() + Duration::from_millis(20))
                .await;
        }
        self.service.set_source(source);
        // Calls under way hold on to the old source; only its background work ends here.
        self.maintenance = maintenance;
    }
}

fn is_live(key: &str) -> bool {
    LIVE.iter().any(|live| {
        if live.ends_with('.') {
            key.starts_with(live)
        } else {
            key == *live
        }
    })
}
