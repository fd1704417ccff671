//! Walks on the real file system: links, ACLs, pipes, and places at which something is made.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use kms_agent_trust::{FilePlace, Kind, Verdict, judge_folder_of, make_folder, open};

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path, Kind::Setting)?.file.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn a_path_leads_where_the_kernel_would_lead_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir_all(at.join("a/b")).unwrap();
    fs::write(at.join("a/b/file"), "file").unwrap();
    fs::write(at.join("top"), "top").unwrap();
    for (link, target) in [
        ("to-file", "a/b/file"),
        ("to-b", "a/b"),
        ("twice", "to-b"),
        ("a/up", "../to-file"),
        ("loop", "loop"),
        ("nowhere", "missing"),
    ] {
        symlink(target, at.join(link)).unwrap();
    }
    symlink(at.join("a"), at.join("absolute")).unwrap();
    for path in [
        "a/b/file",
        "to-file",
        "to-b/file",
        "twice/file",
        "a/up",
        "absolute/b/file",
        "absolute/b/../../top",
        "to-b/../../top",
        "./a/./b//file",
        "loop",
        "nowhere",
        "missing",
        "missing/file",
        "top/file",
        "to-file/x",
    ] {
        let path = at.join(path);
        let expected = fs::read_to_string(&path).map_err(|error| error.raw_os_error());
        let found = text(&path).map_err(|error| error.raw_os_error());
        assert_eq!(found, expected, "{}", path.display());
    }
    assert!(open(Path::new(""), Kind::Setting).is_err());
    assert!(
        open(at, Kind::Setting)
            .unwrap()
            .file
            .metadata()
            .unwrap()
            .is_dir()
    );
}

#[test]
fn a_pipe_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    assert!(
        !open(&pipe, Kind::Token)
            .unwrap()
            .file
            .metadata()
            .unwrap()
            .is_file()
    );
}

#[test]
#[cfg(target_os = "linux")]
fn an_open_file_of_this_process_is_found_by_its_number() {
    use std::os::fd::AsRawFd;

    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(b"text").unwrap();
    drop(writer);
    let path = format!("/dev/fd/{}", reader.as_raw_fd());
    let mut opened = open(Path::new(&path), Kind::Setting).unwrap();
    let mut text = String::new();
    opened.file.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), opened.verdict), ("text", Verdict::Trusted));
    assert!(FilePlace::find(Path::new(&path)).is_err());
}

#[test]
#[cfg(target_os = "linux")]
fn an_acl_that_the_mode_does_not_show_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "x").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    // u::rw- u:54321:rw- g::--- m::rw- o::---
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 6, 54_321),
        (4, 0, u32::MAX),
        (16, 6, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(rights.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let name = "system.posix_acl_access";
    if rustix::fs::setxattr(&path, name, &acl, rustix::fs::XattrFlags::empty()).is_err() {
        eprintln!("skipped: this file system has no ACLs");
        return;
    }
    for kind in [Kind::Secret, Kind::Token, Kind::Setting] {
        let verdict = open(&path, kind).unwrap().verdict;
        let refusal = verdict.refusal().unwrap();
        assert!(refusal.command.starts_with("setfacl -b "), "{refusal}");
    }
}

#[test]
fn a_file_is_made_beside_its_place_and_put_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    symlink("file", folder.path().join("link")).unwrap();
    let names = || fs::read_dir(folder.path()).unwrap().count();

    let place = FilePlace::find(&path).unwrap();
    assert_eq!(place.existing().unwrap(), None);
    let (mut file, made) = place.make_beside(".new-").unwrap();
    file.write_all(b"one").unwrap();
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    place.put_new(&made).unwrap();
    place.sync().unwrap();
    assert_eq!(
        (fs::read_to_string(&path).unwrap().as_str(), names()),
        ("one", 2)
    );

    let (mut file, made) = place.make_beside(".new-").unwrap();
    file.write_all(b"two").unwrap();
    let refused = place.put_new(&made).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    let place = FilePlace::find(&folder.path().join("link")).unwrap();
    place.put(&made).unwrap();
    assert_eq!(
        (fs::read_to_string(&path).unwrap().as_str(), names()),
        ("two", 2)
    );
    let existing = place.existing().unwrap().unwrap();
    assert!(existing.is_file && existing.mode == 0o600 && !existing.is_planted);
    assert_eq!(place.verdict(), Verdict::Trusted);

    place.open_existing().unwrap().set_len(0).unwrap();
    place
        .open_appending(0o640)
        .unwrap()
        .write_all(b"three")
        .unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "three");
    fs::hard_link(&path, folder.path().join("other")).unwrap();
    assert!(place.open_existing().is_err(), "a file of two names");
}

#[test]
fn folders_are_made_with_their_mode_and_a_file_in_the_way_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    symlink("elsewhere/deep", at.join("link")).unwrap();
    make_folder(&at.join("a/b"), 0o700).unwrap();
    make_folder(&at.join("a/b"), 0o750).unwrap();
    make_folder(&at.join("link/c"), 0o700).unwrap();
    assert_eq!(fs::metadata(at.join("a/b")).unwrap().mode() & 0o777, 0o700);
    assert!(at.join("elsewhere/deep/c").is_dir());
    fs::write(at.join("file"), "").unwrap();
    assert!(make_folder(&at.join("file/x"), 0o700).is_err());
    assert!(make_folder(&at.join("file"), 0o700).is_err());

    assert_eq!(
        judge_folder_of(&at.join("a/b/missing")).unwrap(),
        Verdict::Trusted
    );
    assert!(judge_folder_of(&at.join("missing/file")).is_err());
    fs::set_permissions(at.join("a"), Permissions::from_mode(0o777)).unwrap();
    assert!(
        judge_folder_of(&at.join("a/b/missing"))
            .unwrap()
            .refusal()
            .is_some()
    );
}
