#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

/// A folder that passes the trust rule wherever the tests run.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Self(folder)
    }

    /// A folder in memory, where a sync takes no time.
    fn in_memory() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn target(&self, name: &str) -> Target {
        Target {
            path: self.path(name),
            mode: 0o400,
            group: None,
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_file_is_replaced_and_one_with_the_same_bytes_is_not_touched() {
    let folder = Folder::new();
    let target = folder.target("app.env");
    assert_eq!(target.write(b"one").unwrap(), WriteOutcome::Replaced);
    let first = fs::metadata(&target.path).unwrap();
    assert_eq!(first.mode() & 0o7777, 0o400);
    assert_eq!(target.write(b"one").unwrap(), WriteOutcome::Unchanged);
    let again = fs::metadata(&target.path).unwrap();
    assert_eq!(again.ino(), first.ino());
    assert_eq!(target.write(b"two").unwrap(), WriteOutcome::Replaced);
    assert_eq!(fs::read(&target.path).unwrap(), b"two");
    assert_eq!(folder.names(), ["app.env"]);
}

#[test]
fn mode_and_group_are_those_of_the_settings() {
    let folder = Folder::new();
    let mut target = folder.target("key");
    target.mode = 0o640;
    target.group = Some(rustix::process::getegid().as_raw());
    target.write(b"one").unwrap();
    assert_eq!(fs::metadata(&target.path).unwrap().mode() & 0o7777, 0o640);
    target.mode = 0o600;
    assert_eq!(target.write(b"one").unwrap(), WriteOutcome::Replaced);
    assert_eq!(fs::metadata(&target.path).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn a_link_is_replaced_and_never_followed() {
    let folder = Folder::new();
    fs::write(folder.path("victim"), "kept").unwrap();
    let target = folder.target("app.env");
    symlink(folder.path("victim"), &target.path).unwrap();
    target.write(b"kept").unwrap();
    assert!(fs::symlink_metadata(&target.path).unwrap().is_file());
    assert_eq!(fs::read(folder.path("victim")).unwrap(), b"kept");
    symlink(folder.path("victim"), folder.path("other")).unwrap();
    assert!(folder.target("other").remove().unwrap());
    assert_eq!(folder.names(), ["app.env", "victim"]);
}

#[test]
fn a_file_that_has_another_name_is_replaced() {
    let folder = Folder::new();
    let target = folder.target("app.env");
    target.write(b"one").unwrap();
    fs::hard_link(&target.path, folder.path("other")).unwrap();
    assert_eq!(target.write(b"one").unwrap(), WriteOutcome::Replaced);
}

#[test]
fn leftovers_of_this_target_are_removed_and_nothing_else() {
    let folder = Folder::new();
    let others = [
        "a",
        ".a.kms-agent-",
        ".a.kms-agent-notes0123456789",
        ".b.kms-agent-0123456789abcdef",
    ];
    for name in others.iter().chain(&[".a.kms-agent-0123456789abcdef"]) {
        fs::write(folder.path(name), "x").unwrap();
    }
    folder.target("a").remove_leftovers().unwrap();
    let mut kept = others.map(str::to_owned);
    kept.sort();
    assert_eq!(folder.names(), kept);
}

#[test]
fn a_failure_names_its_remedy_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let missing = folder.target("missing/app.env").write(b"x").unwrap_err();
    assert!(
        missing
            .to_string()
            .ends_with("/missing does not exist; create it"),
        "{missing}"
    );
    fs::create_dir(folder.path("folder")).unwrap();
    let error = folder.target("folder").write(b"x").unwrap_err();
    assert!(matches!(error, TargetError::NotAFile));
    let open = folder.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let error = folder.target("open/app.env").write(b"x").unwrap_err();
    assert!(matches!(error, TargetError::Untrusted(_)), "{error}");
    assert!(fs::read_dir(&open).unwrap().next().is_none());
}

#[test]
fn no_reader_sees_a_torn_file_in_ten_thousand_replacements() {
    let folder = Folder::in_memory();
    let target = folder.target("app.env");
    let contents = [vec![b'a'; 4096], vec![b'b'; 8192]];
    target.write(&contents[0]).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let found = fs::read(&target.path).unwrap();
                assert!(contents.contains(&found), "{} bytes", found.len());
                for name in folder.names().iter().filter(|name| name.starts_with('.')) {
                    if let Ok(found) = fs::symlink_metadata(folder.path(name)) {
                        let mode = found.mode() & 0o7777;
                        assert_eq!(mode & 0o077, 0, "{mode:o}");
                    }
                }
            }
        });
        for round in 1..=10_000 {
            target.write(&contents[round % 2]).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
