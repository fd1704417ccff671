//! Error answers in the two shapes the services use.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;
use serde_json::json;

use crate::wire::answer::ServiceAnswer;

/// Who refuses, which decides the shape of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    /// The OpenAPI gateway in front of a product, and STS behind it.
    Gateway,
    /// KMS itself.
    Kms,
}

/// Why a request is not carried out. Never holds a value, a token or the secret of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceRefusal {
    voice: Voice,
    pub(crate) status: u16,
    pub(crate) code: Cow<'static, str>,
    message: Cow<'static, str>,
}

/// What a gateway error names besides the error.
#[derive(Clone, Debug)]
pub(crate) struct Occasion<'a> {
    pub(crate) request_id: String,
    pub(crate) host: &'a str,
    pub(crate) product: &'static str,
}

impl ServiceRefusal {
    /// The gateway refuses.
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

    /// KMS refuses.
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

    /// The gateway misses a parameter, which it calls `Missing` and the parameter's name.
    pub(crate) fn missing(parameter: &str) -> Self {
        Self::gateway(
            400,
            format!("Missing{parameter}"),
            format!("{parameter} is mandatory for this action."),
        )
    }

    /// The answer that says so.
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

/// Why an order was not carried out. Names members, never the value of one that may be secret.
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
