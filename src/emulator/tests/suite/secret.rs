use kms_agent_emulator::{Emulator, PutSecret, Rotation, SecretState, SecretType};
use serde_json::json;

use crate::client::{Received, Signer, read, start};

async fn ask(emulator: &Emulator, parameters: &[(&str, &str)]) -> Received {
    let mut signer = Signer::new(emulator.access_key());
    for (name, value) in parameters {
        signer = signer.parameter(name, value);
    }
    signer.send(emulator).await
}

#[tokio::test]
async fn an_answer_has_the_members_of_the_real_one() {
    let emulator = start();
    let order = PutSecret::new("app/db", "hunter2").version_id("v1");
    emulator.put_secret(order).unwrap();
    let reply = read(&emulator, "app/db").await;
    let mut body = reply.json();
    let members = body.as_object_mut().unwrap();
    assert!(members.remove("RequestId").unwrap().is_string());
    let created = members.remove("CreateTime").unwrap();
    assert_eq!(
        created.as_str().unwrap().len(),
        "2026-01-02T03:04:05Z".len()
    );
    assert_eq!(
        body,
        json!({
            "SecretName": "app/db",
            "SecretType": "Generic",
            "SecretData": "hunter2",
            "SecretDataType": "text",
            "VersionId": "v1",
            "VersionStages": {"VersionStage": ["ACSCurrent"]},
        })
    );
}

#[tokio::test]
async fn a_new_version_takes_over_and_the_old_one_becomes_previous() {
    let emulator = start();
    let ids: Vec<String> = ["one", "two", "three"]
        .map(|value| emulator.put_secret(PutSecret::new("a", value)).unwrap())
        .to_vec();
    assert!(ids.iter().all(|id| id.len() == 32));

    for (parameter, value, data, stages) in [
        ("VersionStage", "ACSCurrent", "three", json!(["ACSCurrent"])),
        ("VersionStage", "ACSPrevious", "two", json!(["ACSPrevious"])),
        ("VersionId", ids[0].as_str(), "one", json!([])),
    ] {
        let body = ask(&emulator, &[("SecretName", "a"), (parameter, value)])
            .await
            .json();
        assert_eq!(body["SecretData"], data);
        assert_eq!(body["VersionStages"]["VersionStage"], stages);
    }
}

#[tokio::test]
async fn a_custom_stage_moves_and_leaves_the_current_version_alone() {
    let emulator = start();
    emulator
        .put_secret(PutSecret::new("a", "one").stages(["blue"]))
        .unwrap();
    emulator
        .put_secret(PutSecret::new("a", "two").stages(["blue"]))
        .unwrap();
    let current = read(&emulator, "a").await.json();
    assert_eq!(current["SecretData"], "one");
    let blue = ask(&emulator, &[("SecretName", "a"), ("VersionStage", "blue")])
        .await
        .json();
    assert_eq!(blue["SecretData"], "two");
}

#[tokio::test]
async fn version_id_and_stage_must_both_hold() {
    let emulator = start();
    emulator
        .put_secret(PutSecret::new("a", "one").version_id("v1"))
        .unwrap();
    emulator
        .put_secret(PutSecret::new("a", "two").version_id("v2"))
        .unwrap();
    let ask = |id, stage| {
        let parameters = [
            ("SecretName", "a"),
            ("VersionId", id),
            ("VersionStage", stage),
        ];
        let emulator = &emulator;
        async move { ask(emulator, &parameters).await }
    };
    assert_eq!(ask("v2", "ACSCurrent").await.json()["SecretData"], "two");
    assert_eq!(
        ask("v1", "ACSCurrent").await.error(),
        (400, "InvalidParameter".to_owned())
    );
    assert_eq!(
        ask("v3", "ACSCurrent").await.error(),
        (404, "Forbidden.ResourceNotFound".to_owned())
    );
}

#[tokio::test]
async fn an_arn_of_this_region_names_the_secret() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("app/db", "v")).unwrap();
    let here = format!("acs:kms:{}:1:secret/app/db", emulator.region());
    assert_eq!(read(&emulator, &here).await.json()["SecretName"], "app/db");
    let elsewhere = "acs:kms:mars-north-1:1:secret/app/db";
    assert_eq!(
        read(&emulator, elsewhere).await.error(),
        (404, "Forbidden.ResourceNotFound".to_owned())
    );
}

#[tokio::test]
async fn a_managed_secret_has_rotation_members_and_ignores_version_ids() {
    let emulator = start();
    let rotation = Rotation {
        automatic: Some("Enabled".to_owned()),
        interval: Some("604800s".to_owned()),
        last_at: Some("2026-01-01T00:00:00Z".to_owned()),
        next_at: Some("2026-01-08T00:00:00Z".to_owned()),
        extended_config: Some(r#"{"SecretSubType":"SingleUser"}"#.to_owned()),
    };
    let order = PutSecret::new("rds", "one").version_id("v1");
    emulator
        .put_secret(order.managed(SecretType::Rds, rotation))
        .unwrap();
    emulator
        .put_secret(PutSecret::new("rds", "two").version_id("v2"))
        .unwrap();

    let plain = ask(&emulator, &[("SecretName", "rds"), ("VersionId", "v1")])
        .await
        .json();
    assert_eq!(plain["VersionId"], "v2");
    assert_eq!(plain["SecretType"], "Rds");
    assert_eq!(plain["AutomaticRotation"], "Enabled");
    assert_eq!(plain["RotationInterval"], "604800s");
    assert_eq!(plain["LastRotationDate"], "2026-01-01T00:00:00Z");
    assert_eq!(plain["NextRotationDate"], "2026-01-08T00:00:00Z");
    assert!(plain["ExtendedConfig"].is_null());

    let parameters = [("SecretName", "rds"), ("FetchExtendedConfig", "True")];
    let extended = ask(&emulator, &parameters).await.json();
    assert_eq!(
        extended["ExtendedConfig"],
        r#"{"SecretSubType":"SingleUser"}"#
    );
}

#[tokio::test]
async fn a_binary_value_is_passed_on_as_it_was_put() {
    let emulator = start();
    emulator
        .put_secret(PutSecret::new("a", "AAEC").binary())
        .unwrap();
    let body = read(&emulator, "a").await.json();
    assert_eq!(body["SecretData"], "AAEC");
    assert_eq!(body["SecretDataType"], "binary");
}

#[tokio::test]
async fn refusals_about_a_secret_have_the_shape_of_kms() {
    let emulator = start();
    for name in ["disabled", "keyless", "doomed", "gone"] {
        emulator.put_secret(PutSecret::new(name, "v")).unwrap();
    }
    emulator.deny_secret("denied");
    emulator.set_secret_state("disabled", SecretState::KeyDisabled);
    emulator.set_secret_state("keyless", SecretState::KeyNotFound);
    emulator.set_secret_state("doomed", SecretState::InDeleteWindow);
    assert!(emulator.delete_secret("gone"));
    assert!(!emulator.delete_secret("gone"));
    for (name, status, code) in [
        ("denied", 403, "Forbidden.NoPermission"),
        ("disabled", 409, "Rejected.Disabled"),
        ("keyless", 404, "Forbidden.KeyNotFound"),
        ("doomed", 409, "Rejected.ResourceInDeleteWindow"),
        ("gone", 404, "Forbidden.ResourceNotFound"),
        ("", 400, "MissingParameter"),
        ("a\nb", 400, "InvalidParameter"),
    ] {
        let reply = read(&emulator, name).await;
        assert_eq!(reply.error(), (status, code.to_owned()));
        let body = reply.json();
        assert_eq!(body["HttpStatus"], status);
        assert!(body["RequestId"].is_string() && body["HostId"].is_null());
    }
}

#[tokio::test]
async fn a_dry_run_never_gives_the_value() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "hunter2")).unwrap();
    emulator.deny_secret("denied");
    for (name, code) in [
        ("a", "DryRunOperationError"),
        ("denied", "AccessDeniedError"),
        ("none", "ValidationError"),
    ] {
        let reply = ask(&emulator, &[("SecretName", name), ("DryRun", "true")]).await;
        assert_eq!(reply.error().1, code);
    }
}

#[tokio::test]
async fn a_version_id_is_used_once() {
    let emulator = start();
    emulator
        .put_secret(PutSecret::new("a", "one").version_id("v1"))
        .unwrap();
    let again = emulator.put_secret(PutSecret::new("a", "two").version_id("v1"));
    assert!(again.is_err());
    assert_eq!(read(&emulator, "a").await.json()["SecretData"], "one");
}
