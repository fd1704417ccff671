//! Users and groups that this user namespace knows. The others all show as one number.

use std::fs;

use kms_agent_server::caller::UnmappedIds;

/// Numbers of the kernel for users and groups that a namespace does not know, unless /proc says otherwise.
const OVERFLOW: u32 = 65_534;

/// Number of ids that there are; the last one is not an id.
const ALL_IDS: u64 = u32::MAX as u64;

/// Returns the overflow ids, where the id map is not complete. A map that cannot be read counts as not complete.
pub(crate) fn unmapped() -> UnmappedIds {
    if !cfg!(target_os = "linux") {
        return UnmappedIds::default();
    }
    UnmappedIds {
        uid: overflow_of("/proc/self/uid_map", "/proc/sys/kernel/overflowuid"),
        gid: overflow_of("/proc/self/gid_map", "/proc/sys/kernel/overflowgid"),
    }
}

fn overflow_of(map: &str, overflow: &str) -> Option<u32> {
    if fs::read_to_string(map).is_ok_and(|map| is_complete(&map)) {
        return None;
    }
    let number = fs::read_to_string(overflow).ok();
    Some(
        number
            .and_then(|number| number.trim().parse().ok())
            .unwrap_or(OVERFLOW),
    )
}

/// Whether the rows of `map` (first id, id outside, count) cover every id.
fn is_complete(map: &str) -> bool {
    let counts = map
        .lines()
        .filter_map(|row| row.split_ascii_whitespace().nth(2)?.parse::<u64>().ok());
    counts.sum::<u64>() >= ALL_IDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_map_of_all_ids_is_complete() {
        assert!(is_complete("         0          0 4294967295\n"));
        assert!(is_complete("0 0 4294967294\n4294967294 7 1\n"));
        for map in ["", "0 1000 1\n", "0 100000 65536\n", "0 0 4294967294\n"] {
            assert!(!is_complete(map), "{map}");
        }
    }
}
