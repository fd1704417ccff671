//! Credentials of the agent, and their acceptance by KMS.

use std::time::Duration;

use kms_agent_emulator::Fault;

use super::Check;
use crate::harness::cloud::Cloud;

const ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
const SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
const STS_TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";

#[test]
fn a_wrong_access_key_id() {
    let cloud = Cloud::start();
    let check = Check::new(&cloud).env(ID, "LTAI5tNobodyKnowsThis");
    let said = check.fails(1, "kms", &["404 InvalidAccessKeyId.NotFound", ID]);
    assert!(!said.stdout.contains("LTAI5tNobodyKnowsThis"));
}

#[test]
fn a_wrong_access_key_secret() {
    let cloud = Cloud::start();
    Check::new(&cloud)
        .env(SECRET, "not the secret of that key")
        .fails(1, "kms", &["SignatureDoesNotMatch", SECRET]);
}

#[test]
fn a_disabled_access_key() {
    let cloud = Cloud::start();
    let key = cloud.access_key().id().to_owned();
    cloud.set_access_key_enabled(&key, false);
    Check::new(&cloud).fails(
        1,
        "kms",
        &["InvalidAccessKeyId.Inactive", "enable it in RAM"],
    );
}

#[test]
fn an_sts_token_that_has_expired() {
    let cloud = Cloud::start();
    cloud.set_session_lifetime(Some(Duration::ZERO));
    let session = cloud.issue_session();
    Check::new(&cloud)
        .env(ID, session.id())
        .env(SECRET, session.expose_secret())
        .env(STS_TOKEN, session.expose_token())
        .fails(1, "kms", &["InvalidSecurityToken.Expired", "get a new one"]);
}

#[test]
fn an_sts_token_that_is_missing() {
    let cloud = Cloud::start();
    let session = cloud.issue_session();
    Check::new(&cloud)
        .env(ID, session.id())
        .env(SECRET, session.expose_secret())
        .fails(1, "kms", &["MissingSecurityToken", STS_TOKEN]);
}

#[test]
fn half_a_key_and_none_at_all() {
    let cloud = Cloud::start();
    let check = Check::new(&cloud).env(SECRET, "");
    let said = check.fails(1, "credentials", &[SECRET, "set both or neither"]);
    assert!(said.line("kms").starts_with("skipped"), "{said:?}");
    assert!(said.line("endpoint").starts_with("ok"), "{said:?}");
    check
        .env(ID, "")
        .fails(1, "credentials", &["no credentials are configured", ID]);
}

#[test]
fn no_permission_for_the_secret() {
    let cloud = Cloud::start();
    cloud.put("app/db", "value");
    cloud.deny_secret("app/db");
    Check::new(&cloud).secret("app/db").fails(
        1,
        "kms",
        &["403 Forbidden.NoPermission", "kms:GetSecretValue"],
    );
}

#[test]
fn no_such_secret() {
    let cloud = Cloud::start();
    Check::new(&cloud).secret("app/db").fails(
        1,
        "kms",
        &["404 Forbidden.ResourceNotFound", "name and the region"],
    );
}

#[test]
fn throttling_by_kms() {
    let cloud = Cloud::start();
    let mut fault = Fault::status(429, "Rejected.Throttling");
    fault
        .headers
        .insert("Retry-After".to_owned(), "30".to_owned());
    fault.matching.action = Some(kms_agent_emulator::Action::GetSecretValue);
    cloud.fault(fault).unwrap();
    Check::new(&cloud).fails(
        1,
        "kms",
        &[
            "429 Rejected.Throttling",
            "in 30 s",
            "KMS.MaxRequestsPerSecond",
        ],
    );
}

#[test]
fn trouble_of_the_account_and_of_kms_itself() {
    for (status, code, remedy) in [
        (403, "Forbidden.InDebt", "settle"),
        (403, "Forbidden.ProhibitedByRiskControl", "is restricted"),
        (409, "Rejected.ResourceInDeleteWindow", "restore it"),
        (409, "Rejected.PendingDeletion", "cancel that"),
        (409, "Rejected.Disabled", "enable the key"),
        (404, "Forbidden.KeyNotFound", "under another"),
        (400, "IncompleteSignature", "changes or repeats requests"),
        (
            404,
            "InvalidAction.NotFound",
            "KMS.Endpoint is not that of KMS",
        ),
        (400, "UnsupportedOperation", "the kind of the secret"),
        (400, "Rejected.NobodyKnows", "look the code up"),
        (403, "Forbidden.KmsServiceNotEnabled", "activate KMS"),
        (503, "ServiceUnavailableTemporary", "try again later"),
    ] {
        let cloud = Cloud::start();
        let fault = Fault::status(status, code).on(kms_agent_emulator::Action::GetSecretValue);
        cloud.fault(fault).unwrap();
        Check::new(&cloud).fails(1, "kms", &[code, remedy]);
    }
}

#[test]
fn answers_that_do_not_come_or_break_off() {
    use kms_agent_emulator::FaultKind;
    for (kind, told, remedy) in [
        (
            FaultKind::Hang,
            "did not answer in time; try again",
            "KMS.RequestTimeoutMs",
        ),
        (FaultKind::Cut, "the connection was cut", "in between"),
        (
            FaultKind::CutMidBody,
            "the connection was cut",
            "in between",
        ),
        (FaultKind::Oversize, "too large", "check KMS.Endpoint"),
    ] {
        let cloud = Cloud::start();
        cloud.put("s", "value");
        let fault = Fault::new(kind).on(kms_agent_emulator::Action::GetSecretValue);
        cloud.fault(fault).unwrap();
        // The check waits only for answers that never come.
        let timeout = if kind == FaultKind::Hang { 300 } else { 9000 };
        Check::new(&cloud)
            .config(&format!("RequestTimeoutMs = {timeout}\nMaxAttempts = 1\n"))
            .secret("s")
            .fails(1, "kms", &[told, remedy]);
    }
}

#[test]
fn a_wrong_key_in_a_profile_is_told_with_the_profile_and_its_file() {
    let cloud = Cloud::start();
    let check = Check::new(&cloud).env(ID, "").env(SECRET, "");
    let path = check.path("config.json");
    let key = cloud.access_key().id();
    let profile = format!(
        r#"{{"current":"dev","profiles":[{{"name":"dev","mode":"AK","access_key_id":"{key}","access_key_secret":"wrong"}}]}}"#
    );
    std::fs::write(&path, profile).unwrap();
    let path = path.to_str().unwrap().to_owned();
    check.env("ALIBABA_CLOUD_CONFIG_FILE", &path).fails(
        1,
        "kms",
        &[
            "SignatureDoesNotMatch",
            "set the key again in profile dev",
            &path,
        ],
    );
}

#[test]
fn a_key_id_that_cannot_be_sent() {
    let cloud = Cloud::start();
    Check::new(&cloud)
        .env(ID, "LTAI\u{e9}")
        .fails(1, "credentials", &[ID, "set it again"]);
}

#[test]
fn the_role_of_the_instance_is_told_with_its_end() {
    let cloud = Cloud::start();
    let url = cloud.base_url().to_owned();
    let said = Check::new(&cloud)
        .env(ID, "")
        .env(SECRET, "")
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "false")
        .config(&format!("[Credentials]\nMetadataEndpoint = \"{url}\"\n"))
        .passes();
    let line = said.line("credentials");
    assert!(
        line.contains("ecs_ram_role, until 20") && line.ends_with('Z'),
        "{line}"
    );
}
