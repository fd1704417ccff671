//! `exec --watch`: the parent of the command, which restarts or signals it.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::mpsc;

use super::{ExecArgs, Secret, Values, set_environment};
use crate::cli::follow::digest::Digests;
use crate::cli::follow::{self, Changes, say};
use crate::exit::Failure;
use crate::process::dumps::Dumps;
use crate::supervise::{Event, Supervisor};

/// Options of the parent that stays.
#[derive(Debug, clap::Args)]
pub(super) struct WatchOptions {
    /// Stay the parent of the command; restart or signal it when a value changes
    #[arg(long)]
    watch: bool,
    /// Restart the command, or send it a signal, such as HUP; its environment then stays as it was
    #[arg(long, requires = "watch", value_name = "restart|SIGNAL", default_value = "restart", value_parser = parse_action)]
    on_change: OnChange,
    /// The time after which a command that is restarted is ended by force: 500ms, 10s, 2m
    #[arg(long, requires = "watch", value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    stop_timeout: Duration,
}

impl WatchOptions {
    /// Whether `--watch` was given.
    pub(super) fn is_on(&self) -> bool {
        self.watch
    }
}

/// Reaction to a changed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnChange {
    Restart,
    Send(Signal),
}

/// Changed values: the names of their secrets, and the new environment for a restart.
struct Update<'a> {
    names: String,
    values: Values<'a>,
}

/// Runs the command until it ends by itself, and ends as it does.
pub(super) async fn run(args: &ExecArgs, dumps: Dumps) -> Result<(), Failure> {
    let removed = args.removed_variables()?;
    let mut digests = Digests::new()?;
    let secrets = args.read(|_| true).await?;
    let values = args.values(&secrets)?;
    for (name, value) in &values {
        digests.update(name, value);
    }
    let mut versions = BTreeMap::new();
    for (id, secret) in &secrets {
        versions.insert((*id).to_owned(), secret.version_id()?.to_owned());
    }
    drop(secrets);

    let mut supervisor = Supervisor::start(dumps)
        .map_err(|error| Failure::failed(format!("the command cannot be supervised: {error}")))?;
    let start = |supervisor: &mut Supervisor, values: Values<'_>| {
        supervisor
            .spawn(&args.command, |command| {
                set_environment(command, &removed, &values);
            })
            .map_err(|error| args.not_started(&error))
    };
    start(&mut supervisor, values)?;

    let (sender, mut updates) = mpsc::channel(1);
    let changes = Changes::follow(&args.target, versions);
    let mut report = pin!(changes.report(sender, async |names| {
        args.changed_values(names, &mut digests).await
    }));
    loop {
        tokio::select! {
            biased;
            event = supervisor.next() => if let Event::Ended(ending) = event {
                return ending.result();
            },
            Some(Update { names, values }) = updates.recv() => match args.watching.on_change {
                OnChange::Restart => {
                    say(&format!("{names} changed; restarting the command"));
                    if let Some(ending) = supervisor.stop(args.watching.stop_timeout).await {
                        return ending.result();
                    }
                    start(&mut supervisor, values)?;
                }
                OnChange::Send(signal) => {
                    say(&format!("{names} changed; signalling the command"));
                    supervisor.signal(signal);
                }
            },
            () = &mut report => return Err(follow::stopped()),
        }
    }
}

impl ExecArgs {
    /// Reads the secrets again. Returns the values that a restart needs if one of a changed secret is another one.
    async fn changed_values<'a>(
        &'a self,
        names: &BTreeSet<String>,
        digests: &mut Digests,
    ) -> Result<Option<Update<'a>>, Failure> {
        let is_restart = self.watching.on_change == OnChange::Restart;
        let secrets: BTreeMap<&str, Secret> =
            self.read(|id| is_restart || names.contains(id)).await?;
        let values = self.values(&secrets)?;
        let mut changed = BTreeSet::new();
        for variable in &self.env {
            if let Some(value) = values.get(variable.name.as_str())
                && digests.update(&variable.name, value)
            {
                changed.insert(variable.secret_id.as_str());
            }
        }
        if changed.is_empty() {
            return Ok(None);
        }
        let names: Vec<&str> = changed.into_iter().collect();
        Ok(Some(Update {
            names: names.join(", "),
            values,
        }))
    }

    fn not_started(&self, error: &std::io::Error) -> Failure {
        match self.command.first() {
            Some(program) => Failure::not_run(program, error),
            None => Failure::usage("there is no command to execute"),
        }
    }
}

/// Parses `restart` or the name of a signal, with or without SIG, in any case.
fn parse_action(text: &str) -> Result<OnChange, String> {
    if text == "restart" {
        return Ok(OnChange::Restart);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    nix::sys::signal::Signal::from_str(&format!("SIG{name}"))
        .ok()
        .and_then(|signal| Signal::from_named_raw(signal as i32))
        .map(OnChange::Send)
        .ok_or_else(|| "write restart or the name of a signal, such as HUP".to_owned())
}

/// Parses a time such as `500ms`, `10s` or `2m`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|it: char| it.is_ascii_digit());
    let number = text.strip_suffix(unit).unwrap_or(text).parse::<u64>();
    let milliseconds = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        _ => 0,
    };
    number
        .ok()
        .filter(|_| milliseconds > 0)
        .and_then(|number| number.checked_mul(milliseconds))
        .map(Duration::from_millis)
        .filter(|time| *time <= Duration::from_hours(1))
        .ok_or_else(|| "write a time up to 1 hour, such as 500ms, 10s or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_and_times_are_parsed() {
        for (text, expected) in [
            ("restart", Some(OnChange::Restart)),
            ("HUP", Some(OnChange::Send(Signal::HUP))),
            ("SIGUSR1", Some(OnChange::Send(Signal::USR1))),
            ("sigterm", Some(OnChange::Send(Signal::TERM))),
            ("", None),
            ("SIG", None),
            ("Restart", None),
            ("FOO", None),
        ] {
            assert_eq!(parse_action(text).ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("10", Some(10_000)),
            ("0s", Some(0)),
            ("60m", Some(3_600_000)),
            ("61m", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1h", None),
            ("99999999999999999999s", None),
        ] {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(parse_time(text).ok(), expected, "{text}");
        }
    }
}
