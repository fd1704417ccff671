//! Orders over HTTP: `POST /_emulator` with one order as JSON.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::fault::Fault;
use crate::state::Services;
use crate::state::key::AccessKey;
use crate::state::metadata::MetadataSettings;
use crate::state::secret::{PutSecret, SecretState};
use crate::wire::answer::ServiceAnswer;
use crate::wire::inbound::Inbound;
use crate::wire::refusal::InvalidOrder;

/// One order: an object with this one member.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    PutSecret(PutSecret),
    DeleteSecret(Named),
    DenySecret(Named),
    SecretState(Stated),
    Fault(Box<Fault>),
    ClearFaults(bool),
    Calls(bool),
    Reset(bool),
    AccessKey(KeyOrder),
    RevokeAccessKey(KeyId),
    SessionLifetimeSeconds(Option<u64>),
    ClockOffsetSeconds(i64),
    Metadata(MetadataSettings),
    OidcToken(Token),
    Role(Arn),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stated {
    name: String,
    state: SecretState,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyOrder {
    id: String,
    /// Left out to enable or disable an existing key.
    secret: Option<String>,
    #[serde(default = "yes")]
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyId {
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arn {
    arn: String,
}

fn yes() -> bool {
    true
}

/// Carries out an order.
pub(crate) fn answer(shared: &Services, request: &Inbound) -> ServiceAnswer {
    // Web pages may not give orders: browsers name the page that a POST comes from.
    if request.headers.contains_key("origin") {
        return failed(StatusCode::FORBIDDEN, "orders from web pages are refused");
    }
    if request.method != Method::POST {
        return failed(StatusCode::METHOD_NOT_ALLOWED, "use POST");
    }
    let order = match serde_json::from_slice(&request.body) {
        Ok(order) => order,
        Err(error) => return failed(StatusCode::BAD_REQUEST, &explain(&error)),
    };
    match obey(shared, order) {
        Ok(answer) => answer,
        Err(error) => failed(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn obey(shared: &Services, order: Order) -> Result<ServiceAnswer, InvalidOrder> {
    match order {
        Order::PutSecret(secret) => {
            let version_id = shared.put_secret(secret)?;
            return Ok(done(&json!({ "version_id": version_id })));
        }
        Order::DeleteSecret(Named { name }) => {
            let deleted = shared.state().secrets.delete(&name);
            return Ok(done(&json!({ "deleted": deleted })));
        }
        Order::Calls(sure) => {
            check(sure)?;
            let calls = shared.state().calls.list();
            return Ok(done(&json!({ "calls": calls })));
        }
        Order::RevokeAccessKey(KeyId { id }) => {
            let revoked = shared.state().keys.revoke(&id);
            return Ok(done(&json!({ "revoked": revoked })));
        }
        Order::DenySecret(Named { name }) => {
            let mut state = shared.state();
            state.secrets.set_state(&name, SecretState::Denied);
        }
        Order::SecretState(Stated { name, state }) => {
            shared.state().secrets.set_state(&name, state);
        }
        Order::Fault(fault) => shared.state().faults.add(*fault)?,
        Order::ClearFaults(sure) => {
            check(sure)?;
            shared.state().faults.clear();
        }
        Order::Reset(sure) => {
            check(sure)?;
            shared.reset();
        }
        Order::AccessKey(order) => set_key(shared, order)?,
        Order::SessionLifetimeSeconds(seconds) => {
            shared.state().session_lifetime = seconds.map(Duration::from_secs);
        }
        Order::ClockOffsetSeconds(seconds) => shared.state().clock_offset = seconds,
        Order::Metadata(settings) => shared.state().metadata.settings = settings,
        Order::OidcToken(Token { token }) => shared.state().trust.register_token(token),
        Order::Role(Arn { arn }) => shared.state().trust.register_role(arn),
    }
    Ok(done(&json!({ "ok": true })))
}

fn set_key(shared: &Services, order: KeyOrder) -> Result<(), InvalidOrder> {
    let mut state = shared.state();
    if let Some(secret) = order.secret {
        state
            .keys
            .add(AccessKey::new(order.id, secret), order.enabled);
    } else if !state.keys.set_enabled(&order.id, order.enabled) {
        return Err(InvalidOrder::new(
            "there is no access key of that id: give its secret to make it",
        ));
    }
    Ok(())
}

fn check(sure: bool) -> Result<(), InvalidOrder> {
    if sure {
        Ok(())
    } else {
        Err(InvalidOrder::new("the value of this order must be true"))
    }
}

fn done(body: &impl Serialize) -> ServiceAnswer {
    ServiceAnswer::json(StatusCode::OK, body)
}

fn failed(status: StatusCode, reason: &str) -> ServiceAnswer {
    ServiceAnswer::json(status, &json!({ "error": reason }))
}

/// Describes the error in an order without its value, which may be a secret in the wrong place.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!("line {} column {}", error.line(), error.column());
    match text.rsplit_once(", expected ") {
        Some((_, expected)) if text.starts_with("invalid ") => {
            let expected = expected.split(" at line ").next().unwrap_or_default();
            format!("wrong value at {place}: expected {expected}")
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_the_wrong_place_is_not_repeated() {
        let body = r#"{"access_key":{"id":"a","secret":"s","enabled":"hunter2"}}"#;
        let error = serde_json::from_str::<Order>(body).err();
        let text = error.map(|error| explain(&error)).unwrap_or_default();
        assert_eq!(text, "wrong value at line 1 column 56: expected a boolean");
    }
}
