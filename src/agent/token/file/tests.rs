use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

#[test]
fn an_existing_file_is_never_made_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    create(&path, "first").unwrap();
    create(&path, "second").unwrap();
    assert_eq!(read(&path).unwrap().as_slice(), b"first");
    let access = Access {
        mode: Some(0o640),
        ..Access::default()
    };
    replace(&path, "third", access).unwrap();
    assert_eq!(read(&path).unwrap().as_slice(), b"third");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn only_small_regular_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    fs::write(&large, vec![b'a'; 4097]).unwrap();
    assert_eq!(
        read(&large).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
    assert!(read(folder.path()).is_err());
    let link = folder.path().join("link");
    symlink(&large, &link).unwrap();
    fs::write(&large, "small").unwrap();
    assert_eq!(read(&link).unwrap().as_slice(), b"small");
}

#[test]
fn a_file_that_is_renamed_over_has_another_id_and_one_written_in_place_another_stamp() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    create(&path, "first").unwrap();
    let first = look(&path).unwrap();
    fs::write(&path, "in place").unwrap();
    let second = look(&path).unwrap();
    assert!(first.id == second.id && first.stamp != second.stamp);
    replace(&path, "renamed", Access::default()).unwrap();
    assert_ne!(look(&path).unwrap().id, second.id);
}

#[test]
fn mode_is_kept_but_for_writing_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    for (before, after, notes) in [(0o640, 0o640, 0), (0o644, 0o644, 1), (0o666, 0o664, 2)] {
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
        let said = replace(&path, "new", Access::default()).unwrap();
        assert_eq!(said.len(), notes, "{said:?}");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, after);
    }
}

#[test]
fn a_file_that_others_may_write_is_not_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "0123456789abcdef").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o602)).unwrap();
    assert!(matches!(look(&path), Err(Unusable::Untrusted(_))));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    assert!(look(&path).unwrap().warning.is_some());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(look(&path), Err(Unusable::Untrusted(_))));
    assert!(matches!(may_be_made(&path), Err(Unusable::Untrusted(_))));
    fs::remove_file(&path).unwrap();
    assert!(matches!(create(&path, "new"), Err(Unusable::Untrusted(_))));
    assert!(!path.exists());
}
