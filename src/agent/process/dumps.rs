//! Protection of a client command that holds values: no core files and no tracing.

#[cfg(unix)]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Word for a limit that is not set.
#[cfg(unix)]
const UNLIMITED: &str = "unlimited";

/// State of the process before [`forbid`].
#[derive(Clone, Copy, Debug)]
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
    /// Returns the text from which a launcher restores the limit.
    #[cfg(unix)]
    pub(crate) fn to_argument(self) -> String {
        match self.core.current {
            Some(bytes) => bytes.to_string(),
            None => UNLIMITED.to_owned(),
        }
    }

    /// Parses the text of [`to_argument`](Self::to_argument).
    #[cfg(unix)]
    pub(crate) fn from_argument(text: &str) -> Option<Self> {
        let current = match text {
            UNLIMITED => None,
            bytes => Some(bytes.parse().ok()?),
        };
        let maximum = getrlimit(Resource::Core).maximum;
        Some(Self {
            core: Rlimit { current, maximum },
        })
    }

    /// Restores the limit on core files for a program that replaces this process. The system restores the rest when
    /// that program starts.
    pub(crate) fn restore_limit(self) {
        #[cfg(unix)]
        let _ = setrlimit(Resource::Core, self.core);
    }
}
