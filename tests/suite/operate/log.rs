//! The log file: its rotation, its permissions, and a disk that fails under it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kms_agent_emulator::Fault;
use kms_agent_test_support::http::{self, Connection};
use kms_agent_test_support::{Setup, TOKEN, TestAgent};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use crate::harness::cloud::Cloud;
use crate::harness::namespace::{is_inside, mount};

const NAME: &str = "kms-agent.log";
const TO_STDERR: &str = "The log file cannot be written; logging to stderr";
const LOST: &str = "The log file cannot be written; lines are lost";

/// Sets up an agent that logs every request to `folder`.
pub(crate) fn setup(cloud: &Cloud, folder: &Path, more: &str) -> Setup {
    cloud.setup().config(format!(
        "[Server]\nHttpPort = 0\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\n\
         [Log]\nLogLevel = \"Debug\"\nLogPath = \"{}\"\n{more}",
        cloud.base_url(),
        folder.display(),
    ))
}

/// Reads a cached secret `times` times on one connection, and checks every answer.
pub(crate) fn read(agent: &TestAgent, name: &str, times: usize) {
    let request = format!(
        "GET /v1/{name} HTTP/1.1\r\nHost: localhost:{}\r\nX-KMS-Token: {TOKEN}\r\n\r\n",
        agent.port()
    );
    let mut connection = Connection::open(agent.port()).unwrap();
    for _ in 0..times {
        connection.send(request.as_bytes()).unwrap();
        assert_eq!(connection.reply().unwrap().status, 200);
    }
}

pub(crate) fn lost_lines(agent: &TestAgent) -> u64 {
    let metrics = http::get(agent.port(), "/metrics", &[]);
    let line = metrics
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("kms_agent_log_lines_dropped_total "));
    line.unwrap().parse().unwrap()
}

pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "still waiting: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn no_line_is_lost_to_rotation_or_to_the_end_and_no_file_is_for_others() {
    const READS: usize = 9000;
    let cloud = Cloud::start();
    let name = "n".repeat(190);
    cloud.put(&name, "value");
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    let agent = setup(&cloud, &logs, "MaxSize = 1\nMaxBackups = 9\n")
        .by("umask 0; exec \"$@\"")
        .start();
    read(&agent, &name, READS);
    assert_eq!(lost_lines(&agent), 0);
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");

    let mut requests = 0;
    let mut files = Vec::new();
    for entry in fs::read_dir(&logs).unwrap().map(Result::unwrap) {
        let (text, metadata) = (
            fs::read_to_string(entry.path()).unwrap(),
            entry.metadata().unwrap(),
        );
        assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
        assert!(metadata.len() <= 1024 * 1024, "{}", metadata.len());
        requests += text.matches(" access: request secret=\"nnn").count();
        files.push(entry.file_name().into_string().unwrap());
    }
    assert_eq!(requests, READS);
    files.sort();
    assert!(files.len() > 2, "it was never rotated");
    assert_eq!(files[..2], [NAME.to_owned(), format!("{NAME}.1")]);
    assert_eq!(
        fs::metadata(&logs).unwrap().permissions().mode() & 0o777,
        0o750
    );
    let last = fs::read_to_string(logs.join(NAME)).unwrap();
    assert!(last.trim_end().ends_with("Stopped"), "{last}");
}

#[test]
fn a_folder_that_cannot_be_written_is_told_and_stderr_is_the_log() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let folder = tempfile::NamedTempFile::new().unwrap();
    let agent = setup(&cloud, folder.path(), "").start();
    read(&agent, "s", 1);
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(said.matches(TO_STDERR).count(), 1, "{said}");
    assert!(said.contains("access: request secret=\"s\""), "{said}");
    assert!(said.trim_end().ends_with("Stopped"), "{said}");
}

#[test]
fn a_full_log_disk_costs_lines_and_nothing_else_and_heals() {
    if !is_inside(
        module_path!(),
        "a_full_log_disk_costs_lines_and_nothing_else_and_heals",
    ) {
        return;
    }
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    fs::create_dir(&logs).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=2m", "tmpfs"], &logs);
    // The file reaches its rotation size while the disk is full.
    let agent = setup(&cloud, &logs, "MaxSize = 1\n").start();
    read(&agent, "s", 70);
    // This fills the disk.
    let _ = fs::write(logs.join("ballast"), vec![1; 4 << 20]);
    until("lines are lost", || {
        read(&agent, "s", 500);
        lost_lines(&agent) > 500
    });
    assert_eq!(agent.stderr().matches(LOST).count(), 1);

    fs::remove_file(logs.join("ballast")).unwrap();
    cloud.put("healed", "value");
    until("lines are written again", || {
        read(&agent, "healed", 1);
        fs::read_to_string(logs.join(NAME))
            .unwrap()
            .contains("\"healed\"")
    });
    let lost = lost_lines(&agent);
    read(&agent, "healed", 10_000);
    assert_eq!(lost_lines(&agent), lost);
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    for entry in fs::read_dir(&logs).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(text.ends_with('\n'));
        // Where the disk was full, too, a line is whole or absent.
        for line in text.lines() {
            let levels = line.matches("Z DEBUG ").count() + line.matches("Z  ").count();
            assert!(
                line.starts_with("20") && line.get(4..5) == Some("-"),
                "{line}"
            );
            assert_eq!(levels, 1, "{line}");
        }
    }
}

#[test]
fn every_warning_in_the_file_is_on_stderr_too() {
    let cloud = Cloud::start();
    cloud.put("well", "value");
    let folder = tempfile::tempdir().unwrap();
    let agent = setup(&cloud, folder.path(), "").start();
    for number in 0..15 {
        cloud
            .fault(Fault::status(503, format!("ServiceUnavailable{number}")))
            .unwrap();
        // An access line, which only the file gets, and a warning: each code has its own line.
        assert_eq!(agent.read(&format!("ill{number}")).status, 503);
        cloud.clear_faults();
        assert_eq!(agent.read("well&refreshNow=true").status, 200);
    }
    let (_, said) = agent.stop();
    let warnings = |text: &str| text.matches(" WARN ").count();
    let log = fs::read_to_string(folder.path().join(NAME)).unwrap();
    assert!(warnings(&log) >= 10, "{log}");
    assert_eq!(warnings(&said), warnings(&log), "{said}");
}

/// Sends SIGHUP and waits until the reload has succeeded or failed.
pub(crate) fn hang_up(agent: &TestAgent, logs: &Path) {
    let ends = |text: &str| text.matches(" reloaded").count();
    // Reading a pipe would block: the agent never writes to one.
    let log = || match logs.join(NAME) {
        path if path.is_file() => text(&path),
        _ => String::new(),
    };
    let told = || ends(&agent.stderr()) + ends(&log());
    let before = told();
    agent.signal(Signal::HUP);
    until("the config is reloaded", || told() != before);
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn the_start_says_where_the_log_is() {
    let cloud = Cloud::start();
    let agent = setup(&cloud, Path::new("./logs/"), "").start();
    // Links in the path of the folder are ignored.
    let path = fs::canonicalize(agent.folder().join("logs"))
        .unwrap()
        .join(NAME);
    let (_, said) = agent.stop();
    assert_eq!(
        said.matches(&format!("logging to {}\n", path.display()))
            .count(),
        1,
        "{said}"
    );
}

#[test]
fn a_log_that_was_removed_or_moved_away_is_begun_again() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join(NAME);
    let agent = setup(&cloud, folder.path(), "").start();
    read(&agent, "s", 10);
    until("the requests are logged", || text(&log).contains("access"));
    fs::remove_file(&log).unwrap();
    read(&agent, "s", 1);
    until("a new file is begun", || text(&log).contains("access"));

    fs::rename(&log, folder.path().join("moved")).unwrap();
    until("a new file is begun", || {
        read(&agent, "s", 1);
        text(&log).contains("access")
    });
    assert_eq!(lost_lines(&agent), 0);
}

#[test]
fn lines_that_have_no_file_any_more_are_counted() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join(NAME);
    let agent = setup(&cloud, folder.path(), "").start();
    read(&agent, "s", 1);
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    read(&agent, "s", 5);
    until("the lines are counted", || lost_lines(&agent) >= 5);
    until("the loss is logged", || agent.stderr().contains(LOST));
    fs::remove_dir(&log).unwrap();
    let lost = lost_lines(&agent);
    read(&agent, "s", 5);
    until("lines are written again", || text(&log).contains("access"));
    assert_eq!(lost_lines(&agent), lost);
}

#[test]
fn what_is_no_regular_file_is_never_waited_for() {
    for kind in ["fifo", "folder", "link"] {
        let cloud = Cloud::start();
        cloud.put("s", "value");
        let folder = tempfile::tempdir().unwrap();
        // The folder has been writable for the process since startup.
        let first = folder.path().join("first");
        let second = first.join("second");
        for logs in [&first, &second] {
            fs::create_dir(logs).unwrap();
            let path = logs.join(NAME);
            match kind {
                "fifo" => mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
                "folder" => fs::create_dir(&path).unwrap(),
                _ => std::os::unix::fs::symlink("/dev/tty", &path).unwrap(),
            }
        }
        let agent = setup(&cloud, &first, "").start();
        let told = || agent.stderr().matches(TO_STDERR).count();
        assert_eq!(told(), 1, "{kind}");
        let config = agent.folder().join("config.toml");
        let moved = text(&config).replace("/first", "/first/second");
        fs::write(&config, moved).unwrap();
        hang_up(&agent, &first);
        read(&agent, "s", 1);
        until("the request is on stderr", || {
            agent.stderr().contains("access: request secret=\"s\"")
        });
        assert!(told() >= 2, "{kind}");
        fs::remove_dir(second.join(NAME))
            .or_else(|_| fs::remove_file(second.join(NAME)))
            .unwrap();
        hang_up(&agent, &second);
        read(&agent, "s", 1);
        until("the log is a file again", || {
            text(&second.join(NAME)).contains("access")
        });
    }
}

#[test]
fn every_file_has_one_format_whenever_that_changes() {
    const CHANGES: usize = 6;
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let folder = tempfile::tempdir().unwrap();
    let more = "MaxBackups = 20\nFormat = \"Text\"\n";
    let agent = setup(&cloud, folder.path(), more).start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    read(&agent, "s", 20);
                }
            });
        }
        let config = agent.folder().join("config.toml");
        for change in 1..=CHANGES {
            let (from, to) = match change % 2 {
                1 => ("Text", "Json"),
                _ => ("Json", "Text"),
            };
            fs::write(&config, text(&config).replace(from, to)).unwrap();
            agent.signal(Signal::HUP);
            until("the log is set aside", || {
                folder.path().join(format!("{NAME}.{change}")).exists()
            });
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(lost_lines(&agent), 0);
    agent.stop();
    let mut files = 0;
    for entry in fs::read_dir(folder.path()).unwrap() {
        let text = text(&entry.unwrap().path());
        let is_json = text.starts_with('{');
        for line in text.lines() {
            let parsed = serde_json::from_str::<serde_json::Value>(line);
            assert_eq!(parsed.is_ok(), is_json, "{line}");
        }
        files += 1;
    }
    assert_eq!(files, CHANGES + 1);
}

#[test]
fn fewer_backups_leave_no_older_ones() {
    let cloud = Cloud::start();
    let folder = tempfile::tempdir().unwrap();
    let backup = |number: u32| folder.path().join(format!("{NAME}.{number}"));
    for number in 1..=6 {
        fs::write(backup(number), "2026\n").unwrap();
    }
    let agent = setup(&cloud, folder.path(), "MaxBackups = 5\n").start();
    let config = agent.folder().join("config.toml");
    fs::write(&config, text(&config).replace("= 5", "= 2")).unwrap();
    hang_up(&agent, folder.path());
    let left: Vec<u32> = (1..=6).filter(|number| backup(*number).exists()).collect();
    // The sixth file belongs to another program.
    assert_eq!(left, [1, 2, 6]);
}

#[test]
fn lines_in_json_have_the_members_of_zap() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let folder = tempfile::tempdir().unwrap();
    let agent = setup(&cloud, folder.path(), "Format = \"Json\"\n").start();
    read(&agent, "s", 1);
    let log = folder.path().join(NAME);
    until("the request is logged", || text(&log).contains("access"));
    let lines: Vec<serde_json::Value> = text(&log)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for line in &lines {
        let level = line["level"].as_str().unwrap();
        assert!(
            ["debug", "info", "warn", "error"].contains(&level),
            "{line}"
        );
        assert!(line["ts"].as_f64().unwrap() > 1.6e9, "{line}");
        let caller = line["caller"].as_str().unwrap();
        assert!(
            caller.contains(".rs:") && !caller.starts_with('/'),
            "{line}"
        );
        assert!(!line["msg"].as_str().unwrap().is_empty(), "{line}");
    }
    let access = lines
        .iter()
        .find(|line| line["target"] == "access")
        .unwrap();
    assert_eq!(access["secret"], "s");
    assert_eq!(access["status"], 200);
}
