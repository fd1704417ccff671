//! State and settings of the ECS metadata service.

use std::collections::{HashMap, VecDeque};

use serde::Deserialize;
use time::OffsetDateTime;

/// Most metadata tokens that are kept; clients request one for each renewal.
const TOKENS: usize = 1000;

/// Answer to a request for a metadata token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenEndpoint {
    /// A token.
    #[default]
    Present,
    /// 404, as on an old host.
    Absent,
    /// 403.
    Forbidden,
}

/// Settings of the metadata service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetadataSettings {
    /// RAM role attached to the instance.
    pub role: Option<String>,
    /// Answer to a request for a metadata token.
    pub token_endpoint: TokenEndpoint,
    /// Whether requests without a metadata token are answered.
    pub allow_v1: bool,
    /// Id of the instance.
    pub instance_id: String,
}

impl Default for MetadataSettings {
    fn default() -> Self {
        Self {
            role: Some("kms-agent-role".to_owned()),
            token_endpoint: TokenEndpoint::Present,
            allow_v1: true,
            instance_id: "i-emulator000000000001".to_owned(),
        }
    }
}

/// State of the metadata service.
#[derive(Default)]
pub(crate) struct MetadataState {
    pub(crate) settings: MetadataSettings,
    tokens: HashMap<String, OffsetDateTime>,
    order: VecDeque<String>,
}

impl MetadataState {
    pub(crate) fn add_token(&mut self, token: String, expires_at: OffsetDateTime) {
        self.order.push_back(token.clone());
        self.tokens.insert(token, expires_at);
        if self.order.len() > TOKENS
            && let Some(oldest) = self.order.pop_front()
        {
            self.tokens.remove(&oldest);
        }
    }

    pub(crate) fn admits(&self, token: Option<&str>, now: OffsetDateTime) -> bool {
        match token {
            None => self.settings.allow_v1,
            Some(token) => self.tokens.get(token).is_some_and(|until| now < *until),
        }
    }
}
