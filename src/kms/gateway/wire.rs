//! What goes to KMS and what comes back, as bytes.

mod answer;
mod date;
mod object;
mod refusal;
mod text;

use kms_agent_core::secret::CURRENT_STAGE;
use kms_agent_core::{SecretRef, VersionSelector};

pub(crate) use self::answer::{Answer, decode};
pub(crate) use self::date::parse_http_date;
pub(crate) use self::object::parse_object;
pub(crate) use self::refusal::{Said, is_word};
pub(crate) use self::text::Text;

pub(crate) const KMS_VERSION: &str = "2016-01-20";
pub(crate) const GET_SECRET_VALUE: &str = "GetSecretValue";

/// The longest answer that is taken from KMS.
pub(crate) const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The longest answer that is taken from STS, the metadata service and a credentials URI.
pub(crate) const MAX_CREDENTIAL_BYTES: usize = 64 * 1024;

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
    fn the_selector_decides_which_parameters_are_sent() {
        let sent = |version_id, stage| {
            let secret = SecretRef {
                id: SecretId::parse("app/db").expect("an id"),
                selector: VersionSelector::parse(version_id, stage).expect("a selector"),
            };
            crate::sign::encode_pairs(&parameters(&secret)).to_string()
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
