//! The log file: its rotation, its permissions, and a disk that fails under it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use kms_agent_emulator::Fault;
use kms_agent_test_support::http::{self, Connection};
use kms_agent_test_support::{Setup, TOKEN, TestAgent};

use crate::cloud::Cloud;
use crate::namespace::{is_inside, mount};

const NAME: &str = "kms-agent.log";
const TO_STDERR: &str = "The log file cannot be written; logging to stderr";
const LOST: &str = "The log file cannot be written; lines are lost";

/// An agent that logs every request to `folder`.
fn setup(cloud: &Cloud, folder: &Path, more: &str) -> Setup {
    cloud.setup().config(format!(
        "[Server]\nHttpPort = 0\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\n\
         [Log]\nLogLevel = \"Debug\"\nLogPath = \"{}\"\n{more}",
        cloud.base_url(),
        folder.display(),
    ))
}

/// Reads a held secret `times` times on one connection, and makes sure of every answer.
fn read(agent: &TestAgent, name: &str, times: usize) {
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

fn lost_lines(agent: &TestAgent) -> u64 {
    let metrics = http::get(agent.port(), "/metrics", &[]);
    let line = metrics
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("kms_agent_log_lines_dropped_total "));
    line.unwrap().parse().unwrap()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "in vain waited until {what}"
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
    if !is_inside("log::a_full_log_disk_costs_lines_and_nothing_else_and_heals") {
        return;
    }
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    fs::create_dir(&logs).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=2m", "tmpfs"], &logs);
    // So soon full that it wants to be rotated while there is no room.
    let agent = setup(&cloud, &logs, "MaxSize = 1\n").start();
    read(&agent, "s", 70);
    // Whatever is free.
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
        // Also where the disk was full, a line is whole or not there.
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
            .fault(Fault::status(503, "ServiceUnavailable"))
            .unwrap();
        // An access line, which only the file takes, and a warning.
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
