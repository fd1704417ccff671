//! The token's life: where it comes from, and how it changes under a running agent.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use kms_agent_test_support::{Setup, TestAgent, http};

use crate::cloud::BINARY;

const ONE: &str = "1111111111111111";
const TWO: &str = "2222222222222222";

fn start(token: &str) -> TestAgent {
    // No KMS: an agent that lets somebody in says 404 for a path that is not there.
    Setup::new(BINARY).env("KMS_TOKEN", token).start()
}

fn admits(agent: &TestAgent, token: &str) -> bool {
    http::get(agent.port(), "/no/such/path", &[("X-KMS-Token", token)]).status == 404
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "never: {what}");
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
        std::fs::write(&path, ONE).unwrap();
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
