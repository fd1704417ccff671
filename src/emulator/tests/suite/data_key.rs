use kms_agent_emulator::Emulator;

use crate::client::{Received, Signer, start};

async fn ask(emulator: &Emulator, action: &'static str, parameters: &[(&str, &str)]) -> Received {
    let mut signer = Signer::new(emulator.access_key());
    signer.action = action;
    for (name, value) in parameters {
        signer = signer.parameter(name, value);
    }
    signer.send(emulator).await
}

#[tokio::test]
async fn a_data_key_is_decrypted_in_its_context_only_and_also_after_a_restart() {
    let emulator = start();
    let arn = format!("acs:kms:{}:1:key/key-a", emulator.region());
    let parameters = [
        ("KeyId", arn.as_str()),
        ("EncryptionContext", r#"{"a":"1","b":"2"}"#),
    ];
    let made = ask(&emulator, "GenerateDataKey", &parameters).await.json();
    let other = ask(&emulator, "GenerateDataKey", &parameters).await.json();
    assert_ne!(made["Plaintext"], other["Plaintext"]);
    assert_eq!(made["KeyId"], "key-a");
    assert_eq!(made["Plaintext"].as_str().unwrap().len(), 44);
    let blob = made["CiphertextBlob"].as_str().unwrap();

    emulator.stop().await;
    let emulator = start();
    let decrypt = |context| {
        let parameters = [("CiphertextBlob", blob), ("EncryptionContext", context)];
        let emulator = &emulator;
        async move { ask(emulator, "Decrypt", &parameters).await }
    };
    let body = decrypt(r#"{"b":"2","a":"1"}"#).await.json();
    assert_eq!(
        (&body["Plaintext"], &body["KeyId"]),
        (&made["Plaintext"], &made["KeyId"])
    );
    for context in ["", r#"{"a":"1","b":"3"}"#] {
        let refused = decrypt(context).await.error();
        assert_eq!(refused, (400, "InvalidParameter".to_owned()));
    }
}

#[tokio::test]
async fn a_request_without_its_key_or_with_a_key_elsewhere_is_refused() {
    let emulator = start();
    for (action, parameters, code) in [
        ("GenerateDataKey", [("KeyId", "")], "MissingParameter"),
        (
            "GenerateDataKey",
            [("KeyId", "acs:kms:mars-north-1:1:key/key-a")],
            "Forbidden.KeyNotFound",
        ),
        ("Decrypt", [("CiphertextBlob", "")], "MissingParameter"),
        (
            "Decrypt",
            [("CiphertextBlob", "bm9uZQ==")],
            "InvalidParameter",
        ),
    ] {
        assert_eq!(ask(&emulator, action, &parameters).await.error().1, code);
    }
}
