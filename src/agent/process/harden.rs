//! Rights that the process gives up before it holds a secret. Capabilities go once the port is open, so that every file
//! is opened with the rights of later; the rest goes once all files were opened.

#[cfg(unix)]
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};

use super::reach::Reach;

/// Enough open files for a thousand connections and their upstream calls; every system grants it.
#[cfg(unix)]
const ENOUGH_FILES: u64 = 10_240;

/// Calls to KMS and STS that may be under way at the same time.
#[cfg(unix)]
const CALLS: u64 = 256;

/// Descriptors for files, listeners and health checks.
#[cfg(unix)]
const OTHER_FILES: u64 = 64;

/// Steps that failed; the agent runs without them and logs each.
pub(crate) type Warnings = Vec<String>;

/// Details of this run that decide which limits are too low, and which warnings are worth a line.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(unix),
    expect(dead_code, reason = "limits and users of this kind are those of Unix")
)]
pub(crate) struct Circumstances {
    /// `Server.MaxConn`.
    pub(crate) connections: usize,
    /// This is a run of `dev`, which holds no real secret.
    pub(crate) is_trial: bool,
}

/// Gives up all capabilities, also as root. Must run on the only thread: only later threads inherit this.
pub(crate) fn give_up_capabilities(circumstances: Circumstances) -> Warnings {
    let mut warnings = Warnings::new();
    #[cfg(unix)]
    if geteuid().is_root() && !circumstances.is_trial {
        warnings.push(
            "the agent runs as root; give it a user of its own (User= in the unit, user: for a container)"
                .to_owned(),
        );
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = super::capability::give_up() {
        warnings.push(format!("capabilities cannot be given up: {error}"));
    }
    #[cfg(not(unix))]
    let _ = circumstances;
    warnings
}

/// Forbids core files, tracing by processes of the same user, new privileges by exec, swapping, files outside `reach`,
/// and system calls that the agent never makes, as far as the system supports it. Must run on the only thread, after
/// everything is parsed and opened. Returns the paths that may be opened from now on.
pub(crate) fn confine(reach: Reach, circumstances: Circumstances) -> (Reach, Warnings) {
    let mut warnings = Warnings::new();
    #[cfg(unix)]
    limit(circumstances, &mut warnings);
    #[cfg(target_os = "linux")]
    seal(circumstances, &mut warnings);
    #[cfg(not(unix))]
    let _ = circumstances;
    let reach = shut(reach, &mut warnings);
    // The last step, since it refuses the calls of Landlock.
    #[cfg(target_os = "linux")]
    if let Err(why) = super::filter::install() {
        warnings.push(format!(
            "the process may make every system call (seccomp): {why}"
        ));
    }
    (reach, warnings)
}

#[cfg(unix)]
fn limit(circumstances: Circumstances, warnings: &mut Warnings) {
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
    warnings.extend(files.maximum.and_then(|most| too_few(most, circumstances)));
}

/// Returns the warning about a limit of `most` open files.
#[cfg(unix)]
fn too_few(most: u64, circumstances: Circumstances) -> Option<String> {
    let connections = u64::try_from(circumstances.connections).unwrap_or(u64::MAX);
    let needed = connections.saturating_add(CALLS + OTHER_FILES);
    (most < needed).then(|| {
        format!(
            "the process may open {most} files, and Server.MaxConn = {connections}, {CALLS} calls to KMS and \
             {OTHER_FILES} others need {needed}; set LimitNOFILE={needed} in the unit, or --ulimit nofile={needed} \
             for the container, or lower MaxConn"
        )
    })
}

#[cfg(target_os = "linux")]
fn seal(circumstances: Circumstances, warnings: &mut Warnings) {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warnings.push(format!("the process cannot be made undumpable: {error}"));
    }
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        warnings.push(format!("new privileges cannot be given up: {error}"));
    }
    let locked = super::memory::lock();
    if !circumstances.is_trial {
        warnings.extend(locked.err());
    }
}

#[cfg(target_os = "linux")]
fn shut(reach: Reach, warnings: &mut Warnings) -> Reach {
    match super::confine::confine(&reach) {
        Ok(()) => {
            warnings.extend(reach.warnings());
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
fn shut(_reach: Reach, _warnings: &mut Warnings) -> Reach {
    Reach::everything()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_enough_for_connections_calls_and_64_more() {
        let circumstances = Circumstances {
            connections: 800,
            is_trial: false,
        };
        assert_eq!(too_few(1120, circumstances), None);
        let said = too_few(1119, circumstances).unwrap();
        assert!(said.contains("may open 1119 files") && said.contains("need 1120"));
    }
}
