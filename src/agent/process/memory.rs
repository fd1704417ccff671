//! Memory that stays out of swap.

use std::fs;
use std::path::Path;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};

/// Mount point of control groups, version 2.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Keeps memory out of swap, unless a limit would make later allocations fail. Returns the reason if memory may be
/// swapped.
pub(super) fn lock() -> Result<(), String> {
    let locked = try_lock();
    if locked.is_err() && !may_be_swapped() {
        return Ok(());
    }
    locked
}

fn try_lock() -> Result<(), String> {
    if getrlimit(Resource::Memlock).current.is_some() {
        return Err(
            "memory may be swapped: RLIMIT_MEMLOCK is limited; set LimitMEMLOCK=infinity in the unit, \
             or --ulimit memlock=-1 for the container, or switch swap off"
                .to_owned(),
        );
    }
    // Pages that are mapped and never touched take no memory.
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).map_err(
        |error| {
            format!(
                "memory may be swapped: it cannot be locked: {error}; switch swap off, for the machine or for the \
                 unit (MemorySwapMax=0)"
            )
        },
    )
}

/// Whether the machine has swap that this process's control group may use. Without a readable list it may.
fn may_be_swapped() -> bool {
    let has_swap = fs::read_to_string("/proc/swaps").map_or(true, |text| lists_swap(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    has_swap && !is_forbidden(Path::new(CGROUPS), &groups)
}

/// Whether there is more than the heading of `/proc/swaps`.
fn lists_swap(text: &str) -> bool {
    text.lines().nth(1).is_some()
}

/// Whether swap is limited to nothing by the control group of version 2 that `groups` names, or by one above it.
fn is_forbidden(root: &Path, groups: &str) -> bool {
    let Some(own) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return false;
    };
    let own = root.join(own);
    own.ancestors()
        .take_while(|group| group.starts_with(root))
        .any(|group| {
            fs::read_to_string(group.join("memory.swap.max")).is_ok_and(|most| most.trim() == "0")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_alone_lists_no_swap() {
        let heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert!(!lists_swap(heading));
        assert!(lists_swap(&format!(
            "{heading}/dev/zram0 partition 8388604 0 100\n"
        )));
    }

    #[test]
    fn swap_is_forbidden_by_the_groups_own_limit_or_by_one_above_it() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path();
        fs::create_dir_all(at.join("system.slice/agent.service")).unwrap();
        let limit = |group: &str, most: &str| {
            fs::write(at.join(group).join("memory.swap.max"), most).unwrap();
        };
        let groups = "1:name=systemd:/elsewhere\n0::/system.slice/agent.service\n";
        assert!(!is_forbidden(at, groups));
        limit("system.slice/agent.service", "max\n");
        limit("system.slice", "0\n");
        assert!(is_forbidden(at, groups));
        limit("system.slice", "4096\n");
        assert!(!is_forbidden(at, groups));
        limit("system.slice/agent.service", "0\n");
        assert!(is_forbidden(at, groups));
        // A container sees its own group as the root.
        limit("", "0\n");
        assert!(is_forbidden(at, "0::/\n"));
        for unknown in ["", "0::/../outside\n", "4:memory:/docker/1\n"] {
            assert!(
                !is_forbidden(&at.join("system.slice/agent.service/none"), unknown),
                "{unknown}"
            );
        }
    }
}
