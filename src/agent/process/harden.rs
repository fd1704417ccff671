//! What the process gives up before it holds a secret.

use std::path::Path;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

use super::reach::Reach;

/// What did not work; the agent goes on without, and says so once it can.
pub(crate) type Warnings = Vec<String>;

/// No core files, no tracing by others of the same user, no new privileges by exec, no swapping where that
/// can be had, and no files outside `reach`. Must run on the only thread, after everything is parsed and opened:
/// later threads inherit it, earlier ones would not. Returns what is within reach from now on.
pub(crate) fn harden(reach: Reach) -> (Reach, Warnings) {
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
    warnings.extend(lock_memory().err());
    let reach = confine(reach, &mut warnings);
    (reach, warnings)
}

/// Keeps memory out of swap, unless a limit would have later allocations fail.
fn lock_memory() -> Result<(), String> {
    if getrlimit(Resource::Memlock).current.is_some() {
        return Err(
            "memory may be swapped: RLIMIT_MEMLOCK is limited; set LimitMEMLOCK=infinity in the unit, \
             or --ulimit memlock=-1 for the container"
                .to_owned(),
        );
    }
    // What is merely mapped and never touched takes no memory.
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        .map_err(|error| format!("memory may be swapped: it cannot be locked: {error}"))
}

#[cfg(target_os = "linux")]
fn confine(reach: Reach, warnings: &mut Warnings) -> Reach {
    match super::confine::confine(&reach) {
        Ok(()) => {
            if reach.may_read(Path::new("/")) {
                warnings.push(
                    "the process may read every file of its user, for the config, the token or another file \
                     stands in /; put it into a folder of its own"
                        .to_owned(),
                );
            }
            reach
        }
        Err(why) => {
            warnings.push(format!(
                "the process may open every file of its user: {why}"
            ));
            Reach::everything()
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn confine(_reach: Reach, _warnings: &mut Warnings) -> Reach {
    Reach::everything()
}
