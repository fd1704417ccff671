//! Making tokens.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

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
