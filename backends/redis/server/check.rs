//! The server as `check` tries it: connection, login, each command, clock, eviction policy, connections.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kms_agent_core::{Clock, Timestamp};
use redis::Value;

use super::connection::{Connection, ServerSettings};
use super::script;
use super::session::server_millis;
use super::trouble::Trouble;
use crate::keyring::Keyring;

/// Limit of one command.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Departure of the server's clock that is a problem.
const MAX_CLOCK_DIFFERENCE_MILLIS: i64 = 5 * 60 * 1000;
/// Life of the key that the check writes.
const PROBE_MILLIS: u64 = 5000;

/// The machine's clock, for a command that runs by itself.
#[derive(Debug)]
struct CheckClock(std::time::Instant);

#[async_trait::async_trait]
impl Clock for CheckClock {
    fn boot(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    async fn sleep_until(&self, deadline: Duration) {
        tokio::time::sleep(deadline.saturating_sub(self.boot())).await;
    }
}

/// Tries the server. Returns what was found, or what is wrong and what to do.
pub(crate) fn check(settings: &ServerSettings, keyring: &Arc<Keyring>) -> Result<String, String> {
    std::thread::scope(|scope| {
        let checking = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| format!("the server could not be tried: {error}"))?;
            let tried = runtime.block_on(run(settings, keyring));
            tried.map_err(|trouble| {
                format!(
                    "the shared cache server {}: {trouble}; {}",
                    settings.urls.join(","),
                    trouble.kind.remedy()
                )
            })
        });
        checking
            .join()
            .unwrap_or_else(|_| Err("the server could not be tried: it panicked".to_owned()))
    })
}

async fn run(settings: &ServerSettings, keyring: &Keyring) -> Result<String, Trouble> {
    let clock: Arc<dyn Clock> = Arc::new(CheckClock(std::time::Instant::now()));
    let connection = settings.connect(&clock).await?;
    commands(&connection, keyring).await?;
    let server = server_millis(&connection, keyring, TIMEOUT).await?;
    let difference = server.saturating_sub(clock.wall().as_millis());
    let mut found = vec!["connection, login and commands work".to_owned()];
    if difference.abs() > MAX_CLOCK_DIFFERENCE_MILLIS {
        found.push(format!(
            "the server's clock differs by {} s; set it",
            difference / 1000
        ));
    }
    if let Some(policy) = setting(&connection, "maxmemory-policy").await
        && policy == "noeviction"
    {
        found.push(
            "the server evicts nothing when it is full (maxmemory-policy noeviction); volatile-lru keeps the cache going"
                .to_owned(),
        );
    }
    if let Some(limit) = setting(&connection, "maxclients").await {
        found.push(format!(
            "maxclients {limit}; every agent holds one connection"
        ));
    }
    Ok(found.join("; "))
}

/// Runs each command that the agent needs, on a key of the check's own.
async fn commands(connection: &Connection, keyring: &Keyring) -> Result<(), Trouble> {
    let key = format!("{}-check", keyring.journal());
    let mut set = redis::cmd("SET");
    set.arg(&key).arg("1").arg("NX").arg("PX").arg(PROBE_MILLIS);
    let mut get = redis::cmd("GET");
    get.arg(&key);
    let mut get_many = redis::cmd("MGET");
    get_many.arg(&key);
    let mut append = redis::cmd("EVAL");
    append
        .arg("redis.call('APPEND', KEYS[1], '1') redis.call('PEXPIRE', KEYS[1], ARGV[1]) return redis.call('TIME')")
        .arg(1)
        .arg(&key)
        .arg(PROBE_MILLIS);
    let mut renew = redis::cmd("EVAL");
    renew
        .arg(script::RENEW)
        .arg(1)
        .arg(&key)
        .arg("-")
        .arg(PROBE_MILLIS);
    let mut delete = redis::cmd("DEL");
    delete.arg(&key);
    for command in [
        redis::cmd("PING"),
        set,
        get,
        get_many,
        append,
        renew,
        delete,
    ] {
        let _: Value = connection.query(&command, TIMEOUT).await?;
    }
    Ok(())
}

/// Reads a setting of the server; `None` where the login may not.
async fn setting(connection: &Connection, name: &str) -> Option<String> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(name);
    let pair: Vec<String> = connection.query(&command, TIMEOUT).await.ok()?;
    pair.into_iter().nth(1)
}
