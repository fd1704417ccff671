//! The one place that says what kind of failure an answer of KMS is.

use std::time::Duration;

use kms_agent_core::SourceError;
use kms_agent_core::source::{KmsRefusal, SourceErrorKind};

use crate::gateway::wire::ErrorBody;
use crate::http::{HttpError, HttpErrorKind, HttpResponse};

/// Comparison with a code of the table.
enum Code {
    Is(&'static str),
    Begins(&'static str),
}

use Code::{Begins, Is};

/// Codes and their kinds. Any other code is a refusal, unless the status says that the server failed.
const TABLE: &[(Code, SourceErrorKind)] = &[
    (Is("Rejected.Throttling"), SourceErrorKind::Throttled),
    (Begins("Throttling"), SourceErrorKind::Throttled),
    (Begins("InvalidTimeStamp."), SourceErrorKind::ClockSkew),
    (Is("IllegalTimestamp"), SourceErrorKind::ClockSkew),
    (
        Begins("InvalidAccessKeyId"),
        SourceErrorKind::IdentityRefused,
    ),
    (
        Begins("InvalidSecurityToken"),
        SourceErrorKind::IdentityRefused,
    ),
    (Is("MissingSecurityToken"), SourceErrorKind::IdentityRefused),
    (
        Begins("Forbidden.AccessKey"),
        SourceErrorKind::IdentityRefused,
    ),
    (
        Is("SignatureDoesNotMatch"),
        SourceErrorKind::IdentityRefused,
    ),
    (Begins("Forbidden.InDebt"), SourceErrorKind::AccountRefused),
    (
        Is("Forbidden.KmsServiceNotEnabled"),
        SourceErrorKind::AccountRefused,
    ),
    (
        Is("Forbidden.ProhibitedByRiskControl"),
        SourceErrorKind::AccountRefused,
    ),
    (
        Begins("Forbidden.UbsmsInvalid"),
        SourceErrorKind::AccountRefused,
    ),
    (Is("Rejected.Unavailable"), SourceErrorKind::ServerFailure),
    (Begins("ServiceUnavailable"), SourceErrorKind::ServerFailure),
    // An older spelling of KMS's own.
    (Begins("SerivceUnavailable"), SourceErrorKind::ServerFailure),
    (Is("InternalFailure"), SourceErrorKind::ServerFailure),
    (Is("InternalError"), SourceErrorKind::ServerFailure),
    (Is("Forbidden.ResourceNotFound"), SourceErrorKind::Decision),
    (Is("Forbidden.NoPermission"), SourceErrorKind::Decision),
    (Is("Forbidden.KeyNotFound"), SourceErrorKind::Decision),
    (Is("Rejected.Disabled"), SourceErrorKind::Decision),
];

/// Whether `code` is a complaint about the time of the request.
pub(crate) fn is_clock_skew(status: u16, code: &str) -> bool {
    kind_of(status, code) == SourceErrorKind::ClockSkew
}

fn kind_of(status: u16, code: &str) -> SourceErrorKind {
    if status == 429 {
        return SourceErrorKind::Throttled;
    }
    let known = TABLE.iter().find(|(pattern, _)| match pattern {
        Is(whole) => code == *whole,
        Begins(prefix) => code.starts_with(prefix),
    });
    match known.map(|(_, kind)| *kind) {
        // What a failing server says decides nothing.
        None | Some(SourceErrorKind::Decision) if status >= 500 => SourceErrorKind::ServerFailure,
        None => SourceErrorKind::Refused,
        Some(kind) => kind,
    }
}

/// The error that an answer without a secret amounts to.
pub(crate) fn from_response(response: &HttpResponse, asked_pause: Option<Duration>) -> SourceError {
    let status = response.status;
    let said = if status < 400 {
        None
    } else {
        ErrorBody::parse(&response.body)
    };
    let Some(said) = said else {
        return match status {
            429 => SourceError::new(
                SourceErrorKind::Throttled,
                sentence(SourceErrorKind::Throttled),
            ),
            status => not_kms(status),
        }
        .with_retry_after(asked_pause);
    };
    let kind = kind_of(status, &said.code);
    let mut refusal = said.into_refusal(status);
    if kind == SourceErrorKind::IdentityRefused {
        // It is about the agent, not about anything its readers did.
        refusal.message = String::new();
    }
    SourceError::new(kind, sentence(kind))
        .with_retry_after(asked_pause)
        .with_refusal(refusal)
}

/// The error that the refusal of one secret of a batch amounts to.
pub(crate) fn from_entry(refusal: KmsRefusal) -> SourceError {
    let kind = kind_of(refusal.status, &refusal.code);
    SourceError::new(kind, sentence(kind)).with_refusal(refusal)
}

/// Error for an answer of another server, such as a proxy.
pub(crate) fn not_kms(status: u16) -> SourceError {
    SourceError::new(
        SourceErrorKind::InvalidAnswer,
        format!(
            "the answer is not from KMS (status {status}); check KMS.Endpoint and what lies in between"
        ),
    )
}

/// The error that an answer to another question amounts to.
pub(crate) fn mixed_up() -> SourceError {
    SourceError::new(
        SourceErrorKind::InvalidAnswer,
        "the answer is about another secret or stage than the one asked for; check KMS.Endpoint and what lies in between, which mixes answers up",
    )
}

/// The error that no answer at all amounts to.
pub(crate) fn from_http(error: HttpError, authority: &str) -> SourceError {
    let (kind, text) = match error.kind() {
        HttpErrorKind::Timeout => {
            // Which is all that there is to say.
            let text = format!("{authority} did not answer in time{}", error.by_proxy());
            return SourceError::new(SourceErrorKind::TimedOut, text);
        }
        HttpErrorKind::TooLarge | HttpErrorKind::Garbled => {
            (SourceErrorKind::InvalidAnswer, "gave no KMS answer")
        }
        HttpErrorKind::Cut | HttpErrorKind::Stale => (SourceErrorKind::Unavailable, "was asked"),
        HttpErrorKind::Setup
        | HttpErrorKind::Connect
        | HttpErrorKind::Tls(_)
        | HttpErrorKind::Other => (SourceErrorKind::Unavailable, "could not be reached"),
    };
    SourceError::new(kind, format!("{authority} {text}")).with_cause(error)
}

const fn sentence(kind: SourceErrorKind) -> &'static str {
    match kind {
        SourceErrorKind::Throttled => "KMS asks for fewer calls",
        SourceErrorKind::ServerFailure => "KMS failed",
        SourceErrorKind::ClockSkew => {
            "KMS refuses the time of the request; set this machine's clock"
        }
        SourceErrorKind::IdentityRefused => {
            "KMS refuses the agent's own credentials; check that they are current and enabled"
        }
        SourceErrorKind::AccountRefused => {
            "KMS refuses the whole account; check its balance and that KMS is enabled for it"
        }
        SourceErrorKind::Decision => "KMS does not give out this secret",
        _ => "KMS refused the request",
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn response(status: u16, body: &str) -> HttpResponse {
        HttpResponse {
            status,
            headers: Vec::new(),
            body: Zeroizing::new(body.as_bytes().to_vec()),
        }
    }

    fn error(status: u16, code: &str) -> SourceError {
        let body = format!(r#"{{"Code":"{code}","Message":"the message","RequestId":"r-1"}}"#);
        from_response(&response(status, &body), None)
    }

    #[test]
    fn every_documented_code_has_its_kind() {
        use SourceErrorKind as Kind;
        for (status, code, kind) in [
            (429, "Rejected.Throttling", Kind::Throttled),
            (400, "Rejected.Throttling", Kind::Throttled),
            (503, "Rejected.Throttling", Kind::Throttled),
            (400, "Throttling", Kind::Throttled),
            (400, "Throttling.User", Kind::Throttled),
            (400, "ThrottlingException", Kind::Throttled),
            (429, "Anything", Kind::Throttled),
            (400, "InvalidTimeStamp.Expired", Kind::ClockSkew),
            (400, "InvalidTimeStamp.Format", Kind::ClockSkew),
            (400, "IllegalTimestamp", Kind::ClockSkew),
            (404, "InvalidAccessKeyId.NotFound", Kind::IdentityRefused),
            (400, "InvalidAccessKeyId.Inactive", Kind::IdentityRefused),
            (400, "InvalidAccessKeyId", Kind::IdentityRefused),
            (400, "InvalidSecurityToken.Expired", Kind::IdentityRefused),
            (
                400,
                "InvalidSecurityToken.MismatchWithAccessKey",
                Kind::IdentityRefused,
            ),
            (400, "MissingSecurityToken", Kind::IdentityRefused),
            (403, "Forbidden.AccessKey", Kind::IdentityRefused),
            (403, "Forbidden.AccessKeyDisabled", Kind::IdentityRefused),
            (400, "SignatureDoesNotMatch", Kind::IdentityRefused),
            (503, "ServiceUnavailableTemporary", Kind::ServerFailure),
            (503, "SerivceUnavailableTemporary", Kind::ServerFailure),
            (400, "ServiceUnavailable", Kind::ServerFailure),
            (500, "InternalFailure", Kind::ServerFailure),
            (400, "InternalError", Kind::ServerFailure),
            (500, "UnknownError", Kind::ServerFailure),
            (500, "Forbidden.ResourceNotFound", Kind::ServerFailure),
            (404, "Forbidden.ResourceNotFound", Kind::Decision),
            (403, "Forbidden.NoPermission", Kind::Decision),
            (404, "Forbidden.KeyNotFound", Kind::Decision),
            (409, "Rejected.Disabled", Kind::Decision),
            (404, "Forbidden.KeyVersionNotFound", Kind::Refused),
            (404, "Forbidden.ResourceNotFoundHere", Kind::Refused),
            (403, "Forbidden.InDebt", Kind::AccountRefused),
            (403, "Forbidden.InDebtOverdue", Kind::AccountRefused),
            (403, "Forbidden.KmsServiceNotEnabled", Kind::AccountRefused),
            (
                403,
                "Forbidden.ProhibitedByRiskControl",
                Kind::AccountRefused,
            ),
            (403, "Forbidden.UbsmsInvalidUserid", Kind::AccountRefused),
            (409, "Rejected.Unavailable", Kind::ServerFailure),
            (403, "Forbidden.RAM", Kind::Refused),
            (400, "InvalidParameter", Kind::Refused),
            (400, "MissingParameter", Kind::Refused),
            (400, "SignatureNonceUsed", Kind::Refused),
            (409, "Rejected.PendingDeletion", Kind::Refused),
            (400, "Rejected.LimitExceeded", Kind::Refused),
        ] {
            let error = error(status, code);
            assert_eq!(error.kind(), kind, "{status} {code}");
            assert_eq!(error.code(), code);
            let refusal = error.refusal().expect("what KMS said");
            assert_eq!(refusal.status, status);
            assert_eq!(refusal.request_id.as_deref(), Some("r-1"));
        }
    }

    #[test]
    fn the_message_of_kms_is_kept_unless_it_is_about_the_agent_itself() {
        let message = |code| {
            error(403, code)
                .refusal()
                .map(|refusal| refusal.message.clone())
        };
        assert_eq!(
            message("Forbidden.NoPermission").as_deref(),
            Some("the message")
        );
        assert_eq!(message("Forbidden.AccessKey").as_deref(), Some(""));
    }

    #[test]
    fn a_foreign_answer_is_distinguished_from_a_refusal() {
        for status in [200, 204, 301, 302, 404, 500, 502] {
            let error = from_response(&response(status, "<html>hello</html>"), None);
            assert_eq!(error.kind(), SourceErrorKind::InvalidAnswer, "{status}");
            assert!(error.refusal().is_none());
        }
        let error = from_response(&response(429, "slow down"), Some(Duration::from_secs(3)));
        assert_eq!(error.kind(), SourceErrorKind::Throttled);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_failure_on_the_way_names_the_host_and_the_cause() {
        let error = from_http(
            HttpError::new(HttpErrorKind::Connect, "connection refused"),
            "kms.example.com:8443",
        );
        assert_eq!(error.kind(), SourceErrorKind::Unavailable);
        assert_eq!(
            error.report(),
            "kms.example.com:8443 could not be reached: no connection (connection refused)"
        );
    }
}
