//! Folders that hold more than the agent's files.

use std::fs;
use std::path::{Path, PathBuf};

/// Parents of home folders.
const PARENTS_OF_HOMES: [&str; 3] = ["/home", "/var/home", "/Users"];

/// Folders of the whole system.
const OF_THE_SYSTEM: [&str; 12] = [
    "/boot",
    "/dev",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/srv",
    "/sys",
    "/var",
    "/var/lib",
    "/var/cache",
];

/// Folders in which programs pass each other files. Tokens are put there, and replaced by renaming.
const EXCHANGES: [&str; 5] = ["/run", "/tmp", "/var/run", "/var/tmp", "/dev/shm"];

/// Kind of a folder by its other files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// Nothing, as far as its path tells.
    Narrow,
    /// Files of other programs, which the permissions of each file guard.
    Exchange,
    /// Files of a user or of the system: a home, a folder above one, or a folder of the system.
    Wide,
}

/// Home of the user and the folders above it, without links.
#[derive(Debug, Default)]
pub(super) struct Homes(Vec<PathBuf>);

impl Homes {
    pub(super) fn of(home: Option<PathBuf>) -> Self {
        let home = home.filter(|home| home.is_absolute());
        let resolved = home.as_ref().and_then(|home| fs::canonicalize(home).ok());
        Self(home.into_iter().chain(resolved).collect())
    }

    /// Returns the kind of `folder`, which has no links.
    pub(super) fn width(&self, folder: &Path) -> Width {
        let is_home = self.0.iter().any(|home| home.starts_with(folder));
        let is_in = |paths: &[&str]| paths.iter().any(|path| Path::new(path) == folder);
        let is_others_home = folder.parent().is_some_and(|above| {
            PARENTS_OF_HOMES
                .iter()
                .any(|parent| Path::new(parent) == above)
        });
        if folder.parent().is_none() || is_home || is_others_home {
            Width::Wide
        } else if is_in(&EXCHANGES) {
            Width::Exchange
        } else if is_in(&OF_THE_SYSTEM) || is_in(&PARENTS_OF_HOMES) {
            Width::Wide
        } else {
            Width::Narrow
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn homes_and_what_lies_above_them_are_wide_and_exchanges_are_not_narrow() {
        let homes = Homes::of(Some("/srv/people/kms".into()));
        for (folder, width) in [
            ("/", Width::Wide),
            ("/root", Width::Wide),
            ("/home", Width::Wide),
            ("/home/other", Width::Wide),
            ("/srv/people", Width::Wide),
            ("/srv/people/kms", Width::Wide),
            ("/var/lib", Width::Wide),
            ("/run", Width::Exchange),
            ("/tmp", Width::Exchange),
            ("/srv/people/kms/.aliyun", Width::Narrow),
            ("/srv/people/other", Width::Narrow),
            ("/home/other/kms", Width::Narrow),
            ("/run/kms", Width::Narrow),
            ("/var/lib/kms", Width::Narrow),
        ] {
            assert_eq!(homes.width(Path::new(folder)), width, "{folder}");
        }
        // A relative or missing home is as good as none.
        for home in [None, Some("kms".into()), Some("".into())] {
            assert_eq!(Homes::of(home).width(Path::new("/kms")), Width::Narrow);
        }
        let above = Homes::of(Some("/run/people/kms".into()));
        assert_eq!(above.width(Path::new("/run")), Width::Wide);
    }
}
