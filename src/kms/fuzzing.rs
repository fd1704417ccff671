//! Entry points for the fuzzer: parsers of foreign input. Each function panics where a promise is
//! broken.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::credential;
use crate::gateway::error;
use crate::gateway::wire::{ErrorBody, decode};
use crate::http::HttpResponse;
use crate::location::metadata;
use crate::location::region::Region;

/// Stands for a secret that no message may repeat.
const CANARY: &str = "hunter2";

/// An answer of KMS.
pub fn kms_answer(status: u16, body: &[u8]) {
    let owned = || Zeroizing::new(body.to_vec());
    if let Some(answer) = decode(owned()) {
        assert_eq!(answer.secret.answer.expose(), body, "it is kept as it came");
        let version_id = &answer.secret.version_id;
        assert!((1..=64).contains(&version_id.len()) && version_id.is_ascii());
        let labels = answer.secret.stages.iter().map(|stage| &**stage);
        for label in labels.chain([&**version_id]) {
            assert!(
                !label
                    .chars()
                    .any(|letter| letter.is_control() || letter.is_whitespace())
            );
            assert!((1..=64).contains(&label.chars().count()));
        }
    }
    let response = HttpResponse {
        status,
        headers: Vec::new(),
        body: owned(),
    };
    let error = error::from_response(&response, Some(Duration::from_secs(1)));
    assert!(error.code().len() <= 128);
    assert!(!error.code().contains(char::is_control), "{error}");
    let Some(said) = ErrorBody::parse(body) else {
        return;
    };
    assert!((1..=128).contains(&said.code.len()));
    assert!(said.message.len() <= 4096);
}

/// An answer of STS.
pub fn sts_answer(body: &[u8]) {
    credential::fuzz_issued(body);
    if let Some(said) = ErrorBody::parse(body) {
        assert!((1..=128).contains(&said.code.len()));
    }
}

/// An answer of the metadata service, or of a credentials URI.
pub fn metadata_answer(body: &[u8]) {
    credential::fuzz_issued(body);
    let response = HttpResponse {
        status: 200,
        headers: Vec::new(),
        body: Zeroizing::new(body.to_vec()),
    };
    let Some(text) = metadata::text(&response) else {
        return;
    };
    assert!(!text.is_empty() && text.trim() == text.as_str());
    if let Ok(region) = Region::parse(&text) {
        let host = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(region.as_str().bytes().all(host), "{region}");
    }
}

/// A file that may hold profiles, and the name of one.
pub fn profile(text: &str, wanted: Option<&str>) {
    // Whatever is appended, the key before it is not told.
    let cli = format!(
        r#"{{"current":"a","profiles":[{{"name":"a","access_key_secret":"{CANARY}",{text}}}]}}"#
    );
    let ini = format!("[default]\naccess_key_secret = {CANARY}\n{text}");
    for said in [
        credential::fuzz_profile(text.as_bytes(), wanted),
        credential::fuzz_profile(cli.as_bytes(), None),
        credential::fuzz_profile(ini.as_bytes(), None),
    ] {
        assert!(
            text.contains(CANARY)
                || wanted.is_some_and(|name| name.contains(CANARY))
                || !said.contains(CANARY),
            "{said}"
        );
    }
}
