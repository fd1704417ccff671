//! Wire forms of requests to KMS and of its answers.

mod answer;
mod batch;
mod data_key;
mod refusal;
mod text;

use std::time::SystemTime;

use kms_agent_core::secret::CURRENT_STAGE;
use kms_agent_core::{SecretRef, Timestamp, VersionSelector};
use serde::Deserialize;

pub(crate) use self::answer::{SecretAnswer, decode};
pub(crate) use self::batch::{BatchAnswer, decode_batch};
pub(crate) use self::data_key::{DataKeyAnswer, decode_data_key};
pub(crate) use self::refusal::{ErrorBody, is_word};
pub(crate) use self::text::Text;

pub(crate) const KMS_VERSION: &str = "2016-01-20";
pub(crate) const GET_SECRET_VALUE: &str = "GetSecretValue";

/// The longest answer that is taken from KMS.
pub(crate) const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The longest answer that is taken from STS, the metadata service and a credentials URI.
pub(crate) const MAX_CREDENTIAL_BYTES: usize = 64 * 1024;

/// Reads a JSON object; `None` for anything else. The reason is left out, since it would quote the text.
pub(crate) fn parse_object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    let text = std::str::from_utf8(body).ok()?;
    // serde also accepts an array of the members' values.
    if !text.trim_start().starts_with('{') {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Reads an HTTP date (RFC 9110).
pub(crate) fn parse_http_date(text: &str) -> Option<Timestamp> {
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    let since_1970 = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let millis = i64::try_from(since_1970.as_millis()).ok()?;
    Some(Timestamp::from_millis(millis))
}

/// The parameters that ask for `secret`.
pub(crate) fn parameters(secret: &SecretRef) -> Vec<(&'static str, &str)> {
    let selector = &secret.selector;
    let mut parameters = vec![("SecretName", secret.id.as_str())];
    if *selector == VersionSelector::CURRENT {
        parameters.push(("VersionStage", CURRENT_STAGE));
    }
    if let Some(version_id) = selector.version_id() {
        parameters.push(("VersionId", version_id));
    }
    if let Some(stage) = selector.stage() {
        parameters.push(("VersionStage", stage));
    }
    parameters
}

#[cfg(test)]
mod tests {
    use kms_agent_core::SecretId;

    use super::*;

    #[test]
    fn a_date_header_is_read_to_the_second() {
        let at = parse_http_date("Mon, 06 Jul 2020 18:22:03 GMT");
        assert_eq!(at.map(Timestamp::as_millis), Some(1_594_059_723_000));
        assert_eq!(parse_http_date("2020-07-06T18:22:03Z"), None);
        assert_eq!(parse_http_date("120"), None);
    }

    #[test]
    fn the_selector_decides_which_parameters_are_sent() {
        let sent = |version_id, stage| {
            let secret = SecretRef {
                id: SecretId::parse("app/db").expect("an id"),
                selector: VersionSelector::parse(version_id, stage).expect("a selector"),
            };
            crate::gateway::sign::encode_pairs(&parameters(&secret)).to_string()
        };
        assert_eq!(
            sent(None, None),
            "SecretName=app%2Fdb&VersionStage=ACSCurrent"
        );
        assert_eq!(sent(Some("v1"), None), "SecretName=app%2Fdb&VersionId=v1");
        assert_eq!(
            sent(None, Some("AWSPREVIOUS")),
            "SecretName=app%2Fdb&VersionStage=ACSPrevious"
        );
        assert_eq!(
            sent(Some("v1"), Some("ACSCurrent")),
            "SecretName=app%2Fdb&VersionId=v1&VersionStage=ACSCurrent"
        );
    }
}
