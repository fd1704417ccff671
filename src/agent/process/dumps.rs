//! No core file of a client command, and no look into its memory, while it has values.

#[cfg(unix)]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The process as it was before [`forbid`].
#[derive(Debug)]
pub(crate) struct Dumps {
    /// The limit on core files.
    #[cfg(unix)]
    core: Rlimit,
}

/// Forbids core files, and on Linux tracing by processes of the same user. Where the system refuses, the command works
/// all the same.
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
    /// Gives the limit on core files back, for a program that this process becomes. The rest the system gives back
    /// when the program starts.
    pub(crate) fn restore_limit(self) {
        #[cfg(unix)]
        let _ = setrlimit(Resource::Core, self.core);
    }
}
