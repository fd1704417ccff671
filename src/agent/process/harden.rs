//! What the process gives up before it holds a secret.

#[cfg(unix)]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::reach::Reach;

/// More than a thousand connections and their upstream calls can use; no system refuses it.
#[cfg(unix)]
const ENOUGH_FILES: u64 = 10_240;

/// What did not work; the agent goes on without, and says so once it can.
pub(crate) type Warnings = Vec<String>;

/// No core files, no tracing by others of the same user, no new privileges by exec, no swapping where that
/// can be had, and no files outside `reach`, as far as the system has such things. Must run on the only thread, after
/// everything is parsed and opened: later threads inherit it, earlier ones would not. Returns what is within reach
/// from now on.
pub(crate) fn harden(reach: Reach) -> (Reach, Warnings) {
    let mut warnings = Warnings::new();
    #[cfg(unix)]
    limit(&mut warnings);
    #[cfg(target_os = "linux")]
    seal(&mut warnings);
    let reach = confine(reach, &mut warnings);
    (reach, warnings)
}

#[cfg(unix)]
fn limit(warnings: &mut Warnings) {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        warnings.push(format!("core files cannot be switched off: {error}"));
    }
    let files = getrlimit(Resource::Nofile);
    let enough = files
        .maximum
        .map_or(ENOUGH_FILES, |it| it.min(ENOUGH_FILES));
    let more = Rlimit {
        current: files.current.map(|it| it.max(enough)),
        ..files
    };
    if let Err(error) = setrlimit(Resource::Nofile, more) {
        warnings.push(format!("the limit on open files cannot be raised: {error}"));
    }
}

#[cfg(target_os = "linux")]
fn seal(warnings: &mut Warnings) {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warnings.push(format!("the process cannot be made undumpable: {error}"));
    }
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        warnings.push(format!("new privileges cannot be given up: {error}"));
    }
    warnings.extend(lock_memory().err());
}

/// Keeps memory out of swap, unless a limit would have later allocations fail.
#[cfg(target_os = "linux")]
fn lock_memory() -> Result<(), String> {
    use rustix::mm::{MlockAllFlags, mlockall};

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
            if reach.may_read(std::path::Path::new("/")) {
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
