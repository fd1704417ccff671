//! Table `Server`: the keys of the HTTP layer, and those of the process.

use std::path::PathBuf;

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
    /// The Unix socket.
    pub(crate) socket: SocketConfig,
    /// Number of worker threads; 0 selects the documented default.
    pub(crate) worker_threads: usize,
}

/// The Unix socket beside the TCP listeners.
#[derive(Clone, Debug)]
pub(crate) struct SocketConfig {
    /// `None` is no socket.
    pub(crate) path: Option<PathBuf>,
    /// Permissions of the socket.
    pub(crate) mode: u32,
    /// Name or number of its group.
    pub(crate) group: Option<String>,
}

/// Bytes of a socket's path, and those of the end that its temporary name has.
const MAX_PATH: usize = 107;
pub(crate) const UNPLACED: &str = ".new";

impl SocketConfig {
    fn read(table: &mut ConfigTable<'_>) -> Option<Self> {
        let path = table.string("SocketPath", "", SOCKET_PATH, parse_socket);
        let mode = table.string("SocketMode", "0660", SOCKET_MODE, parse_mode);
        table.number_as_text("SocketGroup");
        let group = table.string("SocketGroup", "", "a group of the agent", |text| {
            Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
        });
        Some(Self {
            path: path?,
            mode: mode?,
            group: group?,
        })
    }
}

const SOCKET_PATH: &str = "a path of at most 103 bytes";
const SOCKET_MODE: &str = "an octal mode from 0000 to 0777";

fn parse_socket(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "" => Ok(None),
        _ if cfg!(not(unix)) => Err("is not supported on this system".to_owned()),
        _ if text.starts_with('@') || text.contains('\0') => Err(
            "must be a path: an abstract socket has no permissions, so every program could connect"
                .to_owned(),
        ),
        _ if text.len() + UNPLACED.len() > MAX_PATH => {
            Err(format!("must be {SOCKET_PATH}; choose a shorter one"))
        }
        _ => Ok(Some(PathBuf::from(text))),
    }
}

fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| format!("must be {SOCKET_MODE}"))
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
        let socket = SocketConfig::read(table);
        let worker_threads = table.integer("WorkerThreads", 0..=64, 0);
        Some(Self {
            http: http?,
            http_port: u16::try_from(http_port).ok()?,
            token_variables: token_variables?,
            socket: socket?,
            worker_threads: usize::try_from(worker_threads).ok()?,
        })
    }
}
