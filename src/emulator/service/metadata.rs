//! The ECS metadata service.

use http::{Method, StatusCode};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::state::key::SessionCredentials;
use crate::state::metadata::TokenEndpoint;
use crate::state::{EmulatorState, Services};
use crate::wire::answer::ServiceAnswer;
use crate::wire::inbound::Inbound;
use crate::wire::instant;

const TOKEN_PATH: &str = "/latest/api/token";
const ROLES_PATH: &str = "/latest/meta-data/ram/security-credentials/";
const TTL_HEADER: &str = "x-aliyun-ecs-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aliyun-ecs-metadata-token";

/// Answers a request below `/latest/`.
pub(crate) fn answer(shared: &Services, request: &Inbound) -> ServiceAnswer {
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
        "/latest/meta-data/region-id" => ServiceAnswer::text(StatusCode::OK, &shared.region),
        "/latest/meta-data/owner-account-id" => {
            ServiceAnswer::text(StatusCode::OK, &shared.account_id)
        }
        "/latest/meta-data/instance-id" => {
            ServiceAnswer::text(StatusCode::OK, &state.metadata.settings.instance_id)
        }
        path => match path.strip_prefix(ROLES_PATH) {
            Some("") => match &state.metadata.settings.role {
                Some(role) => ServiceAnswer::text(StatusCode::OK, role),
                None => page(StatusCode::NOT_FOUND),
            },
            Some(role) if state.metadata.settings.role.as_deref() == Some(role) => {
                credentials(shared, &mut state)
            }
            _ => page(StatusCode::NOT_FOUND),
        },
    }
}

fn token(shared: &Services, state: &mut EmulatorState, request: &Inbound) -> ServiceAnswer {
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
    ServiceAnswer::text(StatusCode::OK, token)
}

fn credentials(shared: &Services, state: &mut EmulatorState) -> ServiceAnswer {
    let credentials = state.issue_session(&shared.draw, None);
    flat(&credentials, state.now())
}

/// Returns credentials in the form of the metadata service and of credentials URIs.
pub(crate) fn flat(credentials: &SessionCredentials, now: OffsetDateTime) -> ServiceAnswer {
    let body = json!({
        "AccessKeyId": credentials.id(),
        "AccessKeySecret": credentials.expose_secret(),
        "Expiration": instant::text(credentials.expiration()),
        "SecurityToken": credentials.expose_token(),
        "LastUpdated": instant::text(now),
        "Code": "Success",
    });
    ServiceAnswer::json(StatusCode::OK, &body)
}

/// Returns the web server's page for a status.
fn page(status: StatusCode) -> ServiceAnswer {
    let title = format!(
        "{} {}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default()
    );
    let body = format!("<html><head><title>{title}</title></head><body>{title}</body></html>");
    ServiceAnswer::new(status, "text/html", body.into_bytes())
}
