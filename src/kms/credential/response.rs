//! Temporary credentials, as STS, the metadata service and credentials URIs write them.

use kms_agent_core::Timestamp;
use serde::Deserialize;

use crate::gateway::Credential;
use crate::gateway::wire::{Text, parse_http_date, parse_object};
use crate::http::HttpResponse;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CredentialMembers<'a> {
    #[serde(borrow, default)]
    code: Option<Text<'a>>,
    #[serde(borrow, default)]
    access_key_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    access_key_secret: Option<Text<'a>>,
    #[serde(borrow, default)]
    security_token: Option<Text<'a>>,
    #[serde(borrow, default)]
    expiration: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    credentials: CredentialMembers<'a>,
}

/// Reads the flat form. What is wrong is said without quoting anything.
pub(super) fn parse_flat(body: &[u8]) -> Result<Credential, &'static str> {
    let members: CredentialMembers<'_> = json(body)?;
    if members
        .code
        .as_ref()
        .is_some_and(|code| &**code != "Success")
    {
        return Err("its answer reports a failure");
    }
    members.credential()
}

/// Reads the form of STS, where the credentials are a member.
pub(super) fn parse_sts(body: &[u8]) -> Result<Credential, &'static str> {
    json::<Envelope<'_>>(body)?.credentials.credential()
}

/// The issuer's clock when it answered.
pub(super) fn issuer_time(response: &HttpResponse) -> Option<Timestamp> {
    response.header("date").and_then(parse_http_date)
}

fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, &'static str> {
    parse_object(body).ok_or("its answer holds no credentials")
}

impl CredentialMembers<'_> {
    fn credential(self) -> Result<Credential, &'static str> {
        let all = (
            given(self.access_key_id.as_ref()),
            given(self.access_key_secret.as_ref()),
            given(self.security_token.as_ref()),
            given(self.expiration.as_ref()),
        );
        let (Some(id), Some(secret), Some(token), Some(expiration)) = all else {
            return Err("its answer holds no complete credentials");
        };
        let expires_at = Timestamp::parse_rfc3339(expiration)
            .ok_or("the Expiration in its answer is not a date")?;
        let credential = Credential::new(id, secret)
            .with_security_token(token)
            .with_expiry(expires_at);
        if credential.unsendable_part().is_some() {
            return Err("its answer holds credentials that cannot be sent");
        }
        Ok(credential)
    }
}

fn given<'a>(text: Option<&'a Text<'_>>) -> Option<&'a str> {
    text.map(|text| &**text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAT: &str = r#"{"Code":"Success","AccessKeyId":"STS.a","AccessKeySecret":"s","SecurityToken":"t\/k",
        "Expiration":"2026-01-02T04:04:05Z","LastUpdated":"2026-01-01T22:04:05Z"}"#;

    #[test]
    fn both_forms_are_understood() {
        let nested = format!(r#"{{"RequestId":"r","Credentials":{FLAT}}}"#);
        for credential in [parse_flat(FLAT.as_bytes()), parse_sts(nested.as_bytes())] {
            let credential = credential.expect("credentials");
            assert_eq!(credential.access_key_id(), "STS.a");
            assert_eq!(credential.access_key_secret(), "s");
            assert_eq!(credential.security_token(), Some("t/k"));
            assert_eq!(
                credential.expires_at().and_then(Timestamp::to_rfc3339),
                Some("2026-01-02T04:04:05Z".to_owned())
            );
        }
    }

    #[test]
    fn an_incomplete_profile_is_refused_without_being_quoted() {
        for (cut, put) in [
            (r#""AccessKeySecret":"s","#, ""),
            ("STS.a", ""),
            ("2026-01-02T04:04:05Z", "soon"),
            ("Success", "Failed"),
            ("{", "["),
        ] {
            let error = parse_flat(FLAT.replacen(cut, put, 1).as_bytes()).expect_err(cut);
            assert!(error.starts_with("its answer") || error.starts_with("the Expiration"));
        }
        assert!(parse_sts(FLAT.as_bytes()).is_err());
    }
}
