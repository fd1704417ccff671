//! Several secrets by one request: batches and lists.

use kms_agent_emulator::{Emulator, PutSecret};
use serde_json::{Value, json};

use crate::client::{Received, Signer, start};

async fn ask(emulator: &Emulator, action: &'static str, parameters: &[(&str, &str)]) -> Received {
    let mut signer = Signer::new(emulator.access_key());
    signer.action = action;
    for (name, value) in parameters {
        signer = signer.parameter(name, value);
    }
    signer.send(emulator).await
}

async fn batch(emulator: &Emulator, list: &Value) -> Received {
    ask(
        emulator,
        "BatchGetSecretValue",
        &[("SecretsList", &list.to_string())],
    )
    .await
}

#[tokio::test]
async fn a_batch_has_values_and_errors() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "one")).unwrap();
    emulator.put_secret(PutSecret::new("a", "two")).unwrap();
    emulator.put_secret(PutSecret::new("b", "three")).unwrap();
    emulator.deny_secret("b");
    let body = batch(
        &emulator,
        &json!([
            {"SecretName": "a"},
            {"SecretName": "a", "VersionStage": "ACSPrevious"},
            {"SecretName": "b"},
            {"SecretName": "none"},
        ]),
    )
    .await
    .json();
    let data: Vec<_> = body["SecretValues"].as_array().unwrap().iter().collect();
    assert_eq!(data.len(), 2);
    assert_eq!(
        (&data[0]["SecretData"], &data[1]["SecretData"]),
        (&json!("two"), &json!("one"))
    );
    assert_eq!(
        data[0]["VersionStages"]["VersionStage"],
        json!(["ACSCurrent"])
    );
    assert_eq!(
        body["Errors"],
        json!([
            {
                "SecretName": "b",
                "Code": "Forbidden.NoPermission",
                "HttpStatus": 403,
                "Message": "This operation is forbidden by permission system.",
            },
            {
                "SecretName": "none",
                "Code": "Forbidden.ResourceNotFound",
                "HttpStatus": 404,
                "Message": "Resource not found.",
            },
        ])
    );
    assert!(body["RequestId"].is_string());
}

#[tokio::test]
async fn a_batch_has_at_most_20_secrets() {
    let emulator = start();
    let list = |count: usize| json!(vec![json!({"SecretName": "a"}); count]);
    assert_eq!(batch(&emulator, &list(20)).await.status, Some(200));
    for wrong in [list(21), list(0), json!({}), json!(["a"])] {
        let refused = batch(&emulator, &wrong).await.error();
        assert_eq!(refused, (400, "InvalidParameter".to_owned()));
    }
}

#[tokio::test]
async fn secrets_are_listed_by_page_name_and_tag() {
    let emulator = start();
    for index in 0..25 {
        let order = PutSecret::new(format!("app/{index:02}"), "v").tag("team", "billing");
        emulator.put_secret(order).unwrap();
    }
    emulator
        .put_secret(PutSecret::new("web/app/x", "v").tag("team", "web"))
        .unwrap();
    let names = |body: &Value| -> Vec<String> {
        let listed = body["SecretList"]["Secret"].as_array().unwrap();
        listed
            .iter()
            .map(|secret| secret["SecretName"].as_str().unwrap().to_owned())
            .collect()
    };

    let first = ask(&emulator, "ListSecrets", &[]).await.json();
    assert_eq!(
        (names(&first).len(), &first["TotalCount"]),
        (10, &json!(26))
    );
    assert!(first["SecretList"]["Secret"][0]["Tags"].is_null());
    let parameters = [
        ("PageNumber", "3"),
        ("PageSize", "10"),
        ("FetchTags", "true"),
    ];
    let last = ask(&emulator, "ListSecrets", &parameters).await.json();
    assert_eq!(names(&last).last().unwrap(), "web/app/x");
    let tags = &last["SecretList"]["Secret"][5]["Tags"];
    assert_eq!(
        *tags,
        json!({"Tag": [{"TagKey": "team", "TagValue": "web"}]})
    );

    for (filters, count) in [
        (json!([{"Key": "SecretName", "Values": ["app/"]}]), 26),
        (
            json!([{"Key": "SecretName", "Values": ["app/01", "web/"]}]),
            2,
        ),
        (
            json!([{"Key": "TagKey", "Values": ["team"]}, {"Key": "TagValue", "Values": ["web"]}]),
            1,
        ),
    ] {
        let body = ask(
            &emulator,
            "ListSecrets",
            &[("Filters", &filters.to_string())],
        )
        .await
        .json();
        assert_eq!(body["TotalCount"], count);
    }
    for wrong in [("PageSize", "101"), ("PageNumber", "0"), ("Filters", "x")] {
        assert_eq!(ask(&emulator, "ListSecrets", &[wrong]).await.error().0, 400);
    }
}
