use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kms_agent_core::config::ConfigTable;
use kms_agent_core::registry::{BackendConfig, BackendContext, OpenError};
use kms_agent_core::{CacheBackend, Scope, run_blocking};
use kms_agent_sealed::key::KeySource;
use kms_agent_sealed::private;

use crate::backend::RedbBackend;
use crate::examine::{examine, last_scope};
use crate::store::{FileSystem, Store, StoreLocation};

const DEFAULT_PATH: &str = "./cache/kms-agent.redb";
const DEFAULT_KEY_FILE: &str = "./keys/kms-agent.key";

pub(crate) fn configure(table: &mut ConfigTable<'_>) -> Box<dyn BackendConfig> {
    let path = table.string("Path", DEFAULT_PATH, "the path of a file", parse_path);
    let key = table.string(
        "KeyFile",
        DEFAULT_KEY_FILE,
        "the path of a file, or credential:NAME",
        KeySource::parse,
    );
    Box::new(RedbConfig {
        path: path.unwrap_or_else(|| PathBuf::from(DEFAULT_PATH)),
        key: key.unwrap_or_else(|| KeySource::File(PathBuf::from(DEFAULT_KEY_FILE))),
    })
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.file_name().is_none() || text.ends_with('/') || text.contains('\0') {
        Err("must be the path of a file".to_owned())
    } else {
        Ok(path)
    }
}

#[derive(Debug)]
struct RedbConfig {
    path: PathBuf,
    key: KeySource,
}

impl RedbConfig {
    /// Absolute paths of store and key, for messages and the status.
    fn in_full(&self) -> (PathBuf, KeySource) {
        (private::in_full(&self.path), self.key.in_full())
    }
}

#[async_trait]
impl BackendConfig for RedbConfig {
    /// Includes the key's folder, since `purge --all` replaces the key.
    fn folders(&self) -> Vec<PathBuf> {
        let key = self.key.target();
        std::iter::once(&self.path)
            .chain(key.as_ref())
            .map(|file| private::folder(file).to_owned())
            .collect()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.key.path().into_iter().collect()
    }

    fn examine(&self) -> Result<String, OpenError> {
        let (path, key) = self.in_full();
        examine(&path, &key).map_err(OpenError::configuration)
    }

    fn last_scope(&self) -> Option<Scope> {
        last_scope(&self.path, &self.key)
    }

    async fn open(&self, context: BackendContext) -> Result<Arc<dyn CacheBackend>, OpenError> {
        let (path, key) = self.in_full();
        let location = StoreLocation {
            path,
            key,
            medium: Arc::new(FileSystem),
            clock: context.clock,
        };
        let capacity = context.capacity;
        let started = run_blocking(move || Store::open(location, capacity))
            .await
            .unwrap_or_else(|error| {
                Err(OpenError::shortage(format!(
                    "the store could not be opened: {error}"
                )))
            })?;
        Ok(Arc::new(RedbBackend::new(started)))
    }
}
