//! `RLIMIT_FSIZE`: a write past the limit is an error like a full disk, and does not kill the process.

use std::fs;
use std::process::Command;

use kms_agent_test_support::{Setup, http};
use rustix::process::Resource;

use super::shortage::{check_state, limit, metric, wait_until};
use crate::harness::cloud::{BINARY, Cloud};

fn setup(cloud: &Cloud) -> Setup {
    cloud.setup().config(format!(
        "[Server]\nHttpPort = 0\n[Log]\nLogLevel = \"Debug\"\nLogPath = \"./logs/\"\n\
         [Cache]\nCacheType = \"Persistent\"\n\
         [KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\n",
        cloud.base_url()
    ))
}

#[test]
fn a_limit_that_is_reached_at_work_degrades_store_and_log_until_it_is_lifted() {
    let cloud = Cloud::start();
    for number in 0..20 {
        cloud.put(&format!("s{number}"), "value");
    }
    let agent = setup(&cloud).start();
    assert_eq!(agent.read("s0").status, 200);
    assert_eq!(check_state(&agent, "cache"), "ok");

    limit(&agent, Resource::Fsize, Some(1));
    for number in 0..20 {
        assert_eq!(agent.read(&format!("s{number}")).status, 200);
    }
    wait_until(&agent, "degraded", || {
        check_state(&agent, "cache") == "degraded"
    });
    let gauge = "kms_agent_check_state{check=\"cache\"}";
    assert_eq!(metric(&agent, gauge), 1);
    wait_until(&agent, "counted", || {
        metric(&agent, "kms_agent_log_lines_dropped_total") > 0
    });
    assert_eq!(http::get(agent.port(), "/readyz", &[]).status, 200);

    limit(&agent, Resource::Fsize, None);
    wait_until(&agent, "healed", || check_state(&agent, "cache") == "ok");
    assert_eq!(metric(&agent, gauge), 0);
    let log = agent.folder().join("logs/kms-agent.log");
    wait_until(&agent, "logged", || {
        agent.read("s1");
        fs::read_to_string(&log).is_ok_and(|text| text.contains("secret=\"s1\""))
    });
}

#[test]
fn an_agent_starts_and_serves_under_a_limit_below_the_size_of_its_store() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = setup(&cloud).by("ulimit -f 8; exec \"$@\"").start();
    assert_eq!(agent.read("s").status, 200);
    assert_eq!(check_state(&agent, "cache"), "degraded");
    let (status, _) = agent.stop();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_token_that_cannot_be_written_is_a_failure_with_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let (status, said) = Setup::new(BINARY)
        .env("KMS_TOKEN", format!("file://{}", token.display()))
        .by("ulimit -f 0; exec \"$@\"")
        .run();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("File too large"), "{said}");

    let output = Command::new("bash")
        .args(["-c", "ulimit -f 0; exec \"$0\" token \"$1\"", BINARY])
        .arg(&token)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!token.exists());
}

#[test]
fn a_program_that_replaces_the_agent_has_the_usual_actions_of_signals() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud.setup().start();
    let output = Command::new(BINARY)
        .args(["exec", "--port", &agent.port().to_string(), "-e", "V=s"])
        .args(["--", "grep", "^Sig", "/proc/self/status"])
        .env("KMS_TOKEN", kms_agent_test_support::TOKEN)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mask = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.expect(name).trim(), 16).unwrap()
    };
    for signal in [13, 25] {
        for kind in ["SigIgn:", "SigBlk:", "SigCgt:"] {
            assert_eq!(mask(kind) >> (signal - 1) & 1, 0, "{kind} {signal}: {text}");
        }
    }
}
