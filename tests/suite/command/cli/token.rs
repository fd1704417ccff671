//! `token`: creating token files.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use super::{run, stderr, stdout};

#[test]
fn token_writes_64_hex_digits_for_the_owner_only_and_prints_the_path_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kmstoken");
    let mut seen = std::collections::HashSet::new();
    for argument in [
        path.to_str().unwrap().to_owned(),
        format!("file://{}", path.display()),
    ] {
        let output = run(&["token", &argument], &[], folder.path());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(stdout(&output).trim_end(), path.to_str().unwrap());
        let token = std::fs::read_to_string(&path).unwrap();
        assert!(
            token.len() == 64
                && token
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        );
        assert!(seen.insert(token), "each token is new");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let output = run(&["token", "kmstoken", "--mode", "0640"], &[], folder.path());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing temporary is left"
    );
    let output = run(&["token", "/no/such/folder/kmstoken"], &[], folder.path());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
}

#[test]
fn token_gives_the_file_away_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kmstoken");
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI runs as root");
        eprintln!("skipped: only root may give a file away");
        return;
    }
    for arguments in [
        ["--owner", "nobody", "--group", "12345"],
        ["--owner", "65534", "--group", "nogroup"],
    ] {
        let output = run(
            &[&["token", "kmstoken", "--mode", "0640"], &arguments[..]].concat(),
            &[],
            folder.path(),
        );
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let metadata = std::fs::metadata(&path).unwrap();
        let group = if arguments[3] == "12345" {
            12345
        } else {
            65534
        };
        assert_eq!(
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o777),
            (65534, group, 0o640)
        );
    }
    let output = run(
        &["token", "kmstoken", "--owner", "no-such-user"],
        &[],
        folder.path(),
    );
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn token_keeps_owner_group_and_mode_of_the_file_that_it_replaces() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kmstoken");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let is_root = chown(&path, Some(65534), Some(12345)).is_ok();
    let before = fs::metadata(&path).unwrap();
    let same = |arguments: &[&str], mode| {
        let inode = fs::metadata(&path).unwrap().ino();
        let output = run(
            &[&["token", "kmstoken"], arguments].concat(),
            &[],
            folder.path(),
        );
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let after = fs::metadata(&path).unwrap();
        assert_ne!(after.ino(), inode, "it is renamed over");
        assert_eq!(after.mode() & 0o777, mode);
        (after.uid(), after.gid())
    };
    assert_eq!(same(&[], 0o640), (before.uid(), before.gid()));
    assert_eq!(
        same(&["--mode", "0600"], 0o600),
        (before.uid(), before.gid())
    );
    if is_root {
        assert_eq!(same(&["--owner", "0"], 0o600), (0, 12345));
        assert_eq!(same(&["--group", "0"], 0o600), (0, 0));
    }
}

#[test]
fn token_follows_no_link_that_others_could_have_planted() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    fs::write(&victim, "kept").unwrap();
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    symlink(&victim, open.join("file")).unwrap();
    symlink(folder.path(), open.join("folder")).unwrap();
    let mut modes = vec![0o777];
    if chown(&open, Some(0), None).is_ok() {
        for link in ["file", "folder"] {
            std::os::unix::fs::lchown(open.join(link), Some(65534), None).unwrap();
        }
        modes.push(0o1777);
    }
    for mode in modes {
        fs::set_permissions(&open, Permissions::from_mode(mode)).unwrap();
        for path in [
            "open/file",
            "open/folder/victim",
            "open/folder/new",
            "open/../open/file",
        ] {
            let output = run(&["token", path, "--owner", "0"], &[], folder.path());
            assert_eq!(output.status.code(), Some(1), "{path}");
            assert!(
                stderr(&output).contains("not followed"),
                "{}",
                stderr(&output)
            );
        }
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    // A link of the same user is followed, and stays.
    symlink("victim", folder.path().join("mine")).unwrap();
    let output = run(&["token", "mine"], &[], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        fs::symlink_metadata(folder.path().join("mine"))
            .unwrap()
            .is_symlink()
    );
    assert_eq!(fs::read_to_string(&victim).unwrap().len(), 64);
}

#[test]
fn a_planted_file_gives_the_token_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared/kmstoken");
    fs::create_dir(folder.path().join("shared")).unwrap();
    fs::set_permissions(folder.path().join("shared"), Permissions::from_mode(0o1777)).unwrap();
    fs::write(&path, "planted").unwrap();
    if chown(&path, Some(65534), Some(65534)).is_err() {
        eprintln!("skipped: only root may give a file away");
        return;
    }
    let output = run(&["token", "shared/kmstoken"], &[], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("not kept"), "{}", stderr(&output));
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (0, 0o600));
}

#[test]
fn token_says_what_to_do_about_a_wrong_path() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for (path, code, words) in [
        ("", 2, "name the file to write"),
        ("file://", 2, "name the file to write"),
        (
            "folder",
            2,
            "is a folder; name a file in it, such as folder/kmstoken",
        ),
        ("new/", 2, "is a folder; name a file in it"),
        (
            "http://x",
            2,
            "a token is written to a path or a file:// URL",
        ),
        (
            "HTTPS://x/y",
            2,
            "a token is written to a path or a file:// URL",
        ),
        ("file:/kmstoken", 2, "write file:///path/to/kmstoken"),
        ("no/dir/t", 1, "Make the folder no/dir first"),
        ("file://no/dir/t", 1, "Make the folder no/dir first"),
        ("file/t", 1, "Make the folder file first"),
    ] {
        let output = run(&["token", path], &[], folder.path());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{path:?}: {said}");
        assert!(said.contains(words), "{path:?}: {said}");
        assert!(
            !said.contains(".kmstoken-") && stdout(&output).is_empty(),
            "{said}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn token_warns_of_a_mode_that_lets_others_read_and_refuses_one_that_lets_them_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kmstoken");
    for mode in ["0666", "0602", "777"] {
        let output = run(&["token", "kmstoken", "--mode", mode], &[], folder.path());
        assert_eq!(output.status.code(), Some(2), "{mode}");
        assert!(
            stderr(&output).contains("others could write"),
            "{}",
            stderr(&output)
        );
        assert!(!path.exists());
    }
    let output = run(&["token", "kmstoken", "--mode", "0644"], &[], folder.path());
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stderr(&output).contains("every user of this machine"),
        "{}",
        stderr(&output)
    );
    assert_eq!(stdout(&output), "kmstoken\n");
    let output = run(&["token", "kmstoken", "--mode", "0640"], &[], folder.path());
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_token_file_that_is_a_mount_point_is_written_in_place() {
    if !crate::harness::namespace::is_inside(
        module_path!(),
        "a_token_file_that_is_a_mount_point_is_written_in_place",
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (source, path) = (folder.path().join("source"), folder.path().join("kmstoken"));
    for file in [&source, &path] {
        fs::write(file, "a long line that must not show behind the token").unwrap();
        fs::set_permissions(file, Permissions::from_mode(0o640)).unwrap();
    }
    crate::harness::namespace::mount(&["--bind", source.to_str().unwrap()], &path);
    let output = run(&["token", "kmstoken"], &[], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let token = fs::read_to_string(&source).unwrap();
    assert!(token.len() == 64 && fs::metadata(&source).unwrap().mode() & 0o777 == 0o640);
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "nothing temporary is left"
    );
}
