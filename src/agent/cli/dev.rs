mod cloud;
mod kept;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::ValueHint;
use http::HeaderName;
use zeroize::Zeroizing;

use self::cloud::Cloud;
use self::kept::Kept;
use super::target::encoded;
use crate::client::port_holder::TrustedUsers;
use crate::client::{Client, ShownToken};
use crate::compose::Prepared;
use crate::config::Config;
use crate::exit::Failure;
use crate::terminal::shown;
use crate::token::draw;
use crate::token::source::TokenSource;

/// Runs an agent and a built-in KMS emulator in one process: no cloud account, no config file.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints a curl command for each secret, then the token for client commands in another terminal.\n\
    Each run generates a new token. Without --persist it also generates new keys for the emulator, and leaves no files.\n\n\
    With --persist the folder keeps the cache (encrypted, with its key beside it) and the emulator's port, access key\n\
    and secrets (in plain text, for this user alone), so that the next run answers from the cache. A secret that is\n\
    given another value gets a new version.\n\n\
    Warnings and errors go to stderr; RUST_LOG=info or debug shows more.\n\n\
    Example:\n  \
    alibabacloud-kms-agent dev --secret app/db='{\"user\":\"app\",\"password\":\"example\"}'"
)]
pub(super) struct DevArgs {
    /// A secret to create besides `demo`; may be given many times
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_secret)]
    secret: Vec<(String, String)>,
    /// The agent's port; 0 selects a free one
    #[arg(long, default_value_t = 2025, value_parser = parse_port)]
    port: u16,
    /// Keep the cache and the emulator in this folder, for the next run
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    persist: Option<PathBuf>,
}

const DEMO: (&str, &str) = (
    "demo",
    r#"{"user":"demo","password":"correct horse battery staple"}"#,
);

const DEFAULT_PORT: u16 = 2025;

pub(super) fn run(args: DevArgs) -> Result<(), Failure> {
    let folder = args.persist.as_deref();
    let kept = match folder {
        None => None,
        Some(folder) => {
            kept::make_folder(folder)?;
            kept::load(folder)?
        }
    };
    let cloud = Cloud::start(kept.as_ref(), secrets(kept.as_ref(), args.secret))?;
    if let Some(kept) = kept.as_ref().filter(|kept| kept.port != cloud.port) {
        let _ = writeln!(
            io::stderr(),
            "warning: port {}, which the emulator had in the last run, is taken; what the cache holds is not used in this run",
            kept.port
        );
    }
    if let Some(folder) = folder {
        let port = kept.as_ref().map_or(cloud.port, |kept| kept.port);
        let kept = Kept {
            port,
            access_key: cloud.access_key.clone(),
            versions: cloud.versions.clone(),
        };
        kept::save(folder, &kept)?;
    }
    let config = Config::parse(&config_text(&cloud.base_url, args.port, folder)?, "dev")
        .map_err(|error| Failure::usage(error.to_string()))?;
    let environment = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", cloud.access_key.id()),
        (
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
            cloud.access_key.expose_secret(),
        ),
    ]
    .into_iter()
    .collect();
    let token =
        draw().map_err(|error| Failure::failed(format!("no token can be drawn: {error}")))?;
    let source = TokenSource::literal(&token)?;
    let agent = Prepared::open(
        config,
        None,
        environment,
        source,
        std::env::var("RUST_LOG").ok(),
    )?;
    let port = agent.port();
    let changed = changed(kept.as_ref(), &cloud);
    let text = announcement(port, &token, &cloud, folder);
    agent.run(move || {
        if changed.is_empty() {
            say(&text);
            return;
        }
        // The agent serves once this returns.
        std::thread::spawn(move || {
            drop_entries(port, &token, &changed);
            say(&text);
        });
    })
}

/// Returns the secrets to create: the requested ones, and the demo secret unless it exists.
fn secrets(kept: Option<&Kept>, asked: Vec<(String, String)>) -> Vec<(String, String)> {
    let has_demo =
        kept.is_some_and(|kept| kept.versions.iter().any(|version| version.name == DEMO.0));
    let demo = (!has_demo).then(|| (DEMO.0.to_owned(), DEMO.1.to_owned()));
    demo.into_iter().chain(asked).collect()
}

/// Returns the names of secrets with a new version, of which the cache may hold the old one.
fn changed(kept: Option<&Kept>, cloud: &Cloud) -> BTreeSet<String> {
    let Some(kept) = kept else {
        return BTreeSet::new();
    };
    let is_new = |id: &str| !kept.versions.iter().any(|version| version.id == id);
    let new = cloud.versions.iter();
    new.filter(|version| is_new(&version.id))
        .map(|version| version.name.clone())
        .collect()
}

/// Purges `names` from the agent, so that their new values are read.
fn drop_entries(port: u16, token: &Zeroizing<String>, names: &BTreeSet<String>) {
    let client = Client {
        port,
        socket: None,
        trusted: Some(TrustedUsers::of_token(None)),
        token: Some(ShownToken {
            header: HeaderName::from_static("x-kms-token"),
            token: Zeroizing::new(token.as_bytes().to_vec()),
        }),
    };
    for name in names {
        // A failure leaves the old value until it expires.
        let _ = client.post(&format!("/agent/purge?secretId={}", encoded(name)));
    }
}

/// Returns the text for the terminal: a `curl` command for each secret, and how to stop. All of it may be pasted into a
/// shell.
fn announcement(port: u16, token: &str, cloud: &Cloud, folder: Option<&Path>) -> String {
    let names: BTreeSet<&str> = cloud
        .versions
        .iter()
        .map(|version| version.name.as_str())
        .filter(|name| *name != DEMO.0)
        .collect();
    let mut lines: Vec<String> = std::iter::once(DEMO.0)
        .chain(names)
        .map(|name| {
            let name = encoded(name).replace("%2F", "/");
            format!(
                "curl -H 'X-KMS-Token: {token}' 'http://127.0.0.1:{port}/secretsmanager/get?secretId={name}'"
            )
        })
        .collect();
    let port_option = if port == DEFAULT_PORT {
        String::new()
    } else {
        format!(" --port {port}")
    };
    lines.extend([
        "# For get, exec, status and purge in another terminal:".to_owned(),
        format!("export KMS_TOKEN={token}"),
        format!("alibabacloud-kms-agent get demo{port_option}"),
    ]);
    if let Some(folder) = folder {
        lines.push(format!(
            "# Kept in {} for the next run",
            shown(&folder.display().to_string())
        ));
    }
    lines.push("# Ctrl-C ends it".to_owned());
    lines.join("\n")
}

fn say(text: &str) {
    // One write, so that no log line splits the text. A failure means that stdout is closed, and there is no reader.
    let _ = io::stdout().write_all(format!("{text}\n").as_bytes());
}

/// Returns the config of a development agent: the emulator as KMS, warnings on stderr as the log.
fn config_text(endpoint: &str, port: u16, persist: Option<&Path>) -> Result<String, Failure> {
    let cache = match persist {
        None => String::new(),
        Some(folder) => {
            let path = |below: &str| -> Result<String, Failure> {
                let path = folder.join(below);
                let text = path
                    .to_str()
                    .ok_or_else(|| Failure::usage("--persist needs a path in UTF-8"))?;
                // A JSON string is a TOML basic string.
                Ok(serde_json::Value::from(text).to_string())
            };
            format!(
                "[Cache]\nCacheType = \"Persistent\"\n[Cache.Persistent]\nPath = {}\nKeyFile = {}\n",
                path("cache/kms-agent.redb")?,
                path("keys/kms-agent.key")?
            )
        }
    };
    Ok(format!(
        "[Server]\nHttpPort = {port}\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{endpoint}\"\n\
         [Log]\nLogPath = \"stderr\"\nLogLevel = \"Warn\"\n{cache}"
    ))
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port == 0 || port >= 1024 => Ok(port),
        _ => Err("write 0 or a port from 1024 to 65535".to_owned()),
    }
}

fn parse_secret(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
