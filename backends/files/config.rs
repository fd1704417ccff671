use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kms_agent_core::config::ConfigTable;
use kms_agent_core::registry::{BackendConfig, BackendContext, OpenError};
use kms_agent_core::shortage::may_pass;
use kms_agent_core::{CacheBackend, Scope, run_blocking};

use crate::backend::FilesBackend;
use crate::folder::Folder;

const DEFAULT_PATH: &str = "./cache/files";

pub(crate) fn configure(table: &mut ConfigTable<'_>) -> Box<dyn BackendConfig> {
    let path = table.string("Path", DEFAULT_PATH, "the path of a folder", parse_path);
    Box::new(FilesConfig {
        // With a problem in the report, startup ends before the path is used.
        path: path.unwrap_or_else(|| PathBuf::from(DEFAULT_PATH)),
    })
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        Err("must be the path of a folder".to_owned())
    } else {
        Ok(PathBuf::from(text))
    }
}

#[derive(Debug)]
struct FilesConfig {
    path: PathBuf,
}

#[async_trait]
impl BackendConfig for FilesConfig {
    fn folders(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn examine(&self) -> Result<String, OpenError> {
        let shown = self.path.display();
        match self.path.metadata() {
            Ok(found) if found.is_dir() => Ok(format!("the folder {shown} is there")),
            Ok(_) => Err(OpenError::configuration(format!(
                "{shown} is not a folder; choose another Cache.Files.Path"
            ))),
            Err(_) => Ok(format!("the folder {shown} will be made")),
        }
    }

    fn last_scope(&self) -> Option<Scope> {
        None
    }

    async fn open(&self, context: BackendContext) -> Result<Arc<dyn CacheBackend>, OpenError> {
        let path = self.path.clone();
        let opened = run_blocking(move || Folder::open(path, context.capacity));
        let shown = self.path.display();
        match opened.await {
            Ok(Ok(folder)) => Ok(Arc::new(FilesBackend::new(folder))),
            Ok(Err(error)) => {
                let message = format!("the cache's folder {shown} cannot be used: {error}");
                Err(if may_pass(&error) {
                    OpenError::shortage(message)
                } else {
                    OpenError::configuration(message)
                })
            }
            Err(error) => Err(OpenError::shortage(format!(
                "the cache's folder {shown} could not be opened: {error}"
            ))),
        }
    }
}
