use std::path::{self, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_core::config::ConfigTable;
use kms_agent_core::registry::{BackendConfig, BackendContext, OpenError};
use kms_agent_core::{CacheBackend, Scope, run_blocking};
use kms_agent_sealed::key::{KeyError, KeySource};

use crate::backend::RedisBackend;
use crate::key;
use crate::local::LocalMap;
use crate::server::{Link, Mode, ServerSettings, check_url, is_exposed};

const DEFAULT_PREFIX: &str = "kms-agent:";
const MAX_PREFIX: usize = 64;
const DEFAULT_TIMEOUT_MS: u32 = 200;
const DEFAULT_LEASE_SECONDS: u32 = 3;

pub(crate) fn configure(table: &mut ConfigTable<'_>) -> Box<dyn BackendConfig> {
    let urls = table.one_or_more(
        "Url",
        "a URL such as redis://host:6379, or a list of them",
        check_url,
    );
    let mode = match table.choice("Mode", &["Standalone", "Cluster", "Sentinel"], "Standalone") {
        "Cluster" => Mode::Cluster,
        "Sentinel" => Mode::Sentinel,
        _ => Mode::Standalone,
    };
    let text = |text: &str| Ok(text.to_owned());
    let sentinel_master = table.string(
        "SentinelMaster",
        "",
        "the name of the primary's group",
        text,
    );
    let user_name = table.string("UserName", "", "a user of the server's ACL", text);
    let password = table.string(
        "PasswordFile",
        "",
        "the path of a file, or credential:NAME",
        optional,
    );
    let ca_file = table.string("CaFile", "", "the path of a PEM file", |text| {
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    });
    let prefix = table.string(
        "Prefix",
        DEFAULT_PREFIX,
        "1 to 64 printable characters without braces",
        parse_prefix,
    );
    let key = table.string(
        "KeyFile",
        "",
        "the path of a file, or credential:NAME",
        optional,
    );
    let timeout = table.integer("TimeoutMs", 20..=5000, DEFAULT_TIMEOUT_MS);
    let lease = table.integer("LeaseSeconds", 1..=10, DEFAULT_LEASE_SECONDS);
    let sentinel_master = sentinel_master.unwrap_or_default();
    if mode == Mode::Sentinel && sentinel_master.is_empty() {
        table.problem(
            table.line_of("Mode"),
            "SentinelMaster",
            "names the primary's group where Mode is Sentinel",
        );
    }
    let urls = urls.unwrap_or_default();
    if urls.is_empty() {
        table.require(
            "Url",
            "names no server; set it, as in Url = \"rediss://cache.example:6379\"",
        );
    }
    let key = key.flatten();
    if key.is_none() {
        table.require(
            "KeyFile",
            "names no key; write one with `alibabacloud-kms-agent key PATH` and distribute it to every agent",
        );
    }
    Box::new(RedisConfig {
        server: ServerSettings {
            urls,
            mode,
            sentinel_master,
            user_name: user_name.unwrap_or_default(),
            password: password.flatten(),
            ca_file: ca_file.flatten(),
            timeout: Duration::from_millis(timeout.into()),
        },
        prefix: prefix.unwrap_or_else(|| DEFAULT_PREFIX.to_owned()),
        key: key.unwrap_or_else(|| KeySource::File(PathBuf::new())),
        lease: Duration::from_secs(lease.into()),
    })
}

fn optional(text: &str) -> Result<Option<KeySource>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    KeySource::parse(text).map(Some)
}

fn parse_prefix(text: &str) -> Result<String, String> {
    let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.is_empty() || text.len() > MAX_PREFIX || !is_printable || text.contains(['{', '}']) {
        Err("must be 1 to 64 printable characters without braces".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

#[derive(Debug)]
struct RedisConfig {
    server: ServerSettings,
    prefix: String,
    key: KeySource,
    lease: Duration,
}

impl RedisConfig {
    /// Returns the key's source, with its path in full so that an operator finds the file that messages name.
    fn key(&self) -> KeySource {
        match &self.key {
            KeySource::File(path) => {
                // The working directory may have been removed; then the path is as it is written.
                KeySource::File(path::absolute(path).unwrap_or_else(|_| path.clone()))
            }
            source @ KeySource::Credential(_) => source.clone(),
        }
    }
}

#[async_trait]
impl BackendConfig for RedisConfig {
    fn folders(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn files(&self) -> Vec<PathBuf> {
        let password = self.server.password.as_ref().and_then(KeySource::path);
        let key = self.key.path();
        [password, key, self.server.ca_file.clone()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn examine(&self) -> Result<String, OpenError> {
        let keyring = key::load(&self.key(), &self.prefix)
            .map_err(|error| OpenError::configuration(error.message()))?;
        let fingerprint = keyring.fingerprint();
        crate::server::check(&self.server, &keyring)
            .map(|found| format!("key {fingerprint}; {found}"))
            .map_err(OpenError::shortage)
    }

    fn last_scope(&self) -> Option<Scope> {
        None
    }

    async fn open(&self, context: BackendContext) -> Result<Arc<dyn CacheBackend>, OpenError> {
        let source = self.key();
        let (loading, prefix) = (source.clone(), self.prefix.clone());
        let loaded = run_blocking(move || key::load(&loading, &prefix))
            .await
            .map_err(|error| OpenError::shortage(format!("the key could not be read: {error}")))?;
        let keyring = match loaded {
            Ok(keyring) => Some(keyring),
            Err(error @ (KeyError::Exposed(_) | KeyError::Invalid(_))) => {
                return Err(OpenError::configuration(error.message()));
            }
            // The link looks for it again and again, and says what is missing.
            Err(KeyError::Missing(_) | KeyError::Unreadable(_)) => None,
        };
        for url in self.server.urls.iter().filter(|url| is_exposed(url)) {
            tracing::warn!(
                url = url.as_str(),
                "The connection to the shared cache server is not encrypted; use rediss://"
            );
        }
        let local = LocalMap::new(context.capacity)
            .map_err(|error| OpenError::shortage(format!("no random numbers: {error}")))?;
        let link = Link::new(
            self.server.clone(),
            source,
            self.prefix.clone(),
            self.lease,
            local,
            keyring,
            context.clock,
        );
        Ok(Arc::new(RedisBackend::start(link)))
    }
}
