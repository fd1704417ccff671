//! Child process in a process group of its own.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

/// Running child, or one that ended and was not reaped yet. Its id is that of its process group, too.
#[derive(Debug)]
pub(super) struct Child(Pid);

impl Child {
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        // The standard library's handle would not see what `wait` has reaped.
        Ok(Self(Pid::from_child(&command.process_group(0).spawn()?)))
    }

    pub(super) fn group(&self) -> Pid {
        self.0
    }

    /// Sends `signal` to the child alone.
    pub(super) fn signal(&self, signal: Signal) {
        // A process that runs as another user by now cannot be reached.
        let _ = kill_process(self.0, signal);
    }
}

/// Sends `signal` to every process of the group.
pub(super) fn signal_group(group: Pid, signal: Signal) {
    // A group without members is an error.
    let _ = kill_process_group(group, signal);
}

/// Whether the group has a process that was not reaped.
pub(super) fn has_members(group: Pid) -> bool {
    test_kill_process_group(group).is_ok()
}
