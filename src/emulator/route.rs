//! Path of a request: it is recorded, changed if a fault rule says so, and answered by its service.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use http::header::USER_AGENT;
use http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;

use crate::control;
use crate::fault::Fault;
use crate::fault::apply::{spoil, surplus};
use crate::service::{action_of, kms, refused, serve};
use crate::sign::Authorization;
use crate::state::Services;
use crate::state::action::Action;
use crate::state::call::{CallTicket, RecordedCall};
use crate::wire::answer::ServiceAnswer;
use crate::wire::body::{Cut, Delivery, Paced};
use crate::wire::inbound::Inbound;
use crate::wire::instant;

const CONTROL_PATH: &str = "/_emulator";

/// Queued answers of a connection, sent before the answer to its next request.
#[derive(Default)]
pub(crate) struct Backlog(Mutex<VecDeque<ServiceAnswer>>);

impl Backlog {
    /// Queues `own` and returns the answer whose turn it is.
    fn pass(&self, own: ServiceAnswer) -> ServiceAnswer {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = answers.pop_front() else {
            return own;
        };
        answers.push_back(own);
        first
    }

    fn add(&self, surplus: Option<ServiceAnswer>) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.extend(surplus);
    }
}

/// Answers a request, or ends its connection.
pub(crate) async fn answer(
    shared: &Services,
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

/// Records the call and returns its fault.
fn note(shared: &Services, request: &Inbound, action: Action) -> (CallTicket, Option<Fault>) {
    let asked = request.given("SecretName");
    let name = asked.map(|asked| kms::secret_name(asked).1);
    let authorization = request.header("authorization").map(Authorization::parse);
    let key_id = authorization.and_then(|read| read.ok().map(|read| read.key_id.to_owned()));

    let mut state = shared.state();
    let fault = state.faults.take(action, name);
    let ticket = state.calls.begin(RecordedCall {
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

fn send(shared: &Services, answer: ServiceAnswer, delivery: Delivery) -> Response<Paced> {
    let date = instant::http_date(shared.state().now());
    answer.into_response(delivery, &date)
}
