//! Application of a fault to the request that it matches.

use std::time::Duration;

use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use tokio::time::sleep;

use crate::fault::{Fault, FaultKind};
use crate::service::{refused, serve};
use crate::state::Services;
use crate::state::action::Action;
use crate::wire::answer::ServiceAnswer;
use crate::wire::body::{Cut, Delivery};
use crate::wire::inbound::Inbound;
use crate::wire::refusal::ServiceRefusal;

/// Default delay before each piece of a slow body.
const SLOW_BODY: Duration = Duration::from_millis(100);

/// Answers a request as its fault says.
pub(crate) async fn spoil(
    shared: &Services,
    request: &Inbound,
    action: Action,
    fault: &Fault,
) -> Result<(ServiceAnswer, Delivery), Cut> {
    let is_slow = fault.kind == FaultKind::SlowBody;
    if let Some(wait) = fault.wait().filter(|_| !is_slow) {
        sleep(wait).await;
    }
    let answer = match fault.kind {
        FaultKind::Cut => return Err(Cut),
        FaultKind::Hang => std::future::pending().await,
        FaultKind::Status | FaultKind::Throttle | FaultKind::Garbage | FaultKind::Redirect => {
            made_up(shared, action, fault)
        }
        FaultKind::Latency
        | FaultKind::CutMidBody
        | FaultKind::Oversize
        | FaultKind::SlowBody
        | FaultKind::Surplus => serve(shared, request, action),
        FaultKind::Altered => altered(serve(shared, request, action), fault),
    };
    let delivery = match fault.kind {
        FaultKind::CutMidBody => Delivery::CutHalfway,
        FaultKind::Oversize => Delivery::Oversize,
        FaultKind::SlowBody => Delivery::Slow(fault.wait().unwrap_or(SLOW_BODY)),
        _ => Delivery::Whole,
    };
    Ok((answer, delivery))
}

/// Replaces members of `answer` by those of the fault.
fn altered(mut answer: ServiceAnswer, fault: &Fault) -> ServiceAnswer {
    if let Ok(serde_json::Value::Object(mut members)) = serde_json::from_slice(&answer.body) {
        members.extend(fault.members.clone());
        answer.body = serde_json::to_vec(&members).unwrap_or_default();
    }
    answer
}

/// Returns the answer that a surplus fault adds to the connection.
pub(crate) fn surplus(fault: &Fault) -> Option<ServiceAnswer> {
    (fault.kind == FaultKind::Surplus).then(|| {
        ServiceAnswer::new(
            StatusCode::OK,
            "application/json;charset=utf-8",
            fault.body.clone().unwrap_or_default().into(),
        )
    })
}

/// Returns the answer of a fault with its own answer.
fn made_up(shared: &Services, action: Action, fault: &Fault) -> ServiceAnswer {
    let default_status = match fault.kind {
        FaultKind::Throttle => 429,
        FaultKind::Garbage => 200,
        FaultKind::Redirect => 302,
        _ => 500,
    };
    let number = fault.status.unwrap_or(default_status);
    let status = StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(body) = &fault.body {
        return ServiceAnswer::new(
            status,
            "application/json;charset=utf-8",
            body.clone().into(),
        );
    }
    match fault.kind {
        FaultKind::Garbage => {
            let body = b"<html>\xff\xfe{\"SecretData\":</html>".to_vec();
            ServiceAnswer::new(status, "text/html", body)
        }
        FaultKind::Redirect => {
            let mut answer = ServiceAnswer::text(status, "");
            let elsewhere = format!("{}/redirected", shared.base_url);
            if let Ok(value) = HeaderValue::from_str(&elsewhere) {
                answer.set_header(LOCATION, value);
            }
            answer
        }
        _ if matches!(action, Action::Metadata | Action::CredentialsUri) => {
            ServiceAnswer::text(status, "")
        }
        _ => {
            let (code, message) = usual(action, fault.kind, number);
            let code = fault.code.clone().unwrap_or_else(|| code.to_owned());
            let message = fault.message.clone().unwrap_or_else(|| message.to_owned());
            let refusal = if action.is_kms() {
                ServiceRefusal::kms(number, code, message)
            } else {
                ServiceRefusal::gateway(number, code, message)
            };
            refused(shared, &refusal, action, shared.draw.request_id())
        }
    }
}

/// Returns the usual code and message of a status.
fn usual(action: Action, kind: FaultKind, status: u16) -> (&'static str, &'static str) {
    let throttled = kind == FaultKind::Throttle || status == 429;
    match (action.is_kms(), status) {
        (true, _) if throttled => ("Rejected.Throttling", "QPS Limit Exceeded"),
        (_, _) if throttled => (
            "Throttling.User",
            "Request was denied due to user flow control.",
        ),
        (true, 400) => ("InvalidParameter", "The parameter is not valid."),
        (true, 403) => (
            "Forbidden.NoPermission",
            "This operation is forbidden by permission system.",
        ),
        (true, 404) => ("Forbidden.ResourceNotFound", "Resource not found."),
        (true, 409) => (
            "Rejected.Disabled",
            "The request was rejected because the key state is Disabled.",
        ),
        (true, 503) => (
            "ServiceUnavailableTemporary",
            "Service Unavailable Temporary",
        ),
        (true, _) => ("InternalFailure", "Internal Failure"),
        (_, 403) => (
            "NoPermission",
            "You are not authorized to do this action. You should be authorized by RAM.",
        ),
        (_, 503) => (
            "ServiceUnavailable",
            "The request has failed due to a temporary failure of the server.",
        ),
        _ => (
            "InternalError",
            "The request processing has failed due to some unknown error.",
        ),
    }
}
