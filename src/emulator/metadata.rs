//! The ECS metadata service.

use std::collections::{HashMap, VecDeque};

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::answer::Answer;
use crate::inbound::Inbound;
use crate::instant;
use crate::key::SessionCredentials;
use crate::shared::{Shared, State};

const TOKEN_PATH: &str = "/latest/api/token";
const ROLES_PATH: &str = "/latest/meta-data/ram/security-credentials/";
const TTL_HEADER: &str = "x-aliyun-ecs-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aliyun-ecs-metadata-token";

/// How many metadata tokens are kept; clients draw one for each renewal.
const TOKENS: usize = 1000;

/// What asking for a metadata token leads to.
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

/// How the metadata service behaves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetadataSettings {
    /// The RAM role attached to the instance.
    pub role: Option<String>,
    /// What asking for a metadata token leads to.
    pub token_endpoint: TokenEndpoint,
    /// Whether requests without a metadata token are answered.
    pub allow_v1: bool,
    /// The instance's id.
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

/// The metadata service's memory.
#[derive(Default)]
pub(crate) struct Metadata {
    pub(crate) settings: MetadataSettings,
    tokens: HashMap<String, OffsetDateTime>,
    order: VecDeque<String>,
}

impl Metadata {
    fn add_token(&mut self, token: String, expires_at: OffsetDateTime) {
        self.order.push_back(token.clone());
        self.tokens.insert(token, expires_at);
        if self.order.len() > TOKENS
            && let Some(oldest) = self.order.pop_front()
        {
            self.tokens.remove(&oldest);
        }
    }

    fn admits(&self, token: Option<&str>, now: OffsetDateTime) -> bool {
        match token {
            None => self.settings.allow_v1,
            Some(token) => self.tokens.get(token).is_some_and(|until| now < *until),
        }
    }
}

/// Answers a request below `/latest/`.
pub(crate) fn answer(shared: &Shared, request: &Inbound) -> Answer {
    let mut state = shared.state();
    if request.path == TOKEN_PATH {
        return token(shared, &mut state, request);
    }
    if request.method != Method::GET {
        return page(StatusCode::METHOD_NOT_ALLOWED);
    }
    if !state
        .metadata
        .admits(request.header(TOKEN_HEADER), state.now())
    {
        return page(StatusCode::UNAUTHORIZED);
    }
    match request.path.as_str() {
        "/latest/meta-data/region-id" => Answer::text(StatusCode::OK, &shared.region),
        "/latest/meta-data/owner-account-id" => Answer::text(StatusCode::OK, &shared.account_id),
        "/latest/meta-data/instance-id" => {
            Answer::text(StatusCode::OK, &state.metadata.settings.instance_id)
        }
        path => match path.strip_prefix(ROLES_PATH) {
            Some("") => match &state.metadata.settings.role {
                Some(role) => Answer::text(StatusCode::OK, role),
                None => page(StatusCode::NOT_FOUND),
            },
            Some(role) if state.metadata.settings.role.as_deref() == Some(role) => {
                credentials(shared, &mut state)
            }
            _ => page(StatusCode::NOT_FOUND),
        },
    }
}

fn token(shared: &Shared, state: &mut State, request: &Inbound) -> Answer {
    match state.metadata.settings.token_endpoint {
        TokenEndpoint::Present => {}
        TokenEndpoint::Absent => return page(StatusCode::NOT_FOUND),
        TokenEndpoint::Forbidden => return page(StatusCode::FORBIDDEN),
    }
    if request.method != Method::PUT {
        return page(StatusCode::METHOD_NOT_ALLOWED);
    }
    let ttl = request
        .header(TTL_HEADER)
        .and_then(|text| text.parse().ok())
        .filter(|seconds| (1..=21_600).contains(seconds));
    let Some(ttl) = ttl else {
        return page(StatusCode::BAD_REQUEST);
    };
    let token = shared.draw.hex64();
    let expires_at = state.now().saturating_add(Duration::seconds(ttl));
    state.metadata.add_token(token.clone(), expires_at);
    Answer::text(StatusCode::OK, token)
}

fn credentials(shared: &Shared, state: &mut State) -> Answer {
    let credentials = state.issue_session(&shared.draw, None);
    flat(&credentials, state.now())
}

/// Credentials in the form that the metadata service and credentials URIs have in common.
pub(crate) fn flat(credentials: &SessionCredentials, now: OffsetDateTime) -> Answer {
    let body = json!({
        "AccessKeyId": credentials.id(),
        "AccessKeySecret": credentials.expose_secret(),
        "Expiration": instant::text(credentials.expiration()),
        "SecurityToken": credentials.expose_token(),
        "LastUpdated": instant::text(now),
        "Code": "Success",
    });
    Answer::json(StatusCode::OK, &body)
}

/// The web server's own page for a status.
fn page(status: StatusCode) -> Answer {
    let title = format!(
        "{} {}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default()
    );
    let body = format!("<html><head><title>{title}</title></head><body>{title}</body></html>");
    Answer::new(status, "text/html", body.into_bytes())
}
