//! Supervision of one child process at a time: signals, terminal, orphans, exit status.
//!
//! The child has a process group of its own. The terminal goes to that group, so Ctrl-C reaches the child once, from the
//! terminal. A signal to this process is passed on to the child alone.

mod child;
mod job;
pub(crate) mod launch;
mod signals;
mod terminal;

use std::io;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait};
use tokio::time::{Instant, sleep, timeout_at};

use self::child::Child;
use self::signals::Signals;
use self::terminal::Terminal;
use crate::exit::Failure;
use crate::process::dumps::Dumps;

/// Pause between two looks at what is left of a process group.
const GROUP_POLL: Duration = Duration::from_millis(20);

/// Parent of one child at a time.
#[derive(Debug)]
pub(crate) struct Supervisor {
    signals: Signals,
    /// `None` where this process has no terminal.
    terminal: Option<Terminal>,
    child: Option<Child>,
    /// State of this process before it held values, which the child gets back.
    dumps: Dumps,
}

/// Event that the caller of [`Supervisor::next`] decides on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// The child has ended.
    Ended(Ending),
    /// A signal asks this process to end. A child has got it already.
    AskedToEnd,
}

/// How a child has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    code: u8,
    signal: Option<i32>,
}

impl Ending {
    fn of(status: WaitStatus) -> Self {
        let signal = status.terminating_signal();
        // 128+n, as shells report it.
        let code = status
            .exit_status()
            .or(signal.map(|signal| 128 + signal))
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(crate::exit::FAILED);
        Self { code, signal }
    }

    /// Returns the exit code, 128+n for signal n.
    pub(crate) fn code(self) -> u8 {
        self.code
    }

    /// Whether the keyboard has ended the child: Ctrl-C or Ctrl-\.
    pub(crate) fn is_interruption(self) -> bool {
        [Signal::INT, Signal::QUIT]
            .map(Signal::as_raw)
            .map(Some)
            .contains(&self.signal)
    }

    /// Returns the result of a command that ends as its child did.
    pub(crate) fn result(self) -> Result<(), Failure> {
        match self.code {
            0 => Ok(()),
            code => Err(Failure::reported(code)),
        }
    }
}

impl Supervisor {
    /// Adopts orphans and listens for signals. Needs a runtime.
    pub(crate) fn start(dumps: Dumps) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        Ok(Self {
            signals: Signals::listen()?,
            terminal: Terminal::open(),
            child: None,
            dumps,
        })
    }

    /// Starts `program` with the environment that `prepare` gives it.
    pub(crate) fn spawn(
        &mut self,
        command: &[std::ffi::OsString],
        prepare: impl FnOnce(&mut Command),
    ) -> io::Result<()> {
        let has_terminal = self.terminal.as_ref().is_some_and(Terminal::is_ours);
        let mut launcher = launch::command(command, self.dumps, has_terminal)?;
        prepare(&mut launcher);
        self.child = Some(Child::spawn(&mut launcher)?);
        Ok(())
    }

    /// Whether a child runs.
    pub(crate) fn has_child(&self) -> bool {
        self.child.is_some()
    }

    /// Sends `signal` to the child.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            child.signal(signal);
        }
    }

    /// Passes signals on and reaps until there is something to decide. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            // A child that ended leaves one signal, whatever else ended with it.
            let signal = self.signals.next().await;
            if signal == Signal::CHILD {
                if let Some(ending) = self.reap() {
                    return Event::Ended(ending);
                }
            } else if signal == Signal::CONT {
                self.resume();
            } else {
                self.signal(signal);
                if signals::ASK_TO_END.contains(&signal) {
                    return Event::AskedToEnd;
                }
            }
        }
    }

    /// Stops the child and what is left of its process group, by force after `limit`. Returns its ending if it was asked
    /// to end meanwhile.
    pub(crate) async fn stop(&mut self, limit: Duration) -> Option<Ending> {
        let group = self.child.as_ref()?.group();
        let deadline = Instant::now() + limit;
        child::signal_group(group, Signal::TERM);
        // A stopped process receives the signal when it continues.
        child::signal_group(group, Signal::CONT);
        let mut is_asked = false;
        let mut ending = None;
        while ending.is_none() {
            match timeout_at(deadline, self.next()).await {
                Ok(Event::Ended(of_child)) => ending = Some(of_child),
                Ok(Event::AskedToEnd) => is_asked = true,
                Err(_) => break,
            }
        }
        while child::has_members(group) && Instant::now() < deadline {
            sleep(GROUP_POLL).await;
            self.reap();
        }
        child::signal_group(group, Signal::KILL);
        while ending.is_none() {
            match self.next().await {
                Event::Ended(of_child) => ending = Some(of_child),
                Event::AskedToEnd => is_asked = true,
            }
        }
        ending.filter(|_| is_asked)
    }

    /// Reaps every process that has ended, orphans included. Returns the ending of the child.
    fn reap(&mut self) -> Option<Ending> {
        let mut ending = None;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            if self.child.as_ref().map(Child::group) != Some(pid) {
                continue;
            }
            if let Some(signal) = status.stopping_signal() {
                self.suspend(signal);
            } else {
                self.child = None;
                self.take_terminal_from(pid);
                ending = Some(Ending::of(status));
            }
        }
        ending
    }

    fn take_terminal_from(&self, group: Pid) {
        if let Some(terminal) = &self.terminal
            && terminal.is_of(group)
        {
            terminal.give(rustix::process::getpgrp());
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            child::signal_group(child.group(), Signal::KILL);
        }
    }
}
