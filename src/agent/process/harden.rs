//! What the process gives up before it holds a secret.

use std::path::PathBuf;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// What did not work; the agent goes on without, and says so once it can.
pub(crate) type Warnings = Vec<String>;

/// No core files, no tracing by others of the same user, no new privileges by exec. Must run on the only
/// thread, after everything is parsed and opened: later threads inherit it, earlier ones would not.
///
/// `_writable` are the folders that a later confinement to the file system leaves open.
pub(crate) fn harden(_writable: &[PathBuf]) -> Warnings {
    let mut warnings = Warnings::new();
    let mut attempt = |what: &str, result: rustix::io::Result<()>| {
        if let Err(error) = result {
            warnings.push(format!("{what}: {error}"));
        }
    };
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // A thousand connections and their upstream calls need more descriptors than the usual soft limit.
    let files = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: files.maximum,
        ..files
    };
    attempt(
        "the limit on open files cannot be raised",
        setrlimit(Resource::Nofile, all),
    );
    attempt(
        "core files cannot be switched off",
        setrlimit(Resource::Core, none),
    );
    #[cfg(target_os = "linux")]
    {
        attempt(
            "the process cannot be made undumpable",
            set_dumpable_behavior(DumpableBehavior::NotDumpable),
        );
        attempt(
            "new privileges cannot be given up",
            rustix::thread::set_no_new_privs(true),
        );
    }
    warnings
}
