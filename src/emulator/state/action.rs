//! Kinds of requests, for rules and counters.

use serde::{Deserialize, Serialize};

/// Kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// KMS: reads a secret.
    GetSecretValue,
    /// KMS: reads up to 20 secrets.
    BatchGetSecretValue,
    /// KMS: lists the names of secrets.
    ListSecrets,
    /// KMS: makes a data key.
    GenerateDataKey,
    /// KMS: decrypts a data key.
    Decrypt,
    /// STS: exchanges an OIDC token for temporary credentials.
    #[serde(rename = "AssumeRoleWithOIDC")]
    AssumeRoleWithOidc,
    /// STS: exchanges signed credentials for temporary ones.
    AssumeRole,
    /// Metadata service: any path below `/latest/`.
    Metadata,
    /// A credentials URI, at `/credentials`.
    CredentialsUri,
    /// Anything else.
    Other,
}

impl Action {
    /// Returns the API of that name, spelled exactly.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "GetSecretValue" => Self::GetSecretValue,
            "BatchGetSecretValue" => Self::BatchGetSecretValue,
            "ListSecrets" => Self::ListSecrets,
            "GenerateDataKey" => Self::GenerateDataKey,
            "Decrypt" => Self::Decrypt,
            "AssumeRoleWithOIDC" => Self::AssumeRoleWithOidc,
            "AssumeRole" => Self::AssumeRole,
            _ => Self::Other,
        }
    }

    /// Returns the version and the product of an API.
    pub(crate) fn api(self) -> Option<Api> {
        match self {
            _ if self.is_kms() => Some(Api {
                product: "Kms",
                version: "2016-01-20",
            }),
            Self::AssumeRoleWithOidc | Self::AssumeRole => Some(Api {
                product: "Sts",
                version: "2015-04-01",
            }),
            _ => None,
        }
    }

    /// Returns whether it is an API of KMS.
    pub(crate) fn is_kms(self) -> bool {
        matches!(
            self,
            Self::GetSecretValue
                | Self::BatchGetSecretValue
                | Self::ListSecrets
                | Self::GenerateDataKey
                | Self::Decrypt
        )
    }
}

/// Product and version of an API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api {
    /// Product code in error answers.
    pub(crate) product: &'static str,
    /// Only accepted version.
    pub(crate) version: &'static str,
}
