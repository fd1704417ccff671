//! Remedies for failures, for operators.

use kms_agent_core::SourceError;
use kms_agent_core::source::SourceErrorKind;

use crate::gateway::wire::is_word;
use crate::http::{HttpErrorKind, TlsFault};

/// Whether KMS answers so only after it has checked the signature.
pub(super) fn shows_recognition(code: &str) -> bool {
    matches!(
        code,
        "Forbidden.ResourceNotFound" | "Forbidden.NoPermission"
    )
}

/// Origin of the credentials that KMS was shown.
pub(super) struct Shown {
    /// The provider, such as `environment`.
    pub(super) provider: String,
    /// The profile and the file that they stand in, if they do.
    pub(super) place: Option<String>,
}

impl Shown {
    /// Remedy where KMS does not accept them.
    fn remedy(&self, code: &str) -> String {
        if let Some(place) = &self.place {
            return format!("set the key again in {place}");
        }
        if self.provider != "environment" {
            return format!("check what the provider {} hands out", self.provider);
        }
        let text = match code {
            "InvalidAccessKeyId.NotFound" => {
                "there is no such AccessKey, or its STS token has expired; check ALIBABA_CLOUD_ACCESS_KEY_ID"
            }
            "SignatureDoesNotMatch" => {
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET is not the secret of ALIBABA_CLOUD_ACCESS_KEY_ID; set it again"
            }
            "InvalidSecurityToken.Expired" => {
                "the STS token has expired; get a new one, or use a role, which the agent renews by itself"
            }
            code if code.starts_with("InvalidSecurityToken") || code == "MissingSecurityToken" => {
                "set ALIBABA_CLOUD_SECURITY_TOKEN to the token that was issued with this AccessKey, or unset it"
            }
            _ => "check ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        };
        text.to_owned()
    }
}

/// Remedy for a call to KMS that gave no secret.
pub(super) fn of_failure(error: &SourceError, shown: &Shown) -> String {
    if let Some(remedy) = error.refusal().and_then(|_| of_code(error.code())) {
        return remedy.to_owned();
    }
    let text = match error.kind() {
        SourceErrorKind::IdentityRefused => return shown.remedy(error.code()),
        SourceErrorKind::Throttled => {
            let pause = error.retry_after().map_or_else(
                || "later".to_owned(),
                |pause| format!("in {} s", pause.as_secs().max(1)),
            );
            return format!(
                "try again {pause}; the quota is the whole account's, so lower KMS.MaxRequestsPerSecond and that of other callers"
            );
        }
        SourceErrorKind::ServerFailure => "KMS itself fails; try again later",
        SourceErrorKind::ClockSkew => "set this machine's clock",
        SourceErrorKind::TimedOut => {
            "try again; if it stays, look for what holds answers up in between, or raise KMS.RequestTimeoutMs"
        }
        SourceErrorKind::Unavailable => {
            "try again; if it stays, look for what ends connections in between, such as a firewall"
        }
        // The error names the remedy itself unless it is an HTTP failure.
        SourceErrorKind::InvalidAnswer if error.report().contains("KMS.Endpoint") => "",
        SourceErrorKind::InvalidAnswer => "check KMS.Endpoint, and what sits in between",
        _ => return of_unknown(error),
    };
    text.to_owned()
}

fn of_code(code: &str) -> Option<&'static str> {
    Some(match code {
        "InvalidAccessKeyId.Inactive" | "Forbidden.AccessKey" | "Forbidden.AccessKeyDisabled" => {
            "the AccessKey is disabled; enable it in RAM, or use another"
        }
        "Forbidden.NoPermission" | "Forbidden.RAM" => {
            "allow this identity kms:GetSecretValue on the secret, and kms:Decrypt on its key"
        }
        "Forbidden.ResourceNotFound" => "check the secret's name and the region",
        "Rejected.ResourceInDeleteWindow" => {
            "the secret is being deleted; restore it, or read another"
        }
        "Forbidden.KeyNotFound" | "Forbidden.KeyVersionNotFound" | "Forbidden.AliasNotFound" => {
            "the key that the secret is encrypted with is gone; store the secret again under another"
        }
        "Rejected.Disabled" => "enable the key that the secret is encrypted with",
        "Rejected.PendingDeletion" => {
            "the key that the secret is encrypted with is being deleted; cancel that"
        }
        "Rejected.PendingImport" => {
            "import the material of the key that the secret is encrypted with"
        }
        "Forbidden.KmsServiceNotEnabled" => "activate KMS in this account",
        "Forbidden.ProhibitedByRiskControl"
        | "Forbidden.UbsmsInvalidUserid"
        | "Forbidden.UbsmsInvalidBid" => {
            "the account is restricted; see its messages in the console, or ask support"
        }
        code if code.starts_with("Forbidden.InDebt") => "settle the account's bill",
        "IncompleteSignature" | "InvalidSignatureMethod" | "SignatureNonceUsed" => {
            "what sits in between changes or repeats requests; take it out of the way"
        }
        "UnsupportedOperation" | "Rejected.UnsupportedOperation" => {
            "this gateway does not give out this secret; check KMS.Endpoint, and the kind of the secret"
        }
        "InvalidAction.NotFound"
        | "InvalidApi.NotFound"
        | "InvalidProduct.NotFound"
        | "InvalidVersion"
        | "InvalidProtocol.NeedSsl" => {
            "KMS.Endpoint is not that of KMS; leave it out, or name a gateway of KMS"
        }
        _ => return None,
    })
}

fn of_unknown(error: &SourceError) -> String {
    let request = error
        .refusal()
        .and_then(|refusal| refusal.request_id.as_deref())
        .filter(|id| is_word(id));
    match request {
        Some(id) => format!(
            "look the code up in the documentation of KMS, or ask support about request {id}"
        ),
        None => "look the code up in the documentation of KMS".to_owned(),
    }
}

/// Remedy for a failed TLS handshake.
pub(super) fn of_tls(fault: TlsFault, has_ca_file: bool) -> &'static str {
    match fault {
        TlsFault::Untrusted if has_ca_file => {
            "KMS.CaFile does not hold the CA that signed it, or the server leaves out its intermediate"
        }
        TlsFault::Untrusted => {
            "name a dedicated gateway's CA, from the KMS console, in KMS.CaFile; else somebody sits in between"
        }
        TlsFault::Unfit => "give the server a certificate of its own, made for servers",
        TlsFault::OtherName => {
            "write the host into KMS.Endpoint as its certificate has it, or look for who sits in between"
        }
        TlsFault::Expired | TlsFault::NotYetValid => {
            "set this machine's clock if it is wrong; else the certificate must be renewed"
        }
        TlsFault::NothingInCommon => "update the server, or what sits in between, to TLS 1.2",
        TlsFault::NotSpoken => "check the port in KMS.Endpoint, and what sits in between",
        TlsFault::Cut => "look for what ends connections in between, such as a firewall",
        TlsFault::Other => "check KMS.Endpoint, and what sits in between",
    }
}

/// Whether another gateway may be reached where this one is not.
pub(super) fn is_about_the_way(kind: HttpErrorKind) -> bool {
    matches!(
        kind,
        HttpErrorKind::Connect | HttpErrorKind::Timeout | HttpErrorKind::Cut | HttpErrorKind::Stale
    )
}
