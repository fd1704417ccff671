//! Reload of the config file on SIGHUP. Keys that need no restart take effect.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_cache::SecretService;
use kms_agent_core::{SecretSource, run_blocking};
use kms_agent_files::Files;
use kms_agent_kms::files as kms_files;
use kms_agent_trust::folder_of;
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::callers::{CallerConfig, Callers};
use super::data_keys::DataKeys;
use super::files;
use super::source::Sources;
use crate::config::{Config, ConfigFile, LogConfig, LogTarget};
use crate::platform::Hangups;
use crate::process::reach::Reach;
use crate::process::supervisor::Supervisor;
use crate::telemetry::{Log, OpenLog};

/// Tables whose keys all take effect at a reload, and single keys of other tables.
const LIVE: [&str; 13] = [
    "Client",
    "Server.DefaultSecrets",
    "Log.",
    "KMS.",
    "Credentials.",
    "Cache.TtlSeconds",
    "Cache.MaxStaleSeconds",
    "Cache.NegativeTtlSeconds",
    "Cache.RefreshAhead",
    "Cache.WatchSeconds",
    "Server.IgnoreTransientErrors",
    "Secret",
    "File",
];

/// Time for a new source to get credentials before readers use it anyway.
const WARM_UP: Duration = Duration::from_secs(5);

/// Future of a task that can be started more than once.
type BoxedTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Parts of the agent that a reload changes.
pub(crate) struct Reloader {
    /// Config in force.
    pub(crate) config: Config,
    pub(crate) sources: Sources,
    pub(super) data_keys: Arc<DataKeys>,
    pub(crate) service: Arc<SecretService>,
    pub(crate) files: Arc<Files>,
    pub(crate) log: Arc<Log>,
    /// Task that maintains the current source.
    pub(crate) maintenance: AbortOnDropHandle<()>,
    /// Paths that the process may open.
    pub(crate) reach: Reach,
    pub(crate) callers: Arc<Callers>,
    pub(crate) supervisor: Arc<Supervisor>,
    /// A reload has begun and not ended; it stays set after a panic.
    pub(crate) is_reloading: bool,
}

impl Reloader {
    /// Returns a task that reloads the file at every SIGHUP while it is polled. Reloader and signals outlive each task.
    /// Without a file the task only keeps the source alive.
    pub(crate) fn runner(
        self,
        hangups: Option<(Hangups, ConfigFile)>,
    ) -> impl Fn() -> BoxedTask + Send + 'static {
        let hangups = hangups.map(|(hangups, file)| (hangups, Arc::new(file)));
        let shared = Arc::new(Mutex::new((self, hangups)));
        move || {
            let shared = Arc::clone(&shared);
            Box::pin(async move {
                let mut shared = shared.lock().await;
                let (reloader, hangups) = &mut *shared;
                reloader.run(hangups.as_mut()).await;
            })
        }
    }

    async fn run(&mut self, hangups: Option<&mut (Hangups, Arc<ConfigFile>)>) {
        let Some((hangups, file)) = hangups else {
            return std::future::pending().await;
        };
        loop {
            if std::mem::take(&mut self.is_reloading) {
                // The service manager still waits for a reload that panicked.
                self.supervisor
                    .ready("the reload failed; the log says why. Send SIGHUP again");
            }
            hangups.next().await;
            self.supervisor.reloading();
            self.is_reloading = true;
            let status = self.reload(file).await;
            self.is_reloading = false;
            self.supervisor.ready(status);
        }
    }

    /// Returns the outcome as a status text.
    async fn reload(&mut self, file: &Arc<ConfigFile>) -> &'static str {
        // First, and also with a bad config: log rotation relies on it.
        let log = self.config.log.clone();
        self.reopen_log(log.clone(), log).await;
        let (file, has_keys) = (Arc::clone(file), self.config.has_keys());
        let environment = self.sources.environment.clone();
        let read =
            move || Config::load_trusted_again(&file.path, &file.overrides, &environment, has_keys);
        let mut loaded = match run_blocking(read).await {
            Ok(Ok(config)) => config,
            Ok(Err(error)) => {
                tracing::error!(
                    problems = %error,
                    "The config file was not reloaded; the old configuration stays in force"
                );
                return "the config file was refused; the old configuration stays in force";
            }
            Err(error) => {
                tracing::error!(
                    cause = %error,
                    "The config file could not be read; the old configuration stays in force. Send SIGHUP again"
                );
                return "the config file could not be read; the old configuration stays in force";
            }
        };
        if names_location(&self.config) && !names_location(&loaded) {
            // The file is probably being written. Cached entries belong to an endpoint, and would be lost too.
            tracing::error!(
                "The config file no longer has KMS.Region or KMS.Endpoint and was not reloaded; the old configuration \
                 stays in force. Restart the agent to run without both"
            );
            return "the config file was refused; the old configuration stays in force";
        }
        let differing: Vec<String> = loaded
            .differing_keys(&self.config)
            .into_iter()
            .map(str::to_owned)
            .collect();
        let barred = self.keep_what_is_barred(&mut loaded);
        if differing
            .iter()
            .any(|key| ["Client", "Server.DefaultSecrets"].contains(&key.as_str()))
            && let Some(status) = self.replace_callers(&loaded).await
        {
            return status;
        }
        let (mut live, fixed): (Vec<_>, Vec<_>) = differing
            .into_iter()
            .partition(|key| is_live(key) && !barred.iter().any(|prefix| key.starts_with(prefix)));
        let touches = |tables: &[&str]| {
            live.iter()
                .any(|key| tables.iter().any(|table| key.starts_with(table)))
        };

        if touches(&["Log."]) {
            let former = std::mem::replace(&mut self.config.log, loaded.log.clone());
            self.reopen_log(loaded.log.clone(), former).await;
        }
        for warning in self.config.adopt_file(&mut loaded) {
            tracing::warn!("{warning}");
        }
        if touches(&["KMS.", "Credentials."]) {
            if self.config.kms.kms.endpoint.is_some() && loaded.kms.kms.endpoint.is_none() {
                tracing::warn!(
                    "The config no longer has KMS.Endpoint; the public endpoint of the region is used"
                );
            }
            self.replace_source(&loaded).await;
            self.config.kms = loaded.kms.clone();
        }
        if touches(&["Cache.", "Server.", "Secret"]) {
            self.service.set_policy(loaded.cache.policy.clone()).await;
        }
        if !touches(&["File"]) {
            // A template may have changed.
            self.files.refresh();
        } else if !self.replace_files(&mut loaded).await {
            live.retain(|key| key != "File");
        }
        for key in &live {
            self.config.adopt(key, &loaded);
        }
        tracing::info!(changed = live.join(", "), "The configuration was reloaded");
        if fixed.is_empty() {
            return "the configuration was reloaded";
        }
        tracing::warn!(keys = fixed.join(", "), "These changes need a restart");
        if !barred.is_empty() {
            tracing::warn!(
                "Some of them name files outside the folders that the process may open since its start"
            );
        }
        "the configuration was reloaded; the log names what needs a restart"
    }

    /// Replaces the list of files. Returns false if a group cannot be used and the old list stays.
    async fn replace_files(&mut self, loaded: &mut Config) -> bool {
        match files::resolve(&loaded.files) {
            Ok(files) => {
                self.files.replace(files).await;
                self.config.files = std::mem::take(&mut loaded.files);
                true
            }
            Err(why) => {
                tracing::error!(
                    cause = why,
                    "The list of files was not reloaded; the old one stays in force"
                );
                false
            }
        }
    }

    /// Opens the log file again, even if no key has changed, on a thread that may wait for the disk.
    async fn reopen_log(&self, config: LogConfig, former: LogConfig) {
        let log = Arc::clone(&self.log);
        let reopen = move || log.apply(OpenLog::again(&config, &former));
        if let Err(error) = run_blocking(reopen).await {
            tracing::error!(
                cause = %error,
                "The log file could not be reopened; send SIGHUP again"
            );
        }
    }

    /// Puts the clients of `loaded` in force. Returns the outcome after a failure.
    async fn replace_callers(&mut self, loaded: &Config) -> Option<&'static str> {
        let (callers, settings) = (Arc::clone(&self.callers), CallerConfig::of(loaded));
        let error = match run_blocking(move || callers.replace(&settings)).await {
            Ok(Ok(())) => {
                self.config.clients.clone_from(&loaded.clients);
                return None;
            }
            Ok(Err(failure)) => failure.message().to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::error!(
            cause = error,
            "The clients could not be opened; the old configuration stays in force. Correct the file and send SIGHUP \
             again"
        );
        Some("the config file was refused; the old configuration stays in force")
    }

    /// Keeps settings whose new values need files that the process may no longer open. Returns the prefixes of the keys
    /// that are kept.
    fn keep_what_is_barred(&self, loaded: &mut Config) -> Vec<&'static str> {
        let mut barred = Vec::new();
        if let LogTarget::Folder(folder) = &loaded.log.target
            && loaded.log.target != self.config.log.target
            && !self.reach.may_write(folder)
        {
            loaded.log.target = self.config.log.target.clone();
            barred.push("Log.LogPath");
        }
        let known = |file: &PathBuf| {
            let mut clients = self.config.clients.iter();
            clients.any(|it| it.token_file.as_ref() == Some(file)) || self.reach.may_read(file)
        };
        let tokens: Vec<&PathBuf> = loaded
            .clients
            .iter()
            .filter_map(|it| it.token_file.as_ref())
            .collect();
        if !tokens.into_iter().all(known) {
            loaded.clients.clone_from(&self.config.clients);
            barred.push("Client");
        }
        let files = |config: &Config| kms_files::all(&config.kms, &self.sources.environment);
        let known = files(&self.config);
        if files(loaded)
            .iter()
            .any(|file| !known.contains(file) && !self.reach.may_read(file))
        {
            loaded.kms = self.config.kms.clone();
            barred.extend(["KMS.", "Credentials."]);
        }
        let is_barred = loaded.files.iter().any(|file| {
            !self.reach.may_replace(folder_of(&file.path))
                || file
                    .template()
                    .is_some_and(|path| !self.reach.may_read(path))
        });
        if is_barred {
            loaded.files.clone_from(&self.config.files);
            barred.push("File");
        }
        barred
    }

    /// Replaces the source once the new one has credentials, so that no reader waits for them.
    async fn replace_source(&mut self, config: &Config) {
        let (source, maintenance) = self.sources.open(&config.kms);
        let clock = &self.sources.clock;
        let deadline = clock.boot() + WARM_UP;
        while !source.credentials().usable && clock.boot() < deadline {
            clock
                .sleep_until(clock.boot() + Duration::from_millis(20))
                .await;
        }
        self.data_keys.set(Arc::clone(&source) as _);
        self.service.set_source(source);
        // Calls in flight keep the old source alive; only its background work stops here.
        self.maintenance = maintenance;
    }
}

/// Whether the config names a region or an endpoint.
fn names_location(config: &Config) -> bool {
    config.kms.kms.region.is_some() || config.kms.kms.endpoint.is_some()
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
