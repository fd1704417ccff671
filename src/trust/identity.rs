//! The user and groups of this process, and what it can know of other users.

use std::sync::OnceLock;

use rustix::process::{getegid, geteuid, getgroups};

/// The number that the kernel shows for a user or group that a user namespace has no number for.
const OVERFLOW: u32 = 65534;

/// The user a file belongs to, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Root or the user of this process.
    Own,
    /// Not known: the user namespace has no number for it.
    Unknown,
    /// Another user.
    Stranger(u32),
}

impl Owner {
    pub(crate) fn of(user: u32) -> Self {
        if user == 0 || user == geteuid().as_raw() {
            Self::Own
        } else if user == OVERFLOW && !is_map_complete() {
            Self::Unknown
        } else {
            Self::Stranger(user)
        }
    }
}

/// Whether `group` is one of this process, or root's own.
pub(crate) fn is_own_group(group: u32) -> bool {
    group == 0
        || getegid().as_raw() == group
        || getgroups().is_ok_and(|groups| groups.iter().any(|own| own.as_raw() == group))
}

/// Whether every user has a number here. Read once: a confined process may not read the file later.
fn is_map_complete() -> bool {
    static COMPLETE: OnceLock<bool> = OnceLock::new();
    *COMPLETE.get_or_init(|| {
        // Without user namespaces there is no such file, and every number is what it says.
        std::fs::read_to_string("/proc/self/uid_map").map_or(true, |map| covers_all(&map))
    })
}

fn covers_all(map: &str) -> bool {
    let covered: u64 = map
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok())
        .sum();
    covered >= u64::from(u32::MAX)
}

/// Reads what must be known before the process is confined.
pub(crate) fn prepare() {
    is_map_complete();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_map_of_all_numbers_is_complete() {
        assert!(covers_all("         0          0 4294967295\n"));
        assert!(covers_all("0 0 65534\n65534 65534 4294901761\n"));
        assert!(!covers_all("0 1000 1\n"));
        assert!(!covers_all("0 1000 1\n1 100000 65536\n"));
        assert!(!covers_all(""));
    }

    #[test]
    fn root_and_this_user_are_own() {
        assert_eq!(Owner::of(0), Owner::Own);
        assert_eq!(Owner::of(geteuid().as_raw()), Owner::Own);
        assert_eq!(Owner::of(54_321), Owner::Stranger(54_321));
        assert!(is_own_group(getegid().as_raw()) && !is_own_group(54_321));
    }
}
