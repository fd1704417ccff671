//! Credential files that exist, or may exist, and cannot be read.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use kms_agent_test_support::{Setup, TestAgent};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::choice::by_rrsa;
use super::profile::{access_key, cli_file};
use super::{assert_reads, at_home, cloud, put, role_arn, wait_until, without_key};
use crate::harness::cloud::Cloud;

const FILE: &str = ".aliyun/config.json";

/// Starter without the capabilities that let root ignore permissions.
fn unprivileged(setup: Setup) -> Setup {
    if rustix::process::geteuid().is_root() {
        setup.by("exec setpriv --bounding-set -dac_override,-dac_read_search \"$@\"")
    } else {
        setup
    }
}

/// Expects that no secret is read, and that the log contains all of `words`.
fn assert_is_nobody(cloud: &Cloud, agent: &TestAgent, words: &[&str]) {
    let reply = agent.read("s");
    assert_eq!(
        (reply.status, reply.json()["Code"].as_str()),
        (503, Some("CredentialsUnavailable")),
        "{}",
        agent.stderr()
    );
    assert_eq!(cloud.reads(), 0, "another identity was used");
    for word in words {
        wait_until(agent, word, || agent.stderr().contains(word));
    }
}

fn key_file(cloud: &Cloud) -> String {
    cli_file(&format!(r#""mode":"AK",{}"#, access_key(cloud)))
}

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn a_profile_that_cannot_be_seen_never_makes_the_agent_somebody_else() {
    let cloud = cloud(Some("app-role"));
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let setup = at_home(&cloud, home, &[(FILE, &key_file(&cloud))]);
    let shut = home.join(".aliyun");
    fs::set_permissions(&shut, Permissions::from_mode(0o000)).unwrap();
    let agent = unprivileged(setup).start();
    assert_is_nobody(
        &cloud,
        &agent,
        &[
            "CLI configuration",
            "cannot be read: permission denied",
            "let the agent's user read it",
            "another HOME",
        ],
    );
    fs::set_permissions(&shut, Permissions::from_mode(0o700)).unwrap();
    wait_until(&agent, "the recovery", || agent.read("s").status == 200);
}

#[test]
fn a_link_that_leads_nowhere_yet_is_waited_for() {
    let cloud = cloud(Some("app-role"));
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    fs::create_dir(home.join(".aliyun")).unwrap();
    symlink("mounted.json", home.join(FILE)).unwrap();
    let agent = at_home(&cloud, home, &[]).start();
    assert_is_nobody(&cloud, &agent, &["cannot be read: there is no such file"]);
    put(home, ".aliyun/mounted.json", &key_file(&cloud));
    wait_until(&agent, "the recovery", || agent.read("s").status == 200);
}

#[test]
fn a_pipe_in_the_place_of_a_file_keeps_nobody_waiting() {
    let cloud = cloud(Some("app-role"));
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    fs::create_dir(home.join(".aliyun")).unwrap();
    pipe(&home.join(FILE));
    let agent = at_home(&cloud, home, &[]).start();
    assert_is_nobody(
        &cloud,
        &agent,
        &["cannot be read: it is not a regular file"],
    );

    let by_token = by_rrsa(&cloud, home, "");
    fs::remove_file(home.join("token")).unwrap();
    pipe(&home.join("token"));
    let agent = by_token.start();
    assert_is_nobody(&cloud, &agent, &["by OIDC", "it is not a regular file"]);
}

#[test]
fn a_token_that_may_not_be_read_is_no_reason_for_a_new_one() {
    let cloud = cloud(None);
    let folder = tempfile::tempdir().unwrap();
    let setup = by_rrsa(&cloud, folder.path(), "the-projected-token");
    let shut = folder.path().join("token");
    fs::set_permissions(&shut, Permissions::from_mode(0o000)).unwrap();
    let agent = unprivileged(setup).start();
    assert_is_nobody(&cloud, &agent, &["by OIDC", "permission denied", "chown"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_the_process_shut_out_at_its_start_needs_a_restart() {
    if !crate::process::kernel_confines() {
        return;
    }
    let cloud = cloud(None);
    cloud.register_oidc_token("the-projected-token");
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let home = folder.path();
    put(outside.path(), "token", "the-projected-token");
    let agent = at_home(&cloud, home, &[(FILE, &key_file(&cloud))]).start();
    assert_reads(&agent);

    let profile = cli_file(&format!(
        r#""mode":"OIDC","ram_role_arn":"{}","oidc_provider_arn":"acs:ram::{}:oidc-provider/ack","oidc_token_file":"{}""#,
        role_arn(&cloud, "app"),
        cloud.account_id(),
        outside.path().join("token").display()
    ));
    put(home, FILE, &profile);
    let said = "outside the folders that the process may open since its start; restart the agent";
    wait_until(&agent, said, || agent.stderr().contains(said));
    drop(agent);
    let restarted = without_key(&cloud)
        .env("HOME", home.to_str().unwrap())
        .start();
    assert_reads(&restarted);
}
