//! Job control: Ctrl-Z stops the child, and the shell knows this process only.

use rustix::process::{Pid, Signal, getpgrp, kill_current_process_group};

use super::{Child, Supervisor, child};

impl Supervisor {
    /// Stops this process, too, after `signal` has stopped the child, so that the shell takes the terminal back.
    pub(super) fn suspend(&mut self, signal: i32) {
        let Some(terminal) = &self.terminal else {
            return;
        };
        let Some(group) = self.child.as_ref().map(Child::group) else {
            return;
        };
        let by_terminal = [Signal::TSTP, Signal::TTIN, Signal::TTOU];
        let Some(signal) = by_terminal.into_iter().find(|it| it.as_raw() == signal) else {
            return;
        };
        if terminal.is_of(group) {
            terminal.give(getpgrp());
        }
        self.signals.forget_continued();
        // The system ignores this where no shell could continue the group.
        let _ = match signal {
            // Blocked here; see Terminal::open.
            Signal::TTOU => kill_current_process_group(Signal::TSTP),
            signal => kill_current_process_group(signal),
        };
        let was_stopped = self.signals.was_continued();
        if was_stopped || signal == Signal::TSTP {
            self.resume();
        }
    }

    /// Continues the child, with the terminal if this process has it.
    pub(super) fn resume(&mut self) {
        if let Some(group) = self.child.as_ref().map(Child::group) {
            self.lend_terminal_to(group);
            child::signal_group(group, Signal::CONT);
        }
    }

    fn lend_terminal_to(&self, group: Pid) {
        if let Some(terminal) = &self.terminal
            && terminal.is_ours()
        {
            terminal.give(group);
        }
    }
}
