//! Connections by what the config says.

use std::fmt;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::{Clock, run_blocking};
use kms_agent_sealed::key::KeySource;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{
    SentinelClient, SentinelClientBuilder, SentinelNodeConnectionInfo, SentinelServerType,
};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError,
    TlsCertificates, TlsMode,
};
use zeroize::Zeroizing;

use super::trouble::{Trouble, TroubleKind};

/// Time to connect and log in, in the background.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest password.
const MAX_PASSWORD_BYTES: usize = 4096;
/// Longest password or CA file that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Kinds of deployments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Standalone,
    Cluster,
    Sentinel,
}

/// Server and login.
#[derive(Clone, Debug)]
pub(crate) struct ServerSettings {
    /// Checked when the config is read.
    pub(crate) urls: Vec<String>,
    pub(crate) mode: Mode,
    pub(crate) sentinel_master: String,
    pub(crate) user_name: String,
    pub(crate) password: Option<KeySource>,
    pub(crate) ca_file: Option<PathBuf>,
    /// Limit of what a reader waits for.
    pub(crate) timeout: Duration,
}

/// An open connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    medium: Medium,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
enum Medium {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Files that a connection needs, read for each of them.
struct Login {
    password: Option<Zeroizing<String>>,
    roots: Option<Vec<u8>>,
}

/// Returns what is wrong with the text of a URL.
pub(crate) fn check_url(text: &str) -> Result<String, String> {
    let url = redis::parse_redis_url(text)
        .filter(|url| matches!(url.scheme(), "redis" | "rediss"))
        .ok_or("must be a URL such as redis://host:6379 or rediss://host:6379")?;
    if url.password().is_some() || !url.username().is_empty() {
        return Err(
            "must not contain a user name or password; set Cache.Redis.UserName and Cache.Redis.PasswordFile".to_owned(),
        );
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("must name a host".to_owned());
    }
    text.into_connection_info()
        .map(|_| text.to_owned())
        .map_err(|_| "must be a URL such as redis://host:6379/0".to_owned())
}

/// Returns whether a connection to `url` may cross a network in clear.
pub(crate) fn is_exposed(url: &str) -> bool {
    redis::parse_redis_url(url).is_some_and(|url| {
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        url.scheme() == "redis" && !is_loopback
    })
}

impl ServerSettings {
    /// Connects and logs in.
    pub(crate) async fn connect(&self, clock: &Arc<dyn Clock>) -> Result<Connection, Trouble> {
        let settings = self.clone();
        let login = run_blocking(move || settings.login())
            .await
            .map_err(|error| Trouble::new(TroubleKind::Failing, error.to_string()))??;
        let deadline = clock.boot() + CONNECT_TIMEOUT;
        let medium = tokio::select! {
            medium = self.open(&login) => medium?,
            () = clock.sleep_until(deadline) => return Err(Trouble::timed_out()),
        };
        Ok(Connection {
            medium,
            clock: Arc::clone(clock),
        })
    }

    async fn open(&self, login: &Login) -> Result<Medium, Trouble> {
        let infos = self
            .urls
            .iter()
            .map(|url| self.connection_info(url, login))
            .collect::<Result<Vec<_>, RedisError>>()?;
        Ok(match self.mode {
            Mode::Standalone => {
                let mut last = Trouble::new(TroubleKind::Unreachable, "no URL");
                for info in infos {
                    match single(info, login).await {
                        Ok(connection) => return Ok(Medium::Single(connection)),
                        Err(error) => last = error.into(),
                    }
                }
                return Err(last);
            }
            Mode::Sentinel => {
                let is_tls = self.urls.iter().any(|url| url.starts_with("rediss:"));
                let mut node = SentinelNodeConnectionInfo::default()
                    .set_redis_connection_info(self.redis_settings(0, login));
                if is_tls {
                    node = node.set_tls_mode(TlsMode::Secure);
                }
                let sentinels = self
                    .urls
                    .iter()
                    .map(|url| url.as_str().into_connection_info())
                    .collect::<Result<Vec<_>, _>>()?;
                let database = sentinels
                    .first()
                    .map_or(0, |info| info.redis_settings().db());
                let sentinels = sentinels
                    .into_iter()
                    .map(|info| {
                        let plain = RedisConnectionInfo::default().set_skip_set_lib_name();
                        info.set_redis_settings(plain)
                    })
                    .collect::<Vec<_>>();
                let mut sentinel = match &login.roots {
                    Some(roots) if is_tls => self.sentinel_with(roots, sentinels, login)?,
                    _ => SentinelClient::build(
                        sentinels,
                        &self.sentinel_master,
                        Some(node),
                        SentinelServerType::Master,
                    )?,
                };
                let master = sentinel.async_get_client().await?;
                let address = master.get_connection_info().addr().clone();
                let info = address
                    .into_connection_info()?
                    .set_redis_settings(self.redis_settings(database, login));
                Medium::Single(single(info, login).await?)
            }
            Mode::Cluster => {
                let is_tls = self.urls.iter().any(|url| url.starts_with("rediss:"));
                let mut builder = ClusterClientBuilder::new(infos)
                    .retries(2)
                    .use_protocol(ProtocolVersion::RESP2)
                    .connection_timeout(CONNECT_TIMEOUT)
                    .response_timeout(CONNECT_TIMEOUT);
                if let Some(password) = &login.password {
                    builder = builder.password(password.as_str());
                }
                if !self.user_name.is_empty() {
                    builder = builder.username(&self.user_name);
                }
                if is_tls {
                    builder = builder.tls(TlsMode::Secure);
                    if let Some(roots) = &login.roots {
                        builder = builder.certs(certificates(roots));
                    }
                }
                Medium::Cluster(builder.build()?.get_async_connection().await?)
            }
        })
    }

    /// Builds the client of sentinels whose certificates are of a CA of the operator's.
    fn sentinel_with(
        &self,
        roots: &[u8],
        sentinels: Vec<ConnectionInfo>,
        login: &Login,
    ) -> Result<SentinelClient, RedisError> {
        let addresses = sentinels.into_iter().map(|info| info.addr().clone());
        let master = SentinelServerType::Master;
        let mut builder = SentinelClientBuilder::new(addresses, &self.sentinel_master, master)?
            .set_client_to_redis_protocol(ProtocolVersion::RESP2)
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates(roots))
            .set_client_to_sentinel_protocol(ProtocolVersion::RESP2)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(certificates(roots));
        if !self.user_name.is_empty() {
            builder = builder.set_client_to_redis_username(&self.user_name);
        }
        if let Some(password) = &login.password {
            builder = builder.set_client_to_redis_password(password.as_str());
        }
        builder.build()
    }

    fn connection_info(&self, url: &str, login: &Login) -> Result<ConnectionInfo, RedisError> {
        let info = url.into_connection_info()?;
        let settings = self.redis_settings(info.redis_settings().db(), login);
        Ok(info.set_redis_settings(settings))
    }

    fn redis_settings(&self, database: i64, login: &Login) -> RedisConnectionInfo {
        let mut settings = RedisConnectionInfo::default()
            .set_db(database)
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        if !self.user_name.is_empty() {
            settings = settings.set_username(&self.user_name);
        }
        if let Some(password) = &login.password {
            settings = settings.set_password(password.as_str());
        }
        settings
    }

    fn login(&self) -> Result<Login, Trouble> {
        let read = |path: &PathBuf, what: &str| {
            read_file(path).map_err(|error| {
                Trouble::new(
                    TroubleKind::FileUnreadable,
                    format!("{what} {} cannot be read: {error}", path.display()),
                )
            })
        };
        let password = match &self.password {
            None => None,
            Some(source) => {
                let path = source.path().ok_or_else(|| {
                    Trouble::new(
                        TroubleKind::LoginRefused,
                        "Cache.Redis.PasswordFile names a credential, but systemd provides no credentials",
                    )
                })?;
                let bytes = Zeroizing::new(read(&path, "the password file")?);
                let text = std::str::from_utf8(&bytes)
                    .map(str::trim)
                    .ok()
                    .filter(|text| !text.is_empty() && text.len() <= MAX_PASSWORD_BYTES)
                    .ok_or_else(|| {
                        Trouble::new(
                            TroubleKind::LoginRefused,
                            format!("the password file {} holds no password", path.display()),
                        )
                    })?;
                Some(Zeroizing::new(text.to_owned()))
            }
        };
        let roots = match &self.ca_file {
            None => None,
            Some(path) => Some(read(path, "the CA file")?),
        };
        Ok(Login { password, roots })
    }
}

/// Reads a regular file of a sane length: a pipe would block.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    let mut bytes = Vec::new();
    let limit = MAX_FILE_BYTES + 1;
    let read = std::fs::File::open(path)?
        .take(limit)
        .read_to_end(&mut bytes)?;
    if read as u64 == limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is longer than 1 MiB",
        ));
    }
    Ok(bytes)
}

async fn single(info: ConnectionInfo, login: &Login) -> Result<MultiplexedConnection, RedisError> {
    let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    let client = match &login.roots {
        Some(roots) if is_tls => Client::build_with_tls(info, certificates(roots))?,
        _ => Client::open(info)?,
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None);
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

fn certificates(roots: &[u8]) -> TlsCertificates {
    TlsCertificates {
        client_tls: None,
        root_cert: Some(roots.to_vec()),
    }
}

impl Connection {
    /// Sends one command and waits for its answer no longer than `timeout`.
    pub(crate) async fn query<T: FromRedisValue>(
        &self,
        command: &Cmd,
        timeout: Duration,
    ) -> Result<T, Trouble> {
        let mut medium = self.medium.clone();
        let deadline = self.clock.boot() + timeout;
        let answer = async {
            match &mut medium {
                Medium::Single(connection) => command.query_async(connection).await,
                Medium::Cluster(connection) => command.query_async(connection).await,
            }
        };
        tokio::select! {
            answer = answer => answer.map_err(Trouble::from),
            () = self.clock.sleep_until(deadline) => Err(Trouble::timed_out()),
        }
    }

    /// Sends several commands at once. Each of them may fail by itself.
    pub(crate) async fn query_all(
        &self,
        pipeline: &Pipeline,
        timeout: Duration,
    ) -> Result<Vec<Result<redis::Value, RedisError>>, Trouble> {
        let mut medium = self.medium.clone();
        let deadline = self.clock.boot() + timeout;
        let answer = async {
            match &mut medium {
                Medium::Single(connection) => run(pipeline, connection).await,
                Medium::Cluster(connection) => run(pipeline, connection).await,
            }
        };
        tokio::select! {
            answer = answer => answer.map_err(Trouble::from),
            () = self.clock.sleep_until(deadline) => Err(Trouble::timed_out()),
        }
    }
}

async fn run(
    pipeline: &Pipeline,
    connection: &mut impl ConnectionLike,
) -> Result<Vec<Result<redis::Value, RedisError>>, RedisError> {
    pipeline.query_async(connection).await
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_no_login() {
        for good in [
            "redis://localhost",
            "rediss://cache.example:6380/2",
            "redis://[::1]:7000",
        ] {
            assert!(check_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost:6379",
            "http://localhost",
            "redis://:password@localhost",
            "redis://user@localhost",
            "unix:///run/redis.sock",
            "redis://localhost/x",
        ] {
            let problem = check_url(bad).unwrap_err();
            assert!(!problem.contains("password@"), "{problem}");
        }
    }

    #[test]
    fn only_a_plain_connection_beyond_loopback_is_exposed() {
        assert!(is_exposed("redis://cache.example"));
        for safe in [
            "rediss://cache.example",
            "redis://127.0.0.2",
            "redis://LOCALHOST",
            "redis://[::1]:7000",
        ] {
            assert!(!is_exposed(safe), "{safe}");
        }
    }
}
