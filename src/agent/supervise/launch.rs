//! Launcher: this binary, started as the child, which prepares its own process and then becomes the command.
//!
//! The standard library can run code between fork and exec only in unsafe code.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{getpgrp, getpid, getppid};

use super::terminal::{self, Terminal};
use crate::exit::Failure;
use crate::process::dumps::Dumps;

/// First argument of a launcher. The command line of people does not have it.
const WORD: &str = "launch-child";

/// Work of a launcher.
#[derive(Debug)]
pub(crate) struct Launch {
    /// Process that the command must not outlive.
    parent: i32,
    dumps: Dumps,
    takes_terminal: bool,
    program: OsString,
    arguments: Vec<OsString>,
}

/// Returns the command that starts a launcher for `command`.
pub(super) fn command(
    command: &[OsString],
    dumps: Dumps,
    takes_terminal: bool,
) -> io::Result<Command> {
    // The link leads to this binary even after an upgrade has replaced the file.
    let link = Path::new("/proc/self/exe");
    let mut launcher = if link.exists() {
        Command::new(link)
    } else {
        Command::new(std::env::current_exe()?)
    };
    launcher
        .arg0("alibabacloud-kms-agent")
        .arg(WORD)
        .arg(getpid().as_raw_nonzero().to_string())
        .arg(dumps.to_argument())
        .arg(if takes_terminal { "terminal" } else { "none" })
        .args(command);
    Ok(launcher)
}

impl Launch {
    /// Returns the work of this process if it is a launcher.
    pub(crate) fn of_this_process() -> Option<Self> {
        let mut arguments = std::env::args_os().skip(1);
        if arguments.next()? != WORD {
            return None;
        }
        let mut text = || arguments.next()?.into_string().ok();
        Some(Self {
            parent: text()?.parse().ok()?,
            dumps: Dumps::from_argument(&text()?)?,
            takes_terminal: text()? == "terminal",
            program: arguments.next()?,
            arguments: arguments.collect(),
        })
    }

    /// Becomes the command. Returns only after a failure.
    pub(crate) fn run(self) -> Failure {
        #[cfg(target_os = "linux")]
        if let Err(error) =
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        {
            return Failure::failed(format!(
                "the command cannot be bound to its parent: {error}"
            ));
        }
        // The parent may have ended before that call.
        if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(self.parent) {
            return Failure::failed("the parent has ended");
        }
        self.dumps.restore_limit();
        if self.takes_terminal
            && let Some(terminal) = Terminal::open()
        {
            terminal.give(getpgrp());
        }
        terminal::deliver_stop();
        let error = Command::new(&self.program).args(&self.arguments).exec();
        Failure::not_run(OsStr::new(&self.program), &error)
    }
}
