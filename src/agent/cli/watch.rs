use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write;
use std::pin::pin;

use clap::ValueHint;
use tokio::sync::mpsc;

use super::follow::digest::Digests;
use super::follow::{self, Changes, say};
use super::target::{AgentTarget, parse_name};
use crate::client::block_on;
use crate::exit::Failure;
use crate::process::dumps::{self, Dumps};
use crate::supervise::{Event, Supervisor};

/// Runs a command each time that secrets change.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The command runs once for changes that come together, and never twice at a time. It runs only when a\n\
    value has changed, and not at the start unless --now is given. KMS_AGENT_CHANGED has a line SECRET_ID VERSION_ID\n\
    for each change, never a value; the command reads values itself, with get. A command that fails is reported and\n\
    runs again at the next change.\n\n\
    Exit codes: 0 after SIGTERM, SIGINT, SIGHUP or SIGQUIT; 128+n where Ctrl-C (2) or Ctrl-\\ (3) has ended the\n\
    command. Before the first wait: 1 a secret could not be read, 2 wrong usage, 78 bad configuration.\n\n\
    Example:\n  \
    alibabacloud-kms-agent watch app/tls -- sh -c 'alibabacloud-kms-agent get app/tls > /run/tls.pem && nginx -s reload'"
)]
pub(super) struct WatchArgs {
    /// The secrets' names or ARNs
    #[arg(required = true, value_name = "SECRET_ID", value_parser = parse_name)]
    secret_ids: Vec<String>,
    /// Run the command at the start, too
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    target: AgentTarget,
    /// The command to run, and its arguments
    #[arg(last = true, required = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

pub(super) fn run(args: &WatchArgs) -> Result<(), Failure> {
    let dumps = dumps::forbid();
    block_on(watch(args, dumps))
}

async fn watch(args: &WatchArgs, dumps: Dumps) -> Result<(), Failure> {
    let mut digests = Digests::new()?;
    let ids: BTreeSet<String> = args.secret_ids.iter().cloned().collect();
    let versions = args.read(&ids, &mut digests).await?;
    let mut waiting = args.now.then(|| lines(&versions));
    let mut supervisor = Supervisor::start(dumps)
        .map_err(|error| Failure::failed(format!("the command cannot be supervised: {error}")))?;
    let (sender, mut updates) = mpsc::channel(1);
    let changes = Changes::follow(&args.target, versions);
    let mut report = pin!(changes.report(sender, async |names| {
        let versions = args.read(names, &mut digests).await?;
        Ok((!versions.is_empty()).then(|| lines(&versions)))
    }));
    let mut is_asked_to_end = false;
    loop {
        if let Some(lines) = waiting.take() {
            let started = supervisor.spawn(&args.command, |command| {
                command.env("KMS_AGENT_CHANGED", lines);
            });
            if let Err(error) = started {
                say(&format!("the command cannot be started: {error}"));
            }
        }
        tokio::select! {
            biased;
            event = supervisor.next() => match event {
                Event::Ended(ending) => {
                    if is_asked_to_end {
                        return Ok(());
                    }
                    if ending.is_interruption() {
                        return ending.result();
                    }
                    if ending.code() != 0 {
                        say(&format!("the command has failed with exit code {}", ending.code()));
                    }
                }
                Event::AskedToEnd if supervisor.has_child() => is_asked_to_end = true,
                Event::AskedToEnd => return Ok(()),
            },
            Some(lines) = updates.recv(), if !supervisor.has_child() => waiting = Some(lines),
            () = &mut report => return Err(follow::stopped()),
        }
    }
}

impl WatchArgs {
    /// Reads the secrets. Returns those whose values are other ones than before, with their versions.
    async fn read(
        &self,
        ids: &BTreeSet<String>,
        digests: &mut Digests,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let client = self.target.client()?;
        let mut secrets = Vec::new();
        for id in ids {
            let secret = self.target.read(&client, id).await;
            let secret = secret.map_err(|failure| failure.about(id))?;
            secrets.push((id, secret.version_id()?.to_owned(), secret.value));
        }
        // A failure above leaves the digests as they were.
        let mut changed = BTreeMap::new();
        for (id, version, value) in secrets {
            if digests.update(id, &value) {
                changed.insert(id.clone(), version);
            }
        }
        Ok(changed)
    }
}

/// Returns a line for each changed secret.
fn lines(changed: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (id, version) in changed {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{id} {version}");
    }
    text
}
