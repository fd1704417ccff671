use std::path::PathBuf;

use clap::ValueHint;
use kms_agent_core::config::Overrides;
use kms_agent_kms::Environment;

use crate::compose::Prepared;
use crate::config::{Config, ConfigFile};
use crate::exit::Failure;
use crate::platform;
use crate::token::source::TokenSource;

/// Runs the daemon in the foreground.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    alibabacloud-kms-agent token ./kmstoken\n  \
    KMS_TOKEN=file://$PWD/kmstoken alibabacloud-kms-agent agent ./config.toml\n\n\
    Environment: KMS_TOKEN (see Server.SSRFEnvVariables), ALIBABA_CLOUD_* for credentials and region,\n\
    HTTPS_PROXY and NO_PROXY for KMS and STS, RUST_LOG for the level of the agent's own lines (debug, info,\n\
    warn, error or off, in place of Log.LogLevel), and KMS_AGENT_<TABLE>_<KEY> for any key of the config file\n\
    with a single value, such as KMS_AGENT_CACHE_TTL_SECONDS=60, which overrides the file.\n\
    Signals: SIGTERM and SIGINT finish what is in flight and stop; a second one stops at once.\n\
    SIGHUP reads the config file again: Log, KMS, Credentials, the times of Cache and\n\
    IgnoreTransientErrors take effect at once, other changes are logged as needing a restart. It also reopens\n\
    the log file. A file without any key, or one that can be read only once, is refused.\n\
    Under systemd: Type=notify-reload and WatchdogSec= work; the watchdog is fed while the agent answers itself.")]
pub(super) struct AgentArgs {
    /// The config file (TOML)
    #[arg(value_hint = ValueHint::FilePath)]
    config: PathBuf,
}

pub(super) fn run(args: &AgentArgs) -> Result<(), Failure> {
    let overrides = overrides();
    let environment = environment();
    let config = Config::load_trusted(&args.config, &overrides, &environment)?;
    let token = TokenSource::find(&config.server.token_variables, |name| {
        std::env::var_os(name)
    })?;
    let file = ConfigFile {
        path: args.config.clone(),
        overrides,
    };
    Prepared::open(
        config,
        Some(file),
        environment,
        token,
        std::env::var("RUST_LOG").ok(),
    )?
    .run(|| ())
}

/// Returns the variables that override the config file.
pub(super) fn overrides() -> Overrides {
    Overrides::collect(std::env::vars_os())
}

/// Returns the variables that the KMS source may read. One that is not UTF-8 is not among them.
pub(super) fn environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .map(|(name, value)| match name.as_str() {
            platform::HOME => ("HOME".to_owned(), value),
            _ => (name, value),
        })
        .collect()
}
