//! Sources of the token, and its replacement while the agent runs.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use kms_agent_test_support::{Setup, TestAgent, http};

use crate::harness::cloud::BINARY;

const ONE: &str = "1111111111111111";
const TWO: &str = "2222222222222222";

fn start(token: &str) -> TestAgent {
    // Without KMS: 404 for an unknown path shows that the token was accepted.
    Setup::new(BINARY).env("KMS_TOKEN", token).start()
}

fn admits(agent: &TestAgent, token: &str) -> bool {
    http::get(agent.port(), "/no/such/path", &[("X-KMS-Token", token)]).status == 404
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "still waiting: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_degraded(agent: &TestAgent) -> bool {
    http::get(agent.port(), "/readyz", &[]).json()["checks"]["token"]["state"] == "degraded"
}

#[test]
fn quotes_and_white_space_around_a_literal_are_not_part_of_it() {
    for written in [
        ONE.to_owned(),
        format!("'{ONE}'"),
        format!("\"{ONE}\""),
        format!(" {ONE}\n"),
        format!("' {ONE} '"),
    ] {
        assert!(admits(&start(&written), ONE), "{written:?}");
    }
}

#[test]
fn the_first_variable_that_is_set_counts() {
    let agent = Setup::new(BINARY)
        .env("KMS_TOKEN", ONE)
        .env("KMS_SESSION_TOKEN", TWO)
        .start();
    assert!(admits(&agent, ONE) && !admits(&agent, TWO));
}

#[test]
fn a_missing_file_is_made_for_the_owner_only() {
    let agent = start("'file://made'");
    let path = agent.folder().join("made");
    let token = std::fs::read_to_string(&path).unwrap();
    assert!(
        token.len() == 64
            && token
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    );
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(admits(&agent, &token));
}

#[test]
fn the_projected_volume_of_kubernetes_is_followed_when_it_is_swapped() {
    let folder = tempfile::tempdir().unwrap();
    let version = |name: &str, token: &str| {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name).join("token"), token).unwrap();
    };
    version("..2026_01", ONE);
    symlink("..2026_01", folder.path().join("..data")).unwrap();
    symlink("..data/token", folder.path().join("token")).unwrap();
    let agent = start(&format!("file://{}", folder.path().join("token").display()));
    assert!(admits(&agent, ONE));

    version("..2026_02", TWO);
    symlink("..2026_02", folder.path().join("..data_tmp")).unwrap();
    std::fs::rename(
        folder.path().join("..data_tmp"),
        folder.path().join("..data"),
    )
    .unwrap();
    std::fs::remove_dir_all(folder.path().join("..2026_01")).unwrap();
    wait_until("the new token is honoured", || admits(&agent, TWO));
    assert!(!admits(&agent, ONE), "the old token has ended");
}

#[test]
fn an_unusable_file_leaves_the_last_token_in_force_until_it_is_mended() {
    type Break = fn(&Path);
    let breaks: [(&str, Break); 6] = [
        ("missing", |path| std::fs::remove_file(path).unwrap()),
        ("empty", |path| std::fs::write(path, "").unwrap()),
        ("short", |path| std::fs::write(path, "short").unwrap()),
        ("not visible ASCII", |path| {
            std::fs::write(path, "0123456789 abcdef").unwrap();
        }),
        ("too large", |path| {
            std::fs::write(path, "a".repeat(5000)).unwrap();
        }),
        ("a folder", |path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        }),
    ];
    let agent = start("file://token");
    let path = agent.folder().join("token");
    std::fs::write(&path, ONE).unwrap();
    wait_until("the first token is honoured", || admits(&agent, ONE));
    for (what, spoil) in breaks {
        spoil(&path);
        wait_until(what, || is_degraded(&agent));
        assert!(admits(&agent, ONE), "{what}");
        if path.is_dir() {
            std::fs::remove_dir(&path).unwrap();
        }
        // Whole at once: a file that is being written is empty for a moment, which is one more warning.
        let mended = agent.folder().join("mended");
        std::fs::write(&mended, ONE).unwrap();
        std::fs::rename(&mended, &path).unwrap();
        wait_until("mended", || !is_degraded(&agent));
    }
    assert_eq!(
        agent
            .stderr()
            .matches("The token file cannot be used")
            .count(),
        breaks.len(),
        "once each"
    );
    let (_, log) = agent.stop();
    assert!(!log.contains(ONE) && !log.contains("short\""), "{log}");
}

/// A token file in its own folder, and an agent that follows it.
fn following(token: &str) -> (tempfile::TempDir, TestAgent) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, token).unwrap();
    let agent = start(&format!("file://{}", path.display()));
    (folder, agent)
}

#[test]
fn a_client_that_reads_a_replaced_file_is_never_refused() {
    let (folder, agent) = following(ONE);
    let path = folder.path().join("token");
    for round in 0..30 {
        let token = format!("{round:032x}");
        let output = std::process::Command::new(BINARY)
            .arg("token")
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success());
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(admits(&agent, &written), "round {round}");
        // The same in another way.
        let beside = folder.path().join("beside");
        std::fs::write(&beside, &token).unwrap();
        std::fs::rename(&beside, &path).unwrap();
        assert!(admits(&agent, &token), "round {round}");
        assert!(!admits(&agent, &written), "the old token has ended");
    }
}

#[test]
fn clients_that_read_a_replaced_file_are_not_refused_while_others_guess() {
    let (folder, agent) = following(ONE);
    let path = folder.path().join("token");
    let port = agent.port();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let guessers: Vec<_> = (0..8)
        .map(|_| {
            let stop = std::sync::Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let guess = [("X-KMS-Token", "ffffffffffffffff")];
                    assert_eq!(http::get(port, "/no/such/path", &guess).status, 403);
                }
            })
        })
        .collect();
    for round in 0..20 {
        let token = format!("{round:032x}");
        let beside = folder.path().join("beside");
        std::fs::write(&beside, &token).unwrap();
        std::fs::rename(&beside, &path).unwrap();
        assert!(admits(&agent, &token), "round {round}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for guesser in guessers {
        guesser.join().unwrap();
    }
}

#[test]
fn half_a_token_written_in_place_is_never_one_and_the_whole_one_soon_is() {
    let (folder, agent) = following(ONE);
    let path = folder.path().join("token");
    let whole = "fedcba9876543210fedcba9876543210";
    let (half, _) = whole.split_at(20);
    for _ in 0..20 {
        // It changes more often than it can settle.
        for text in [half, whole] {
            std::fs::write(&path, text).unwrap();
            assert!(!admits(&agent, half), "half a token was taken");
            assert!(admits(&agent, ONE));
        }
    }
    wait_until("the whole token is honoured", || admits(&agent, whole));
    assert!(!admits(&agent, ONE) && !admits(&agent, half));
}

#[test]
fn a_token_file_that_is_a_pipe_or_large_is_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    let large = folder.path().join("large");
    std::fs::write(&large, "a".repeat(5000)).unwrap();
    for path in [&pipe, &large] {
        let setup = Setup::new(BINARY).env("KMS_TOKEN", format!("file://{}", path.display()));
        let (status, said) = setup.run();
        assert_eq!(status.code(), Some(78), "{said}");
    }
}
