use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use kms_agent_core::shortage;
use kms_agent_emulator::{AccessKey, Emulator, Options, PutSecret};
use tokio::sync::oneshot;

use crate::compose::Prepared;
use crate::config::Config;
use crate::exit::Failure;
use crate::token::draw;
use crate::token::source::TokenSource;

/// Runs an agent and a built-in KMS emulator in one process: no cloud account, no config file.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys and token are drawn anew each run. Ctrl-C ends it and leaves nothing behind.\n\n\
    Example:\n  \
    alibabacloud-kms-agent dev --secret app/db='{\"user\":\"app\",\"password\":\"example\"}'"
)]
pub(super) struct Args {
    /// A secret to begin with, besides `demo`; may be given many times
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_secret)]
    secret: Vec<(String, String)>,
    /// The agent's port; 0 draws a free one
    #[arg(long, default_value_t = 2025, value_parser = parse_port)]
    port: u16,
    /// Keep the cache in this folder, encrypted, instead of in memory
    #[arg(long, value_name = "DIR")]
    persist: Option<PathBuf>,
}

const DEMO: (&str, &str) = (
    "demo",
    r#"{"user":"demo","password":"correct horse battery staple"}"#,
);

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let secrets: Vec<_> = std::iter::once((DEMO.0.to_owned(), DEMO.1.to_owned()))
        .chain(args.secret)
        .collect();
    let cloud = Cloud::start(secrets)?;
    let config = Config::parse(
        &config_text(&cloud.base_url, args.port, args.persist.as_deref())?,
        "dev",
    )
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
    let line = format!(
        "curl -H 'X-KMS-Token: {}' 'http://127.0.0.1:{port}/secretsmanager/get?secretId={}'",
        *token, DEMO.0
    );
    agent.run(|| {
        // Who has closed stdout does not want to know.
        let _ = writeln!(io::stdout(), "{line}");
    })
}

/// The emulator, on a thread of its own until this is dropped.
struct Cloud {
    base_url: String,
    access_key: AccessKey,
    /// Dropped first: the thread ends when its other end is gone.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Cloud {
    fn start(secrets: Vec<(String, String)>) -> Result<Self, Failure> {
        let (started, starting) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("emulator".to_owned())
            .spawn(move || {
                let result = emulate(secrets, stopped, &started);
                if let Err(failure) = result {
                    // Nobody listens any more once the start succeeded.
                    let _ = started.send(Err(failure));
                }
            })
            .map_err(|error| {
                Failure::failed(format!(
                    "the emulator's thread cannot be started: {error}. {}",
                    shortage::remedy(&error)
                ))
            })?;
        let (base_url, access_key) = starting
            .recv()
            .unwrap_or_else(|_| Err(Failure::failed("the emulator ended at once")))?;
        Ok(Self {
            base_url,
            access_key,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A crash of the emulator has been printed by its thread.
            let _ = thread.join();
        }
    }
}

type Started = Result<(String, AccessKey), Failure>;

fn emulate(
    secrets: Vec<(String, String)>,
    stopped: oneshot::Receiver<()>,
    started: &mpsc::SyncSender<Started>,
) -> Result<(), Failure> {
    let fail = |error: &dyn std::fmt::Display| {
        Failure::failed(format!("the emulator cannot be started: {error}"))
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| fail(&error))?;
    runtime.block_on(async {
        let emulator = Emulator::start(Options::default()).map_err(|error| fail(&error))?;
        for (name, value) in secrets {
            emulator
                .put_secret(PutSecret::new(&name, value))
                .map_err(|error| Failure::usage(format!("--secret {name}: {error}")))?;
        }
        let _ = started.send(Ok((
            emulator.base_url().to_owned(),
            emulator.access_key().clone(),
        )));
        // Either way it is over.
        let _ = stopped.await;
        emulator.stop().await;
        Ok(())
    })
}

/// The config of a development agent: the emulator for KMS, stderr for the log.
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
        "[Server]\nHttpPort = {port}\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{endpoint}\"\n[Log]\nLogPath = \"stderr\"\n{cache}"
    ))
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port == 0 || port >= 1024 => Ok(port),
        _ => Err("0 or a port from 1024 to 65535".to_owned()),
    }
}

fn parse_secret(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
