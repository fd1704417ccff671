//! Secrets in each response type.

use kms_agent_test_support::{Setup, TestAgent};

use super::{PATH_ROUTE, QUERY_ROUTE, answers, assert_json_headers, speaking};
use crate::harness::cloud::{BINARY, Cloud};

/// A body of KMS and its form in response types 1 and 2. Type 0 returns it unchanged.
struct Golden {
    name: &'static str,
    kms: &'static str,
    aws: &'static str,
    vault: &'static str,
}

const GOLDEN: [Golden; 9] = [
    Golden {
        name: "text",
        kms: r#"{"RequestId":"r-1","SecretName":"text","SecretType":"Generic","SecretDataType":"text","SecretData":"p\u00e4ss\/\"w\\ö\n密码 \ud83d\ude00","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/text","Name":"text","VersionId":"v1","SecretString":"p\u00e4ss\/\"w\\ö\n密码 \ud83d\ude00","VersionStages":["AWSCURRENT"],"CreatedDate":1767323045}"#,
        vault: r#"{"request_id":"r-1","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"value":"p\u00e4ss\/\"w\\ö\n密码 \ud83d\ude00"},"metadata":{"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"secret_name":"text","secret_type":"Generic","version_id":"v1","version_stages":"ACSCurrent"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    // Base64 of the bytes of SecretData, because KMS does not promise that SecretData is base64.
    Golden {
        name: "binary",
        kms: r#"{"RequestId":"r-2","SecretName":"binary","SecretType":"Generic","SecretDataType":"binary","SecretData":"AP8Q\u00e9\/","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/binary","Name":"binary","VersionId":"v1","SecretBinary":"QVA4UcOpLw==","VersionStages":["AWSCURRENT"],"CreatedDate":1767323045}"#,
        vault: r#"{"request_id":"r-2","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"value":"AP8Q\u00e9\/"},"metadata":{"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"secret_name":"binary","secret_type":"Generic","version_id":"v1","version_stages":"ACSCurrent"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    // Spaces, number formats and repeated members of the value stay unchanged.
    Golden {
        name: "object",
        kms: r#"{"RequestId":"r-3","SecretName":"object","SecretType":"Generic","SecretDataType":"text","SecretData":" {\"user\": \"\u00fc\\n\\u00e9\", \"n\": [1.0, 12345678901234567890123, 1e400], \"n\": null}\n","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/object","Name":"object","VersionId":"v1","SecretString":" {\"user\": \"\u00fc\\n\\u00e9\", \"n\": [1.0, 12345678901234567890123, 1e400], \"n\": null}\n","VersionStages":["AWSCURRENT"],"CreatedDate":1767323045}"#,
        vault: r#"{"request_id":"r-3","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"user": "ü\n\u00e9", "n": [1.0, 12345678901234567890123, 1e400], "n": null},"metadata":{"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"secret_name":"object","secret_type":"Generic","version_id":"v1","version_stages":"ACSCurrent"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    Golden {
        name: "array",
        kms: r#"{"RequestId":"r-4","SecretName":"array","SecretType":"Generic","SecretDataType":"text","SecretData":"[{\"a\":1}]","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/array","Name":"array","VersionId":"v1","SecretString":"[{\"a\":1}]","VersionStages":["AWSCURRENT"],"CreatedDate":1767323045}"#,
        vault: r#"{"request_id":"r-4","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"value":"[{\"a\":1}]"},"metadata":{"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"secret_name":"array","secret_type":"Generic","version_id":"v1","version_stages":"ACSCurrent"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    Golden {
        name: "string",
        kms: r#"{"RequestId":"r-5","SecretName":"string","SecretType":"Generic","SecretDataType":"text","SecretData":"\"{}\"","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/string","Name":"string","VersionId":"v1","SecretString":"\"{}\"","VersionStages":["AWSCURRENT"],"CreatedDate":1767323045}"#,
        vault: r#"{"request_id":"r-5","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"value":"\"{}\""},"metadata":{"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"secret_name":"string","secret_type":"Generic","version_id":"v1","version_stages":"ACSCurrent"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    Golden {
        name: "half",
        kms: r#"{"RequestId":"r-6","SecretName":"half","SecretType":"Generic","SecretDataType":"text","SecretData":"{\"a\":1} and more","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/half","Name":"half","VersionId":"v1","SecretString":"{\"a\":1} and more","VersionStages":["AWSCURRENT"],"CreatedDate":1767323045}"#,
        vault: r#"{"request_id":"r-6","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"value":"{\"a\":1} and more"},"metadata":{"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"secret_name":"half","secret_type":"Generic","version_id":"v1","version_stages":"ACSCurrent"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    Golden {
        name: "empty",
        kms: r#"{"RequestId":"r-7","SecretName":"empty","SecretType":"Generic","SecretDataType":"text","SecretData":"","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/empty","Name":"empty","VersionId":"v1","SecretString":"","VersionStages":["AWSCURRENT"],"CreatedDate":1767323045}"#,
        vault: r#"{"request_id":"r-7","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"value":""},"metadata":{"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"secret_name":"empty","secret_type":"Generic","version_id":"v1","version_stages":"ACSCurrent"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    // Several stages, one of them custom; a managed secret; an unknown member; white space.
    Golden {
        name: "managed",
        kms: r#" { "SecretName":"managed","SecretType":"Rds","SecretDataType":"text","SecretData":"{\"AccountName\":\"a\",\"AccountPassword\":\"p\"}","VersionId":"v\u0032","VersionStages":{"VersionStage":["ACSCurrent","bl\u00fce","ACSPrevious"]},"CreateTime":"1969-12-31T23:59:58Z","AutomaticRotation":"Enabled","RotationInterval":"604800s","NextRotationDate":"2020-01-01T00:00:00Z","Novelty":[1,{"a":null}],"RequestId":"r-8" } "#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/managed","Name":"managed","VersionId":"v2","SecretString":"{\"AccountName\":\"a\",\"AccountPassword\":\"p\"}","VersionStages":["AWSCURRENT","blüe","AWSPREVIOUS"],"CreatedDate":-2}"#,
        vault: r#"{"request_id":"r-8","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"AccountName":"a","AccountPassword":"p"},"metadata":{"created_time":"1969-12-31T23:59:58Z","custom_metadata":{"secret_name":"managed","secret_type":"Rds","version_id":"v2","version_stages":"ACSCurrent,blüe,ACSPrevious"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    // Only the required members of a GetSecretValue answer.
    Golden {
        name: "bare",
        kms: r#"{"SecretName":"bare","SecretData":"x","VersionId":"v1"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/bare","Name":"bare","VersionId":"v1","SecretString":"x","VersionStages":[],"CreatedDate":0}"#,
        vault: r#"{"request_id":"","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"value":"x"},"metadata":{"created_time":"","custom_metadata":{"secret_name":"bare","version_id":"v1","version_stages":""},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
];

#[test]
fn a_secret_is_told_in_three_formats_fetched_or_cached_by_query_or_by_path() {
    let cloud = Cloud::start();
    for golden in &GOLDEN {
        answers(&cloud, golden.name, 200, golden.kms);
    }
    for response_type in 0..3 {
        let agent = speaking(&cloud, response_type);
        for golden in &GOLDEN {
            let expected = [golden.kms, golden.aws, golden.vault][response_type];
            for (route, cached) in [
                (QUERY_ROUTE, false),
                (QUERY_ROUTE, true),
                (PATH_ROUTE, true),
            ] {
                let reply = agent.get(&format!("{route}{}", golden.name));
                assert_eq!(reply.status, 200, "{}", reply.text());
                assert_eq!(reply.text(), expected, "ResponseType {response_type}");
                assert_json_headers(&reply);
                let status = reply.header("cache-status").unwrap();
                assert_eq!(status.starts_with("kms-agent; hit;"), cached, "{status}");
                assert!(reply.header("age").is_some());
            }
        }
    }
}

#[test]
fn an_arn_is_told_as_it_was_asked_for_and_an_unknown_region_is_left_empty() {
    let cloud = Cloud::start();
    cloud.put("app/db", "value");
    let arn = format!("acs:kms:cn-hangzhou:{}:secret/app/db", cloud.account_id());
    let told = |agent: &TestAgent, id: &str| {
        let reply = agent.read(id);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["Name"], "app/db");
        reply.json()["ARN"].as_str().unwrap().to_owned()
    };
    let agent = speaking(&cloud, 1);
    assert_eq!(told(&agent, &arn), arn);
    assert_eq!(told(&agent, "app/db"), "acs:kms:cn-hangzhou::secret/app/db");

    let key = cloud.access_key();
    let nowhere = Setup::new(BINARY)
        .config(format!(
            "[Server]\nHttpPort = 0\nResponseType = 1\n[KMS]\nEndpoint = \"{}\"\n[Log]\nLogPath = \"\"\n",
            cloud.base_url()
        ))
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", key.id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", key.expose_secret())
        .start();
    assert_eq!(told(&nowhere, "app/db"), "acs:kms:::secret/app/db");
}
