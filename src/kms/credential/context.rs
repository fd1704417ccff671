use crate::environment::Environment;
use crate::http::HttpSend;
use crate::metadata::Metadata;
use std::sync::Arc;

use super::sts::Sts;

/// The ways out that providers use.
#[derive(Clone, Debug)]
pub(crate) struct Outlets {
    /// To STS.
    pub(crate) sts: Sts,
    /// To a credentials URI.
    pub(crate) uri: Arc<dyn HttpSend>,
    /// To the metadata service; none where that is disabled.
    pub(crate) metadata: Option<Metadata>,
}

/// What providers are made of.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) environment: Environment,
    pub(crate) outlets: Outlets,
}
