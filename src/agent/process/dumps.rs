//! Protection of a client command that holds values: no core files and no tracing.

#[cfg(unix)]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// State of the process before [`forbid`].
#[derive(Debug)]
pub(crate) struct Dumps {
    /// Limit on core files.
    #[cfg(unix)]
    core: Rlimit,
}

/// Forbids core files, and on Linux tracing by processes of the same user. If the system refuses, the command runs
/// anyway.
pub(crate) fn forbid() -> Dumps {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};

        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
    #[cfg(unix)]
    {
        let core = getrlimit(Resource::Core);
        let none = Rlimit {
            current: Some(0),
            maximum: core.maximum,
        };
        let _ = setrlimit(Resource::Core, none);
        Dumps { core }
    }
    #[cfg(not(unix))]
    Dumps {}
}

impl Dumps {
    /// Restores the limit on core files for a program that replaces this process. The system restores the rest when
    /// that program starts.
    pub(crate) fn restore_limit(self) {
        #[cfg(unix)]
        let _ = setrlimit(Resource::Core, self.core);
    }
}
