//! Lifecycle of the store: its phases, the trouble it is in, and the requests to the writer thread.
//!
//! ```text
//!            opened                 reported
//!  Closed ───────────► Open ───────────────────► Open with a fault
//!    ▲                  │                               │
//!    └───── closed ─────┴────────── closed ─────────────┘
//!
//!  any phase ── given_up ──► MemoryOnly, until the process ends
//! ```

use super::fault::{Failure, Fault};
use super::file::FileId;

/// Longest pause between attempts to heal, in sweeps, which come about once a second.
const LONGEST_PAUSE: u32 = 32;

#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    phase: Phase,
    /// Present until everything that waits could be written again.
    trouble: Option<Trouble>,
    /// File that was opened last.
    file: Option<FileId>,
    /// Number of times that the store was opened; tells faults of one opening from those of another.
    openings: u64,
    /// Number of times that the store failed to do what it was asked.
    failures: u64,
    /// A caller waits: write now, in trouble too.
    is_urgent: bool,
    /// The file may have been removed or replaced.
    must_look: bool,
    /// Store and key are to be replaced.
    must_replace: bool,
    stop: Option<Stop>,
}

#[derive(Debug, Default)]
enum Phase {
    /// The writer thread opens the store: at once or, in trouble, after a pause.
    #[default]
    Closed,
    Open {
        access: Access,
        /// Fault that a reader reported and the writer thread has not handled yet.
        fault: Option<Fault>,
    },
    /// The process goes on without its store.
    MemoryOnly {
        /// The store may hold entries that only a later process can remove.
        out_of_reach: bool,
    },
}

/// Permission to write to an open store.
#[derive(Debug)]
pub(crate) enum Access {
    /// The file's pages are compared with their checksums before the first write.
    Unverified,
    Writable,
    ReadOnly(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Write everything, then close.
    Close,
    /// Close without writing.
    Abandon,
}

#[derive(Clone, Copy, Debug)]
struct Trouble {
    word: &'static str,
    /// Pause after the last attempt, in sweeps.
    pause: u32,
    /// Sweeps left of it.
    left: u32,
}

/// Next step of the writer thread.
#[derive(Debug)]
pub(crate) enum Step {
    Act(Action),
    /// Wait for the next attempt.
    Pause {
        /// The store can be read, so listing goes on.
        can_list: bool,
    },
    Write,
    /// Nothing waits to be written.
    Idle,
}

#[derive(Debug)]
pub(crate) enum Action {
    Open,
    /// Check that the file is still there.
    Look,
    /// Check whether the file can be written again.
    TryWriting,
    Recover(Fault),
    Replace,
    Verify,
    /// Close after the last write.
    Close,
    /// Close without writing.
    Abandon,
}

impl Lifecycle {
    pub(crate) fn has_store(&self) -> bool {
        !matches!(self.phase, Phase::MemoryOnly { .. })
    }

    pub(crate) fn out_of_reach(&self) -> bool {
        matches!(self.phase, Phase::MemoryOnly { out_of_reach: true })
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Whether the store is open and nothing is wrong with it.
    pub(crate) fn works(&self) -> bool {
        self.trouble.is_none() && matches!(self.phase, Phase::Open { fault: None, .. })
    }

    pub(crate) fn trouble(&self) -> Option<&'static str> {
        self.trouble.map(|trouble| trouble.word)
    }

    pub(crate) fn file(&self) -> Option<FileId> {
        self.file
    }

    pub(crate) fn openings(&self) -> u64 {
        self.openings
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    pub(crate) fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.stop == Some(Stop::Close)
    }

    /// Whether gathering writes may go on.
    pub(crate) fn is_calm(&self) -> bool {
        let has_fault = matches!(self.phase, Phase::Open { fault: Some(_), .. });
        !self.is_urgent && self.stop.is_none() && !has_fault && !self.must_replace
    }

    /// Whether listing may wait for look-ups.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_calm() && !self.must_look
    }

    /// Asks for an attempt to write now, in trouble too.
    pub(crate) fn hurry(&mut self) {
        self.is_urgent = true;
    }

    pub(crate) fn request_replacement(&mut self) {
        self.must_replace = true;
    }

    /// Ends a request for a replacement that was met or failed.
    pub(crate) fn replacement_ended(&mut self) {
        self.must_replace = false;
    }

    pub(crate) fn close(&mut self) {
        self.is_urgent = true;
        self.must_look = true;
        self.stop = Some(Stop::Close);
    }

    pub(crate) fn abandon(&mut self) {
        self.stop.get_or_insert(Stop::Abandon);
    }

    /// Counts the pause until the next attempt to heal.
    pub(crate) fn swept(&mut self) {
        self.must_look = true;
        if self.has_store()
            && let Some(trouble) = &mut self.trouble
        {
            trouble.left = trouble.left.saturating_sub(1);
            self.is_urgent |= trouble.left == 0;
        }
    }

    /// Returns whether the file is another one than before. It may hold entries that were removed since.
    pub(crate) fn opened(&mut self, file: FileId, access: Access) -> bool {
        self.openings += 1;
        self.phase = Phase::Open {
            access,
            fault: None,
        };
        self.file.replace(file).is_some_and(|old| old != file)
    }

    pub(crate) fn closed(&mut self) {
        if self.has_store() {
            self.phase = Phase::Closed;
        }
    }

    /// Takes the fault that a reader ran into, unless the store was closed or opened again since.
    pub(crate) fn reported(&mut self, opening: u64, reported: Fault) {
        if self.openings == opening
            && let Phase::Open { fault, .. } = &mut self.phase
        {
            fault.get_or_insert(reported);
        }
    }

    pub(crate) fn count_failure(&mut self) {
        self.failures += 1;
    }

    /// Begins the next pause. Returns whether the trouble is new.
    pub(crate) fn failed(&mut self, word: &'static str) -> bool {
        let before = self.trouble;
        let pause = before.map_or(1, |trouble| (2 * trouble.pause).min(LONGEST_PAUSE));
        self.trouble = Some(Trouble {
            word,
            pause,
            left: pause,
        });
        self.failures += 1;
        self.is_urgent = false;
        // The caller gets an error. The store is emptied when it is back, but entries put since stay.
        self.must_replace = false;
        before.is_none()
    }

    /// Ends trouble once everything is written. Returns whether there was any.
    pub(crate) fn all_written(&mut self) -> bool {
        self.is_urgent = false;
        self.trouble.take().is_some()
    }

    pub(crate) fn given_up(&mut self, word: &'static str, out_of_reach: bool) {
        self.failed(word);
        self.phase = Phase::MemoryOnly { out_of_reach };
    }

    /// Decides what the writer thread does next.
    pub(crate) fn next(&mut self, has_writes: bool) -> Step {
        if self.stop == Some(Stop::Abandon) {
            return Step::Act(Action::Abandon);
        }
        if let Phase::Open { fault, .. } = &mut self.phase
            && let Some(fault) = fault.take()
        {
            return Step::Act(Action::Recover(fault));
        }
        let is_closing = self.is_closing();
        if let Some(trouble) = self.trouble
            && !self.is_urgent
        {
            let can_list = matches!(
                &self.phase,
                Phase::Open { access: Access::ReadOnly(failure), .. } if failure.word == trouble.word
            );
            return if is_closing {
                Step::Act(Action::Close)
            } else {
                Step::Pause { can_list }
            };
        }
        let access = match &mut self.phase {
            Phase::Open { access, .. } => access,
            Phase::Closed => return Step::Act(Action::Open),
            Phase::MemoryOnly { .. } => return Step::Act(Action::Abandon),
        };
        if std::mem::take(&mut self.must_look) {
            return Step::Act(Action::Look);
        }
        match access {
            Access::ReadOnly(_) => Step::Act(Action::TryWriting),
            _ if self.must_replace => Step::Act(Action::Replace),
            Access::Unverified if has_writes || is_closing => {
                *access = Access::Writable;
                Step::Act(Action::Verify)
            }
            _ if has_writes => Step::Write,
            _ => Step::Idle,
        }
    }
}
