//! The members of a GetSecretValue answer that the other formats tell.

use std::borrow::Cow;

use kms_agent_core::{SecretValue, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::error::{ApiError, Reject};

/// An answer taken apart; the value stays where it is.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Parsed<'a> {
    #[serde(borrow)]
    pub(super) secret_name: Cow<'a, str>,
    /// A JSON string, escapes and all.
    #[serde(borrow)]
    pub(super) secret_data: &'a RawValue,
    #[serde(borrow)]
    pub(super) secret_data_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) secret_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) version_id: Cow<'a, str>,
    #[serde(borrow, default)]
    version_stages: Stages<'a>,
    #[serde(borrow)]
    pub(super) create_time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) request_id: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stages<'a> {
    #[serde(borrow, default)]
    version_stage: Vec<Cow<'a, str>>,
}

impl<'a> Parsed<'a> {
    pub(super) fn parse(answer: &'a SecretValue) -> Result<Self, ApiError> {
        serde_json::from_slice(answer.expose()).map_err(|_| not_an_answer())
    }

    /// The value itself, unescaped.
    pub(super) fn value(&self) -> Result<Zeroizing<String>, ApiError> {
        serde_json::from_str(self.secret_data.get())
            .map(Zeroizing::new)
            .map_err(|_| not_an_answer())
    }

    pub(super) fn is_binary(&self) -> bool {
        self.secret_data_type.as_deref() == Some("binary")
    }

    pub(super) fn stages(&self) -> &[Cow<'a, str>] {
        &self.version_stages.version_stage
    }

    /// `CreateTime` in whole seconds since the Unix epoch; 0 when KMS gave none.
    pub(super) fn created_at(&self) -> i64 {
        self.create_time
            .as_deref()
            .and_then(Timestamp::parse_rfc3339)
            .map_or(0, |at| at.as_millis().div_euclid(1000))
    }
}

/// The source accepts nothing else, so this is what a reader is told should that ever fail.
fn not_an_answer() -> ApiError {
    Reject::InvalidUpstreamAnswer.because("What KMS answered cannot be told in this ResponseType.")
}
