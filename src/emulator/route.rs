//! The way of a request: recorded, spoiled if a rule says so, and answered by its service.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use http::header::USER_AGENT;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;

use crate::action::Action;
use crate::answer::Answer;
use crate::body::{Cut, Delivery, Paced};
use crate::call::{Call, Ticket};
use crate::control;
use crate::fault::Fault;
use crate::inbound::Inbound;
use crate::instant;
use crate::kms;
use crate::metadata;
use crate::refusal::{Occasion, Refusal};
use crate::shared::Shared;
use crate::sign::Authorization;
use crate::spoil::{spoil, surplus};
use crate::sts;
use crate::uri;

const CONTROL_PATH: &str = "/_emulator";

/// Answers that are still to be sent on a connection, ahead of the one to its next request.
#[derive(Default)]
pub(crate) struct Backlog(Mutex<VecDeque<Answer>>);

impl Backlog {
    /// The answer that is sent where `own` would be in its turn.
    fn pass(&self, own: Answer) -> Answer {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = answers.pop_front() else {
            return own;
        };
        answers.push_back(own);
        first
    }

    fn add(&self, surplus: Option<Answer>) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.extend(surplus);
    }
}

/// Answers a request, or ends its connection.
pub(crate) async fn answer(
    shared: &Shared,
    backlog: &Backlog,
    request: Request<Incoming>,
) -> Result<Response<Paced>, Cut> {
    let request = match Inbound::read(request).await? {
        Ok(request) => request,
        Err(refusal) => {
            let answer = refused(shared, &refusal, Action::Other, shared.draw.request_id());
            return Ok(send(shared, answer, Delivery::Whole));
        }
    };
    if shared.control_api && request.path == CONTROL_PATH {
        return Ok(send(
            shared,
            control::answer(shared, &request),
            Delivery::Whole,
        ));
    }

    let action = action_of(&request);
    let (ticket, fault) = note(shared, &request, action);
    let (mut answer, delivery) = match &fault {
        None => (serve(shared, &request, action), Delivery::Whole),
        Some(fault) => spoil(shared, &request, action, fault).await?,
    };
    for (name, value) in fault.iter().flat_map(|fault| &fault.headers) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            answer.set_header(name, value);
        }
    }
    let (status, code) = (answer.status.as_u16(), answer.code.clone());
    shared.state().calls.answered(ticket, status, code);
    let answer = backlog.pass(answer);
    backlog.add(fault.as_ref().and_then(surplus));
    Ok(send(shared, answer, delivery))
}

fn action_of(request: &Inbound) -> Action {
    match request.path.as_str() {
        "/" => Action::named(action_name(request).unwrap_or_default()),
        path if path.starts_with("/latest/") => Action::Metadata,
        uri::PATH => Action::CredentialsUri,
        _ => Action::Other,
    }
}

fn action_name(request: &Inbound) -> Option<&str> {
    request
        .header("x-acs-action")
        .or_else(|| request.given("Action"))
}

/// Records the call and takes the fault that is meant for it.
fn note(shared: &Shared, request: &Inbound, action: Action) -> (Ticket, Option<Fault>) {
    let asked = request.given("SecretName");
    let name = asked.map(|asked| kms::secret_name(asked).1);
    let authorization = request.header("authorization").map(Authorization::parse);
    let key_id = authorization.and_then(|read| read.ok().map(|read| read.key_id.to_owned()));

    let mut state = shared.state();
    let fault = state.faults.take(action, name);
    let ticket = state.calls.begin(Call {
        action,
        path: request.path.clone(),
        secret: asked.map(str::to_owned),
        version_id: request.given("VersionId").map(str::to_owned),
        version_stage: request.given("VersionStage").map(str::to_owned),
        access_key_id: key_id,
        user_agent: request.header(USER_AGENT.as_str()).map(str::to_owned),
        status: None,
        code: None,
        fault: fault.as_ref().map(|fault| fault.kind),
        at: SystemTime::now(),
    });
    (ticket, fault)
}

/// The answer the services would give.
pub(crate) fn serve(shared: &Shared, request: &Inbound, action: Action) -> Answer {
    let request_id = shared.draw.request_id();
    if action == Action::Metadata {
        return metadata::answer(shared, request);
    }
    if action == Action::CredentialsUri {
        return uri::answer(shared);
    }
    let answer = check_api(request, action).and_then(|()| match action {
        Action::GetSecretValue => kms::secret_value(shared, request, &request_id),
        Action::AssumeRoleWithOidc => sts::assume_role_with_oidc(shared, request, &request_id),
        Action::AssumeRole => sts::assume_role(shared, request, &request_id),
        Action::Metadata | Action::CredentialsUri | Action::Other => Err(unknown_api()),
    });
    answer.unwrap_or_else(|refusal| refused(shared, &refusal, action, request_id))
}

/// What the gateway looks at before it knows who calls.
fn check_api(request: &Inbound, action: Action) -> Result<(), Refusal> {
    if request.path != "/" {
        return Err(unknown_api());
    }
    if request.method != Method::GET && request.method != Method::POST {
        return Err(Refusal::gateway(
            400,
            "UnsupportedHTTPMethod",
            "This http method is not supported.",
        ));
    }
    if action_name(request).is_none_or(str::is_empty) {
        return Err(Refusal::missing("Action"));
    }
    let version = request
        .header("x-acs-version")
        .or_else(|| request.given("Version"))
        .ok_or_else(|| Refusal::missing("Version"))?;
    let is_rpc = request.header("x-acs-action").is_none();
    let format = request.given("Format").unwrap_or("XML");
    if action.api().is_none_or(|api| api.version != version) {
        return Err(unknown_api());
    }
    if is_rpc && request.header("authorization").is_none() && format != "JSON" {
        return Err(Refusal::gateway(
            400,
            "InvalidParameter.Format",
            "The emulator only writes JSON: send Format=JSON.",
        ));
    }
    Ok(())
}

fn unknown_api() -> Refusal {
    Refusal::gateway(
        404,
        "InvalidApi.NotFound",
        "Specified api is not found, please check your url and method.",
    )
}

/// The answer that says why not.
pub(crate) fn refused(
    shared: &Shared,
    refusal: &Refusal,
    action: Action,
    request_id: String,
) -> Answer {
    refusal.answer(Occasion {
        request_id,
        host: &shared.endpoint,
        product: action.api().map_or("Unknown", |api| api.product),
    })
}

fn send(shared: &Shared, answer: Answer, delivery: Delivery) -> Response<Paced> {
    let date = instant::http_date(shared.state().now());
    answer.into_response(delivery, &date)
}
