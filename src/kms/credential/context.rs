//! Parts that credential providers are made of.

use std::sync::Arc;

use super::sts::Sts;
use crate::host::Environment;
use crate::http::HttpSend;
use crate::location::Metadata;

/// Environment and HTTP clients of a credential provider.
#[derive(Clone, Debug)]
pub(crate) struct ProviderContext {
    pub(crate) environment: Environment,
    pub(crate) sts: Sts,
    /// Client for a credentials URI.
    pub(crate) uri: Arc<dyn HttpSend>,
    /// Metadata service; `None` where the environment disables it.
    pub(crate) metadata: Option<Metadata>,
}
