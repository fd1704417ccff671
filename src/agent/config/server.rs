//! Table `Server`: the keys of the HTTP layer, and those of the process.

use kms_agent_core::config::ConfigTable;
use kms_agent_server::ServerSettings;

const PORTS: &str = "0 or a port from 1024 to 65535";

/// Table `Server`.
#[derive(Debug)]
pub(crate) struct ServerConfig {
    pub(crate) http: ServerSettings,
    /// Port; 0 selects a free one.
    pub(crate) http_port: u16,
    /// Environment variables that may hold the token; the first that is set counts.
    pub(crate) token_variables: Vec<String>,
    /// Number of worker threads; 0 selects the documented default.
    pub(crate) worker_threads: usize,
}

impl ServerConfig {
    /// Reads its keys; `None` after a problem.
    pub(crate) fn read(table: &mut ConfigTable<'_>) -> Option<Self> {
        let http_port = table.integer_where("HttpPort", PORTS, 2025, |port| {
            port == 0 || (1024..=65_535).contains(&port)
        });
        let http = ServerSettings::read(table);
        let token_variables = table.strings(
            "SSRFEnvVariables",
            1..=8,
            &[
                "KMS_TOKEN",
                "KMS_SESSION_TOKEN",
                "KMS_CONTAINER_AUTHORIZATION_TOKEN",
            ],
            "a list of 1 to 8 names of environment variables",
            |name| {
                let valid = !name.is_empty() && name.len() <= 256 && !name.contains(['=', '\0']);
                valid
                    .then(|| name.to_owned())
                    .ok_or_else(|| "must hold names of environment variables".to_owned())
            },
        );
        let worker_threads = table.integer("WorkerThreads", 0..=64, 0);
        Some(Self {
            http: http?,
            http_port: u16::try_from(http_port).ok()?,
            token_variables: token_variables?,
            worker_threads: usize::try_from(worker_threads).ok()?,
        })
    }
}
