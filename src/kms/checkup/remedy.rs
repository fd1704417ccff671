//! What to do about what.

use kms_agent_core::SourceError;
use kms_agent_core::source::SourceErrorKind;

use crate::http::{HttpErrorKind, TlsFault};

/// Whether KMS only says this to somebody whose signature it has checked.
pub(super) fn shows_recognition(code: &str) -> bool {
    matches!(
        code,
        "Forbidden.ResourceNotFound" | "Forbidden.NoPermission"
    )
}

/// What to do about an answer of KMS to credentials of `provider`.
pub(super) fn of_refusal(error: &SourceError, provider: &str) -> String {
    let is_static = provider == "environment";
    let text = match error.code() {
        "InvalidAccessKeyId.NotFound" if is_static => {
            "there is no such AccessKey, or its STS token has expired; check ALIBABA_CLOUD_ACCESS_KEY_ID"
        }
        "SignatureDoesNotMatch" if is_static => {
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET is not the secret of ALIBABA_CLOUD_ACCESS_KEY_ID; set it anew"
        }
        "InvalidAccessKeyId.Inactive" | "Forbidden.AccessKey" | "Forbidden.AccessKeyDisabled" => {
            "the AccessKey is disabled; enable it in RAM, or use another"
        }
        "InvalidSecurityToken.Expired" if is_static => {
            "the STS token has expired; get a new one, or use a role, which the agent renews by itself"
        }
        code if is_static
            && (code.starts_with("InvalidSecurityToken") || code == "MissingSecurityToken") =>
        {
            "set ALIBABA_CLOUD_SECURITY_TOKEN to the token that was issued with this AccessKey, or unset it"
        }
        "Forbidden.NoPermission" | "Forbidden.RAM" => {
            "allow this identity kms:GetSecretValue on the secret, and kms:Decrypt on its key"
        }
        "Forbidden.ResourceNotFound" => "check the secret's name and the region",
        "Forbidden.KeyNotFound" | "Rejected.Disabled" => {
            "enable the key that the secret is encrypted with"
        }
        "Forbidden.KmsServiceNotEnabled" => "activate KMS in this account",
        code if code.starts_with("Forbidden.InDebt") => "settle the account's bill",
        _ => {
            return match error.kind() {
                SourceErrorKind::IdentityRefused => {
                    format!("check what the provider {provider} hands out")
                }
                SourceErrorKind::Throttled => {
                    let pause = error.retry_after().map_or_else(
                        || "later".to_owned(),
                        |pause| format!("in {} s", pause.as_secs().max(1)),
                    );
                    format!(
                        "try again {pause}; the quota is the whole account's, so lower \
                         KMS.MaxRequestsPerSecond and that of other callers"
                    )
                }
                SourceErrorKind::ServerFailure => "KMS itself fails; try again later".to_owned(),
                SourceErrorKind::ClockSkew => "set this machine's clock".to_owned(),
                _ => String::new(),
            };
        }
    };
    text.to_owned()
}

/// What to do about an endpoint that speaks, but not as it must.
pub(super) fn of_tls(fault: TlsFault) -> &'static str {
    match fault {
        TlsFault::Untrusted => {
            "a dedicated gateway has a CA of its own: download it in the KMS console and name it in \
             KMS.CaFile; anywhere else somebody sits in between"
        }
        TlsFault::OtherName => {
            "write the host into KMS.Endpoint as its certificate has it, or look for who sits in between"
        }
        TlsFault::Expired | TlsFault::NotYetValid => {
            "set this machine's clock if it is wrong; else the certificate must be renewed"
        }
        TlsFault::NothingInCommon => "update the server, or what sits in between, to TLS 1.2",
        TlsFault::NotSpoken => "check the port in KMS.Endpoint, and what sits in between",
        TlsFault::Other => "check KMS.Endpoint, and what sits in between",
    }
}

/// Whether another gateway may be reached where this one is not.
pub(super) fn is_about_the_way(kind: HttpErrorKind) -> bool {
    matches!(
        kind,
        HttpErrorKind::Connect | HttpErrorKind::Timeout | HttpErrorKind::Cut
    )
}
