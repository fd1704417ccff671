//! Credentials that appear later, without a restart.

use kms_agent_emulator::{Action, Fault};
use kms_agent_test_support::{TestAgent, http};

use super::choice::by_rrsa;
use super::profile::{access_key, cli_file, ini_file};
use super::{assert_reads, at_home, attach, cloud, provider, put, wait_until, without_key};

fn has_none(agent: &TestAgent) {
    let reply = agent.read("s");
    assert_eq!(
        (reply.status, reply.json()["Code"].as_str()),
        (503, Some("CredentialsUnavailable"))
    );
    let ready = http::get(agent.port(), "/readyz", &[]);
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert_eq!(ready.json()["checks"]["credentials"]["state"], "failed");
}

fn recovers(agent: &TestAgent) {
    wait_until(agent, "the recovery", || agent.read("s").status == 200);
    assert_eq!(http::get(agent.port(), "/readyz", &[]).status, 200);
}

#[test]
fn one_failure_of_the_issuer_at_the_start_is_waited_out_by_the_first_reader() {
    let cloud = cloud(None);
    let fault = Fault::status(500, "InternalError").on(Action::CredentialsUri);
    cloud.fault(fault.times(1)).unwrap();
    let agent = without_key(&cloud)
        .env(
            "ALIBABA_CLOUD_CREDENTIALS_URI",
            format!("{}/credentials", cloud.base_url()),
        )
        .start();
    assert_reads(&agent);
}

#[test]
fn without_credentials_it_starts_says_so_and_recovers() {
    let cloud = cloud(None);
    let agent = without_key(&cloud).start();
    has_none(&agent);
    attach(&cloud, Some("app-role"));
    recovers(&agent);
}

#[test]
fn a_profile_that_appears_is_taken() {
    for (lines, place) in [
        ("", ".aliyun/config.json"),
        ("", ".alibabacloud/credentials.ini"),
        ("Provider = \"Profile\"\n", ".alibabacloud/credentials"),
    ] {
        let cloud = cloud(None);
        let folder = tempfile::tempdir().unwrap();
        let beside = folder.path().join(place).with_file_name("");
        std::fs::create_dir(beside).unwrap();
        let agent = at_home(&cloud, folder.path(), &[])
            .and_config(lines)
            .start();
        has_none(&agent);
        let file = if place.contains("json") {
            cli_file(&format!(r#""mode":"AK",{}"#, access_key(&cloud)))
        } else {
            ini_file(&cloud)
        };
        put(folder.path(), place, &file);
        recovers(&agent);
        // The role of an instance is another identity.
        attach(&cloud, Some("app-role"));
        assert!(provider(&agent).ends_with("profile"));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_profile_in_a_folder_that_is_made_later_needs_a_restart() {
    if !crate::process::kernel_confines() {
        return;
    }
    let cloud = cloud(None);
    let folder = tempfile::tempdir().unwrap();
    let setup = at_home(&cloud, folder.path(), &[]);
    let agent = setup.clone().start();
    assert!(
        agent.stderr().contains("Folders that do not exist"),
        "{}",
        agent.stderr()
    );
    let file = cli_file(&format!(r#""mode":"AK",{}"#, access_key(&cloud)));
    put(folder.path(), ".aliyun/config.json", &file);
    let said = "outside the folders that the process may open since its start; restart the agent";
    wait_until(&agent, said, || agent.stderr().contains(said));
    has_none(&agent);
    drop(agent);
    assert_reads(&setup.start());
}

#[test]
fn a_token_that_is_projected_late_is_taken() {
    let cloud = cloud(None);
    let folder = tempfile::tempdir().unwrap();
    let setup = by_rrsa(&cloud, folder.path(), "the-projected-token");
    std::fs::remove_file(folder.path().join("token")).unwrap();
    let agent = setup.start();
    has_none(&agent);
    put(folder.path(), "token", "the-projected-token");
    recovers(&agent);
}
