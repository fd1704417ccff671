//! What a request wants, as far as rules and counters care.

use serde::{Deserialize, Serialize};

/// What a request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// KMS: read a secret.
    GetSecretValue,
    /// STS: exchange an OIDC token for temporary credentials.
    #[serde(rename = "AssumeRoleWithOIDC")]
    AssumeRoleWithOidc,
    /// STS: exchange signed credentials for temporary ones.
    AssumeRole,
    /// Anything below `/latest/`.
    Metadata,
    /// A credentials URI, at `/credentials`.
    CredentialsUri,
    /// Anything else.
    Other,
}

impl Action {
    /// The API of that name; the services spell names exactly.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "GetSecretValue" => Self::GetSecretValue,
            "AssumeRoleWithOIDC" => Self::AssumeRoleWithOidc,
            "AssumeRole" => Self::AssumeRole,
            _ => Self::Other,
        }
    }

    /// The version an API is published under, and the product it belongs to.
    pub(crate) fn api(self) -> Option<Api> {
        match self {
            Self::GetSecretValue => Some(Api {
                product: "Kms",
                version: "2016-01-20",
            }),
            Self::AssumeRoleWithOidc | Self::AssumeRole => Some(Api {
                product: "Sts",
                version: "2015-04-01",
            }),
            Self::Metadata | Self::CredentialsUri | Self::Other => None,
        }
    }
}

/// Where an API belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api {
    /// The product code error answers name.
    pub(crate) product: &'static str,
    /// The only version accepted.
    pub(crate) version: &'static str,
}
