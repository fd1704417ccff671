mod local;
mod report;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueHint;
use kms_agent_cache::SystemClock;
use kms_agent_core::{SecretId, SecretRef, VersionSelector};
use kms_agent_kms::{Finding, checkup};

use self::report::Report;
use super::agent::{environment, overrides};
use crate::config::Config;
use crate::exit::Failure;
use crate::terminal::shown_lines;

/// Runs the startup steps of `agent` one by one, and reports what fails and how to fix it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "One line a step: config, token, port, cache, process, region, credentials, dns, endpoint, clock, kms;\n\
    one named environment for each variable that looks wrong.\n\
    Nothing is made or changed, so it may run beside an agent. Without --secret, KMS is asked for a secret\n\
    that does not exist, which shows whether it knows the credentials. No value is ever printed.\n\
    Variables KMS_AGENT_<TABLE>_<KEY> override the file, as they do for `agent`.\n\
    Exits 0 when all is well, 78 when the agent would not start with this configuration, else 1.\n\n\
    Example:\n  \
    alibabacloud-kms-agent check --secret app/db /etc/alibabacloud-kms-agent/config.toml\n  \
    alibabacloud-kms-agent check --offline /etc/alibabacloud-kms-agent/config.toml"
)]
pub(super) struct CheckArgs {
    /// The config file (TOML)
    #[arg(value_hint = ValueHint::FilePath)]
    config: PathBuf,
    /// Check the file only, without network access
    #[arg(long)]
    offline: bool,
    /// Read this secret too, by name or ARN; its value is not shown
    #[arg(long, value_name = "NAME", conflicts_with = "offline", value_parser = parse_secret)]
    secret: Option<SecretId>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let name = args.config.display().to_string();
    let config = match Config::load_trusted(&args.config, &overrides(), &environment()) {
        Ok(config) => config,
        Err(error) => {
            if args.json {
                say(&Report::of_problems(name, error.problems()).json());
            }
            return Err(error.into());
        }
    };
    let mut report = Report::begin(name.clone()).warn(&config.warnings);
    if args.offline {
        say(&if args.json {
            report.json()
        } else {
            shown_lines(&report.with_warnings(format!("{name}: ok")))
        });
        return Ok(());
    }
    report.add_local(local::examine(&config, &args.config));
    report.add(remote(&config, args.secret.clone())?);
    say(&if args.json {
        report.json()
    } else {
        report.text()
    });
    report.verdict()
}

fn parse_secret(text: &str) -> Result<SecretId, String> {
    SecretId::parse(text).map_err(|error| error.to_string())
}

fn remote(config: &Config, secret: Option<SecretId>) -> Result<Vec<Finding>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the runtime cannot be started: {error}")))?;
    let secret = secret.map(|id| SecretRef {
        id,
        selector: VersionSelector::CURRENT,
    });
    Ok(runtime.block_on(checkup(
        &config.kms,
        &environment(),
        Arc::new(SystemClock),
        config.cache.backend.config.last_scope().as_ref(),
        secret.as_ref(),
    )))
}

fn say(text: &str) {
    // A failure means that stdout is closed, and there is no reader.
    let _ = writeln!(io::stdout(), "{text}");
}
