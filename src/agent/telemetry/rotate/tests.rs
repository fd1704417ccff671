use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::config::{LogLevel, LogTarget};

fn open(folder: &Path, max_bytes: u64, max_backups: u32) -> io::Result<RotatingFile> {
    open_as(folder, max_bytes, max_backups, LogFormat::Text)
}

fn open_as(
    folder: &Path,
    max_bytes: u64,
    max_backups: u32,
    format: LogFormat,
) -> io::Result<RotatingFile> {
    let config = LogConfig {
        level: LogLevel::Info,
        target: LogTarget::Folder(folder.to_owned()),
        max_bytes,
        max_backups,
        format,
    };
    RotatingFile::open(folder, &config)
}

#[test]
fn full_files_are_set_aside_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(&folder.path().join("logs"), 10, 2).unwrap();
    for line in ["one---\n", "two---\n", "three-\n", "four--\n"] {
        log.write_all(line.as_bytes()).unwrap();
    }
    let text = |name: &str| fs::read_to_string(folder.path().join("logs").join(name)).unwrap();
    assert_eq!(text("kms-agent.log"), "four--\n");
    assert_eq!(text("kms-agent.log.1"), "three-\n");
    assert_eq!(text("kms-agent.log.2"), "two---\n");
    assert_eq!(fs::read_dir(folder.path().join("logs")).unwrap().count(), 3);
}

#[test]
fn without_room_for_the_next_file_nothing_moves_and_the_log_grows_on() {
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    let in_the_way = folder.path().join("kms-agent.log.next");
    let mut log = open(folder.path(), 10, 2).unwrap();
    let mut write = |line: &str| log.write_all(line.as_bytes()).unwrap();
    write("one---\n");
    write("two---\n");
    fs::create_dir(&in_the_way).unwrap();
    write("three-\n");
    write("four--\n");
    assert_eq!(text(NAME), "two---\nthree-\nfour--\n");
    assert_eq!(text("kms-agent.log.1"), "one---\n");
    fs::remove_dir(&in_the_way).unwrap();
    write("five--\n");
    assert_eq!(text(NAME), "five--\n");
    assert_eq!(text("kms-agent.log.2"), "one---\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

fn text(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_default()
}

#[test]
fn a_removed_file_is_begun_again_with_the_next_line() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    let mut log = open(&logs, 100, 2).unwrap();
    log.write_all(b"one\n").unwrap();
    fs::remove_file(logs.join(NAME)).unwrap();
    log.write_all(b"two\n").unwrap();
    assert_eq!(text(&logs, NAME), "two\n");
    fs::remove_dir_all(&logs).unwrap();
    log.write_all(b"three\n").unwrap();
    assert_eq!(text(&logs, NAME), "three\n");
}

#[test]
fn a_line_for_a_removed_file_is_an_error_while_there_can_be_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    let mut log = open(folder.path(), 100, 2).unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    log.write_all(b"lost\n").unwrap_err();
    fs::remove_dir(&path).unwrap();
    log.write_all(b"kept\n").unwrap();
    assert_eq!(text(folder.path(), NAME), "kept\n");
}

#[test]
fn a_file_that_was_moved_away_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path(), 100, 2).unwrap();
    log.write_all(b"one\n").unwrap();
    fs::rename(folder.path().join(NAME), folder.path().join("moved")).unwrap();
    // As if the time to look had passed.
    log.looked_at -= LOOK_EVERY;
    log.write_all(b"two\n").unwrap();
    assert_eq!(text(folder.path(), "moved"), "one\n");
    assert_eq!(text(folder.path(), NAME), "two\n");
}

#[test]
fn a_truncated_file_is_rotated_by_its_own_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    let mut log = open(folder.path(), 10, 2).unwrap();
    for _ in 0..5 {
        log.write_all(b"line--\n").unwrap();
        fs::write(&path, "").unwrap();
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    log.write_all(b"last--\n").unwrap();
    assert_eq!(text(folder.path(), NAME), "last--\n");
}

#[test]
fn nothing_but_a_regular_file_is_opened_and_nothing_is_waited_for() {
    for name in [NAME, "kms-agent.log.next"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let place = |make: &dyn Fn()| {
            make();
            append(&path).unwrap_err();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                fs::remove_dir(&path).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
        };
        let fifo = |path: &Path| {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RWXU,
                0,
            )
            .unwrap();
        };
        place(&|| fifo(&path));
        place(&|| fs::create_dir(&path).unwrap());
        place(&|| std::os::unix::fs::symlink("/dev/null", &path).unwrap());
        place(&|| {
            std::os::unix::net::UnixListener::bind(&path).unwrap();
        });
    }
}

#[test]
fn a_file_of_the_other_format_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    for (format, line) in [
        (LogFormat::Text, "2026\n"),
        (LogFormat::Json, "{}\n"),
        (LogFormat::Json, "{}\n"),
    ] {
        let mut log = open_as(folder.path(), 100, 2, format).unwrap();
        log.write_all(line.as_bytes()).unwrap();
    }
    assert_eq!(text(folder.path(), NAME), "{}\n{}\n");
    assert_eq!(text(folder.path(), "kms-agent.log.1"), "2026\n");
    // Where none are kept, nothing is removed for the sake of the format.
    open_as(folder.path(), 100, 0, LogFormat::Text).unwrap();
    assert_eq!(text(folder.path(), NAME), "{}\n{}\n");
}

#[test]
fn fewer_backups_leave_no_older_ones() {
    let folder = tempfile::tempdir().unwrap();
    for number in 1..=6 {
        fs::write(folder.path().join(format!("{NAME}.{number}")), "").unwrap();
    }
    let log = open(folder.path(), 100, 2).unwrap();
    log.remove_backups_beyond(4);
    for (number, is_kept) in [(1, true), (2, true), (3, false), (4, false), (5, true)] {
        let path = folder.path().join(format!("{NAME}.{number}"));
        assert_eq!(path.exists(), is_kept, "{number}");
    }
}

#[test]
fn an_open_file_is_restricted_and_a_strict_one_stays_strict() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    for (before, after) in [(0o666, 0o640), (0o644, 0o640), (0o600, 0o600)] {
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
        open(folder.path(), 100, 0).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, after);
    }
}

#[test]
fn others_may_not_read_it_and_a_restart_appends() {
    let folder = tempfile::tempdir().unwrap();
    for line in ["one\n", "two\n"] {
        let mut log = open(folder.path(), 100, 0).unwrap();
        log.write_all(line.as_bytes()).unwrap();
    }
    let path = folder.path().join(NAME);
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0);
}
