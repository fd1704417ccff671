//! Table of all status codes, and the public text of every error.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use kms_agent_core::{SourceError, SourceErrorKind};

/// Response that is not the secret. Its texts tell the developer of the application what to do. They contain no
/// internal cause, which is logged where it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) request_id: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    /// For 405.
    pub(crate) allow: Option<&'static str>,
}

/// Error of the agent itself, by its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reject {
    InvalidParameter,
    MissingParameter,
    ForwardedRequest,
    InvalidRequest,
    ForbiddenHost,
    ForbiddenOrigin,
    InvalidToken,
    AccessDenied,
    UnknownPath,
    MethodNotAllowed,
    UriTooLong,
    HeadersTooLarge,
    TooManyConnections,
    InvalidUpstreamAnswer,
    StoreUnavailable,
    FieldNotFound,
    TooManyWatchers,
}

impl Reject {
    const fn row(self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidParameter => (StatusCode::BAD_REQUEST, "InvalidParameter"),
            Self::MissingParameter => (StatusCode::BAD_REQUEST, "MissingParameter"),
            Self::ForwardedRequest => (StatusCode::BAD_REQUEST, "ForwardedRequest"),
            Self::InvalidRequest => (StatusCode::BAD_REQUEST, "InvalidRequest"),
            Self::ForbiddenHost => (StatusCode::FORBIDDEN, "ForbiddenHost"),
            Self::ForbiddenOrigin => (StatusCode::FORBIDDEN, "ForbiddenOrigin"),
            Self::InvalidToken => (StatusCode::FORBIDDEN, "InvalidToken"),
            Self::AccessDenied => (StatusCode::FORBIDDEN, "AccessDenied"),
            Self::UnknownPath => (StatusCode::NOT_FOUND, "UnknownPath"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::UriTooLong => (StatusCode::URI_TOO_LONG, "UriTooLong"),
            Self::HeadersTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "HeadersTooLarge",
            ),
            Self::TooManyConnections => (StatusCode::TOO_MANY_REQUESTS, "TooManyConnections"),
            Self::InvalidUpstreamAnswer => (StatusCode::BAD_GATEWAY, "InvalidUpstreamAnswer"),
            Self::StoreUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "StoreUnavailable"),
            Self::FieldNotFound => (StatusCode::NOT_FOUND, "FieldNotFound"),
            Self::TooManyWatchers => (StatusCode::TOO_MANY_REQUESTS, "TooManyWatchers"),
        }
    }

    /// Returns the error with the sentence that tells the developer what to do.
    pub(crate) fn because(self, message: impl Into<String>) -> ApiError {
        let (status, code) = self.row();
        ApiError {
            status,
            code: code.to_owned(),
            message: message.into(),
            request_id: None,
            retry_after: None,
            allow: None,
        }
    }
}

/// `Retry-After` where KMS names no time.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);

impl From<Arc<SourceError>> for ApiError {
    fn from(error: Arc<SourceError>) -> Self {
        let own = |status, message: String| Self {
            status,
            code: error.kind().code().to_owned(),
            message,
            request_id: error
                .refusal()
                .and_then(|refusal| refusal.request_id.clone()),
            retry_after: None,
            allow: None,
        };
        let by_kms = || match error.refusal() {
            Some(refusal) => Self {
                status: StatusCode::from_u16(refusal.status)
                    .ok()
                    .filter(|status| status.is_client_error() || status.is_server_error())
                    .unwrap_or(StatusCode::BAD_GATEWAY),
                code: refusal.code.clone(),
                message: refusal.message.clone(),
                request_id: refusal.request_id.clone(),
                retry_after: None,
                allow: None,
            },
            None => own(
                StatusCode::SERVICE_UNAVAILABLE,
                "KMS failed; try again later.".to_owned(),
            ),
        };
        let retry = |answer: Self| Self {
            retry_after: Some(error.retry_after().unwrap_or(DEFAULT_RETRY)),
            ..answer
        };
        match error.kind() {
            SourceErrorKind::Decision
            | SourceErrorKind::Refused
            | SourceErrorKind::AccountRefused
            | SourceErrorKind::ServerFailure => by_kms(),
            SourceErrorKind::Unavailable => own(
                StatusCode::SERVICE_UNAVAILABLE,
                "KMS could not be reached and no copy may be served; the agent's log says why (network, KMS.Endpoint, KMS.CaFile).".to_owned(),
            ),
            SourceErrorKind::TimedOut => own(
                StatusCode::GATEWAY_TIMEOUT,
                "KMS did not answer in time and no copy may be served; try again later.".to_owned(),
            ),
            SourceErrorKind::Throttled => retry(own(
                StatusCode::SERVICE_UNAVAILABLE,
                "KMS asks for fewer calls and no copy may be served; try again later.".to_owned(),
            )),
            SourceErrorKind::BudgetSpent => retry(own(
                StatusCode::SERVICE_UNAVAILABLE,
                "The agent makes no more calls to KMS for the moment: KMS.MaxRequestsPerSecond is reached, or too many calls are under way; try again later.".to_owned(),
            )),
            SourceErrorKind::InvalidAnswer => own(
                StatusCode::BAD_GATEWAY,
                "The response is not from KMS; check the agent's KMS.Endpoint and any proxy in between.".to_owned(),
            ),
            SourceErrorKind::NoCredentials => own(
                StatusCode::SERVICE_UNAVAILABLE,
                "The agent has no credentials for KMS; its log says what it tried.".to_owned(),
            ),
            SourceErrorKind::IdentityRefused => own(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("KMS refuses the agent's own credentials ({}); check the agent's access key or role.", error.code()),
            ),
            SourceErrorKind::ClockSkew => own(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("KMS refuses the agent's clock ({}); set the machine's time.", error.code()),
            ),
            SourceErrorKind::RegionUnknown => own(
                StatusCode::SERVICE_UNAVAILABLE,
                "The agent's region is unknown; set KMS.Region in its config file or ALIBABA_CLOUD_REGION_ID.".to_owned(),
            ),
            SourceErrorKind::VersionNotFound => own(
                StatusCode::NOT_FOUND,
                "KMS answered with another version than the versionId asked for; managed secrets have only their current version by id.".to_owned(),
            ),
        }
    }
}
