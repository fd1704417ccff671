//! Error answers, in the two forms of the services.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;
use serde_json::json;

use crate::wire::answer::ServiceAnswer;

/// Source of a refusal, which decides the form of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    /// The OpenAPI gateway in front of a product, and STS behind it.
    Gateway,
    /// KMS itself.
    Kms,
}

/// Refusal of a request. Holds no value, token or secret of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceRefusal {
    voice: Voice,
    pub(crate) status: u16,
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: Cow<'static, str>,
}

/// Further members of an error answer.
#[derive(Clone, Debug)]
pub(crate) struct Occasion<'a> {
    pub(crate) request_id: String,
    pub(crate) host: &'a str,
    pub(crate) product: &'static str,
}

impl ServiceRefusal {
    /// Creates a refusal of the gateway.
    pub(crate) fn gateway(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            voice: Voice::Gateway,
            status,
            code: code.into(),
            message: message.into(),
        }
    }

    /// Creates a refusal of KMS.
    pub(crate) fn kms(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            voice: Voice::Kms,
            ..Self::gateway(status, code, message)
        }
    }

    /// Creates KMS's refusal of a secret or version that does not exist.
    pub(crate) fn not_found() -> Self {
        Self::kms(404, "Forbidden.ResourceNotFound", "Resource not found.")
    }

    /// Creates the gateway's refusal of a missing parameter, with `Missing` and the parameter's name as its code.
    pub(crate) fn missing(parameter: &str) -> Self {
        Self::gateway(
            400,
            format!("Missing{parameter}"),
            format!("{parameter} is mandatory for this action."),
        )
    }

    /// Returns the error answer.
    pub(crate) fn answer(&self, occasion: Occasion<'_>) -> ServiceAnswer {
        let body = match self.voice {
            Voice::Gateway => json!({
                "RequestId": occasion.request_id.to_uppercase(),
                "HostId": occasion.host,
                "Code": self.code,
                "Message": self.message,
                "Recommend": format!(
                    "https://api.aliyun.com/troubleshoot?q={}&product={}",
                    self.code, occasion.product
                ),
            }),
            Voice::Kms => json!({
                "HttpStatus": self.status,
                "Code": self.code,
                "Message": self.message,
                "RequestId": occasion.request_id,
            }),
        };
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        ServiceAnswer::json(status, &body).with_code(&self.code)
    }
}

/// Refusal of an order. Names members, never a value that may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidOrder(String);

impl InvalidOrder {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for InvalidOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidOrder {}
