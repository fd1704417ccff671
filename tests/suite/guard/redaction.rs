//! No log line, error or metric contains a value, a token or a key.

use kms_agent_emulator::{Fault, FaultKind};
use kms_agent_test_support::{TOKEN, http};

use crate::harness::cloud::Cloud;

const CANARIES: [&str; 3] = [
    "canary-value-7f3a",
    "canary-other-91bc",
    "canary-wrong-token-44",
];

#[test]
fn a_whole_run_at_level_debug_holds_no_value_token_or_key() {
    let cloud = Cloud::start();
    cloud.put("s", CANARIES[0]);
    cloud.put("json", &format!(r#"{{"a":"{}"}}"#, CANARIES[1]));
    let agent = cloud.setup().start();
    let port = agent.port();
    for target in [
        "s",
        "json",
        "s&refreshNow=true",
        "missing",
        "s&versionId=nope",
        "s&unknown=1",
    ] {
        agent.read(target);
    }
    http::get(port, "/v1/s", &[("X-KMS-Token", CANARIES[2])]);
    http::get(port, "/v1/s", &[("X-KMS-Token", TOKEN), ("Via", "proxy")]);
    for fault in [
        Fault::status(500, "InternalFailure"),
        Fault::new(FaultKind::Garbage),
        Fault::new(FaultKind::Cut),
        Fault::status(403, "Forbidden.NoPermission"),
        Fault::status(404, "InvalidAccessKeyId.NotFound"),
        Fault::status(400, "SignatureDoesNotMatch"),
    ] {
        cloud.fault(fault.times(3)).unwrap();
        agent.read("s&refreshNow=true");
        cloud.clear_faults();
    }
    for path in ["/ping", "/livez", "/readyz", "/metrics"] {
        let text = http::get(port, path, &[]).text().to_owned();
        assert!(
            CANARIES.iter().all(|canary| !text.contains(canary)),
            "{path}"
        );
    }
    let key = cloud.access_key().clone();
    let (status, log) = agent.stop();
    assert_eq!(status.code(), Some(0));
    assert!(
        log.contains("DEBUG") && log.contains("secret=\"json\""),
        "the log was at level Debug:\n{log}"
    );
    for secret in CANARIES
        .into_iter()
        .chain([TOKEN, key.id(), key.expose_secret()])
    {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}
