//! Controlling terminal, whose foreground process group gets the keyboard and its signals.

use std::fs::File;

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Pid, getpgrp};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// Controlling terminal of this process.
#[derive(Debug)]
pub(super) struct Terminal(File);

impl Terminal {
    /// Opens the controlling terminal, if there is one. From now on this process may use it from the background, which
    /// children inherit; see [`deliver_stop`].
    pub(super) fn open() -> Option<Self> {
        let file = File::open("/dev/tty").ok()?;
        let _ = terminal_output().thread_block();
        Some(Self(file))
    }

    /// Whether the process group of this process is in the foreground.
    pub(super) fn is_ours(&self) -> bool {
        self.is_of(getpgrp())
    }

    /// Whether `group` is in the foreground.
    pub(super) fn is_of(&self, group: Pid) -> bool {
        tcgetpgrp(&self.0) == Ok(group)
    }

    /// Puts `group` into the foreground.
    pub(super) fn give(&self, group: Pid) {
        // A terminal that has gone, or another session's group: it stays as it is.
        let _ = tcsetpgrp(&self.0, group);
    }
}

/// Ends what [`Terminal::open`] began, for the program that replaces this process.
pub(super) fn deliver_stop() {
    let _ = terminal_output().thread_unblock();
}

/// Signal that stops a process in the background which writes to the terminal or hands it over.
fn terminal_output() -> SigSet {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTTOU);
    signals
}
