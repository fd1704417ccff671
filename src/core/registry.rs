//! Registry of backends, chosen by name.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::backend::CacheBackend;
use crate::clock::Clock;
use crate::config::ConfigTable;
use crate::data_key::DataKeySource;
use crate::secret::Scope;

/// The one item that a backend crate exports.
#[derive(Clone, Copy)]
pub struct BackendFactory {
    /// Name in `CacheType`. The backend's own keys stand in the table `Cache.<name>`.
    pub name: &'static str,
    /// Reads the backend's own keys. Opens nothing; bad values become problems of the table's report.
    pub configure: fn(&mut ConfigTable<'_>) -> Box<dyn BackendConfig>,
}

impl fmt::Debug for BackendFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BackendFactory").field(&self.name).finish()
    }
}

/// A backend's validated settings.
#[async_trait]
pub trait BackendConfig: fmt::Debug + Send + Sync {
    /// The folders the backend will read and write, for the process to confine itself to. Those that do not
    /// exist yet are made for this user alone before the backend is opened.
    fn folders(&self) -> Vec<PathBuf>;

    /// The files the backend will read, wherever they are.
    fn files(&self) -> Vec<PathBuf>;

    /// Says in a few words what [`open`](Self::open) will find. Makes, changes and locks nothing, so that it may
    /// be asked while an agent runs. What would stop the start, or leave the backend without its store, is an
    /// error.
    fn examine(&self) -> Result<String, OpenError>;

    /// The scope that the store was last used with, so far as it can be seen by [`examine`](Self::examine)'s
    /// rules.
    fn last_scope(&self) -> Option<Scope>;

    /// Opens the backend. Called once per process, on the runtime.
    async fn open(&self, context: BackendContext) -> Result<Arc<dyn CacheBackend>, OpenError>;
}

/// Context that every backend gets.
#[derive(Clone, Debug)]
pub struct BackendContext {
    /// The most entries to hold.
    pub capacity: NonZeroUsize,
    /// For waiting between retries of its own; never for judging entries.
    pub clock: Arc<dyn Clock>,
    /// For a backend whose key is encrypted under a key of KMS. It answers only once the agent runs, so that
    /// [`open`](BackendConfig::open) must not wait for it. `None` where no KMS can be asked.
    pub data_keys: Option<Arc<dyn DataKeySource>>,
}

/// The start must not go on: a refused key, a store held by another process, a shortage. Trouble that a backend
/// can work around is not such an error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct OpenError {
    /// Decides how the process ends.
    pub kind: OpenErrorKind,
    /// Fault, its location and its remedy.
    pub message: String,
}

/// Cause of a failed start; each says what the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenErrorKind {
    /// The operator must change something. Do not start again.
    Configuration,
    /// Threads, descriptors, memory or the medium are short. Start again later.
    Shortage,
}

impl OpenError {
    /// An error that the operator must fix.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self {
            kind: OpenErrorKind::Configuration,
            message: message.into(),
        }
    }

    /// An error that may pass.
    pub fn shortage(message: impl Into<String>) -> Self {
        Self {
            kind: OpenErrorKind::Shortage,
            message: message.into(),
        }
    }
}

/// The backends built into this agent.
#[derive(Clone, Copy, Debug)]
pub struct Registry(&'static [BackendFactory]);

impl Registry {
    /// From a list that a person can read.
    pub const fn new(factories: &'static [BackendFactory]) -> Self {
        Self(factories)
    }

    /// Reads `CacheType` and every backend's own table from the table `Cache`, and returns the chosen one's
    /// settings. An unknown name is a problem of the report that lists what there is.
    pub fn configure(
        &self,
        cache: &mut ConfigTable<'_>,
        default: &'static str,
    ) -> Option<ChosenBackend> {
        let names: Vec<&'static str> = self.0.iter().map(|factory| factory.name).collect();
        let chosen = cache.choice("CacheType", &names, default);
        let mut result = None;
        for factory in self.0 {
            let mut table = cache.table(factory.name);
            let config = (factory.configure)(&mut table);
            if factory.name == chosen {
                table.report_missing();
            }
            table.finish();
            if factory.name == chosen {
                result = Some(ChosenBackend {
                    name: factory.name,
                    config,
                });
            }
        }
        result
    }
}

/// The backend that the config file selects.
#[derive(Debug)]
pub struct ChosenBackend {
    /// The name in `CacheType`.
    pub name: &'static str,
    /// Its settings.
    pub config: Box<dyn BackendConfig>,
}
