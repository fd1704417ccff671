//! Members of a GetSecretValue response that the other formats show.

use std::borrow::Cow;

use kms_agent_core::{SecretValue, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::error::{ApiError, Reject};

/// A parsed response, which borrows the value.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KmsResponse<'a> {
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
    version_stages: VersionStageList<'a>,
    #[serde(borrow)]
    pub(super) create_time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) request_id: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VersionStageList<'a> {
    #[serde(borrow, default)]
    version_stage: Vec<Cow<'a, str>>,
}

impl<'a> KmsResponse<'a> {
    pub(super) fn parse(answer: &'a SecretValue) -> Result<Self, ApiError> {
        serde_json::from_slice(answer.expose()).map_err(|_| not_convertible())
    }

    /// Returns the value, unescaped.
    pub(super) fn value(&self) -> Result<Zeroizing<String>, ApiError> {
        serde_json::from_str(self.secret_data.get())
            .map(Zeroizing::new)
            .map_err(|_| not_convertible())
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

/// The source accepts no such response, so that a caller never sees this.
fn not_convertible() -> ApiError {
    Reject::InvalidUpstreamAnswer
        .because("The KMS response cannot be converted to this ResponseType.")
}
