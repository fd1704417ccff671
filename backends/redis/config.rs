use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_core::config::ConfigTable;
use kms_agent_core::registry::{BackendConfig, BackendContext, OpenError};
use kms_agent_core::{CacheBackend, Scope, run_blocking};
use kms_agent_sealed::key::{KeyError, KeySource, RootKey};

use crate::backend::RedisBackend;
use crate::key::{self, FleetKey};
use crate::keyring::Keyring;
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
    let kms_key = table.string(
        "KmsKeyId",
        "",
        "the id or ARN of a key of KMS",
        parse_key_id,
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
    let key = match (key.flatten(), kms_key.unwrap_or_default()) {
        (Some(_), id) if !id.is_empty() => {
            table.problem(
                table.line_of("KmsKeyId"),
                "KmsKeyId",
                "does not go together with KeyFile; set one of them",
            );
            KeyConfig::Kms(id)
        }
        (Some(source), _) => KeyConfig::File(source),
        (None, id) => {
            if id.is_empty() {
                table.require(
                    "KeyFile",
                    "names no key; write one with `alibabacloud-kms-agent key PATH` and distribute it to every agent, or set KmsKeyId",
                );
            }
            KeyConfig::Kms(id)
        }
    };
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
        key,
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
    key: KeyConfig,
    lease: Duration,
}

/// Key as the config names it.
#[derive(Debug)]
enum KeyConfig {
    File(KeySource),
    /// Id or ARN of a key of KMS.
    Kms(String),
}

fn parse_key_id(text: &str) -> Result<String, String> {
    if text.starts_with("alias/") || text.contains(":alias/") {
        return Err("must be the id or ARN of a key; an alias may come to name another".to_owned());
    }
    Ok(text.to_owned())
}

#[async_trait]
impl BackendConfig for RedisConfig {
    fn folders(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn files(&self) -> Vec<PathBuf> {
        let password = self.server.password.as_ref().and_then(KeySource::path);
        let key = match &self.key {
            KeyConfig::File(source) => source.path(),
            KeyConfig::Kms(_) => None,
        };
        [password, key, self.server.ca_file.clone()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn examine(&self) -> Result<String, OpenError> {
        let (keyring, shown) = match &self.key {
            KeyConfig::File(source) => {
                let keyring = key::load(&source.in_full(), &self.prefix)
                    .map_err(|error| OpenError::configuration(error.message()))?;
                let shown = format!("key {}", keyring.fingerprint());
                (keyring, shown)
            }
            // The names that the check uses need some key.
            KeyConfig::Kms(_) => {
                let root = RootKey::random()
                    .map_err(|error| OpenError::shortage(format!("no random numbers: {error}")))?;
                let keyring = Arc::new(Keyring::new(&root, &self.prefix));
                (keyring, "data key of KMS".to_owned())
            }
        };
        crate::server::check(&self.server, &keyring)
            .map(|found| format!("{shown}; {found}"))
            .map_err(OpenError::shortage)
    }

    fn last_scope(&self) -> Option<Scope> {
        None
    }

    async fn open(&self, context: BackendContext) -> Result<Arc<dyn CacheBackend>, OpenError> {
        let (source, keyring) = match &self.key {
            KeyConfig::File(source) => {
                let source = source.in_full();
                let (loading, prefix) = (source.clone(), self.prefix.clone());
                let loaded = run_blocking(move || key::load(&loading, &prefix))
                    .await
                    .map_err(|error| {
                        OpenError::shortage(format!("the key could not be read: {error}"))
                    })?;
                let keyring = match loaded {
                    Ok(keyring) => Some(keyring),
                    Err(error @ (KeyError::Exposed(_) | KeyError::Invalid(_))) => {
                        return Err(OpenError::configuration(error.message()));
                    }
                    // The link looks for it again and again, and says what is missing.
                    Err(KeyError::Missing(_) | KeyError::Unreadable(_)) => None,
                };
                (FleetKey::File(source), keyring)
            }
            KeyConfig::Kms(id) => {
                let source = context.data_keys.clone().ok_or_else(|| {
                    OpenError::configuration("Cache.Redis.KmsKeyId needs an agent that asks KMS")
                })?;
                (FleetKey::kms(id.clone(), source), None)
            }
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
