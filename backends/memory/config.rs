use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kms_agent_core::config::ConfigTable;
use kms_agent_core::registry::{BackendConfig, BackendContext, OpenError};
use kms_agent_core::{CacheBackend, Scope};

use crate::backend::MemoryBackend;

pub(crate) fn configure(_table: &mut ConfigTable<'_>) -> Box<dyn BackendConfig> {
    Box::new(MemoryConfig)
}

#[derive(Debug)]
struct MemoryConfig;

#[async_trait]
impl BackendConfig for MemoryConfig {
    fn folders(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn examine(&self) -> Result<String, OpenError> {
        Ok("a restart starts empty".to_owned())
    }

    fn last_scope(&self) -> Option<Scope> {
        None
    }

    async fn open(&self, context: BackendContext) -> Result<Arc<dyn CacheBackend>, OpenError> {
        Ok(Arc::new(MemoryBackend::new(context.capacity)))
    }
}
