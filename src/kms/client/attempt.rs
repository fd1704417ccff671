use std::sync::atomic::Ordering;
use std::time::Duration;

use kms_agent_core::source::SourceErrorKind;
use kms_agent_core::{SourceError, Timestamp};
use zeroize::Zeroizing;

use super::KmsSource;
use super::call::KmsCall;
use crate::gateway::retry::asked_pause;
use crate::gateway::sign::{CallStamp, CallToSign, nonce, sign};
use crate::gateway::skew::{Skew, server_date};
use crate::gateway::wire::{KMS_VERSION, MAX_ANSWER_BYTES, is_word};
use crate::gateway::{Credential, error};
use crate::http::{HttpErrorKind, HttpRequest, HttpResponse, Method};
use crate::location::endpoint::Endpoint;

/// One request to KMS.
pub(super) struct Attempt<'a, C> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) credential: &'a Credential,
    pub(super) call: &'a C,
    pub(super) timeout: Duration,
    /// Counted from 1, for the log.
    pub(super) number: u32,
}

/// An attempt that brought no secret.
pub(super) struct AttemptFailure {
    pub(super) error: SourceError,
    /// Whether KMS refused the time of the request, and the same request would carry another one now.
    pub(super) has_new_time: bool,
    /// Whether the request may have gone into a connection that was ending anyway.
    pub(super) is_stale: bool,
}

impl From<SourceError> for AttemptFailure {
    fn from(error: SourceError) -> Self {
        Self {
            error,
            has_new_time: false,
            is_stale: false,
        }
    }
}

impl KmsSource {
    /// Signs, sends, reads, counts and logs one request.
    pub(super) async fn attempt<C: KmsCall>(
        &self,
        attempt: Attempt<'_, C>,
    ) -> Result<C::Answer, AttemptFailure> {
        let began_at = self.clock.boot();
        let mut status = None;
        let outcome = match self.request(&attempt) {
            Err(error) => Err(error.into()),
            Ok(request) => match self.http.send(request).await {
                Ok(response) => {
                    status = Some(response.status);
                    let date = server_date(&response);
                    let outcome = self.judge(attempt.call, response);
                    self.keep_time(date, outcome)
                }
                Err(error) => Err(AttemptFailure {
                    is_stale: error.kind() == HttpErrorKind::Stale,
                    ..error::from_http(error, &attempt.endpoint.authority()).into()
                }),
            },
        };
        let took = self.clock.boot().saturating_sub(began_at);
        let failure = outcome.as_ref().err().map(|failure| &failure.error);
        self.metrics.count(failure.map(SourceError::kind), took);
        let request_id = match &outcome {
            Ok(answer) => C::request_id(answer),
            Err(failure) => failure
                .error
                .refusal()
                .and_then(|refusal| refusal.request_id.as_deref()),
        };
        tracing::debug!(
            target: "upstream",
            action = C::ACTION,
            status,
            code = failure.map(SourceError::code),
            request_id = request_id.filter(|id| is_word(id)),
            cause = failure.map(SourceError::report),
            attempt = attempt.number,
            millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "Asked KMS"
        );
        outcome
    }

    fn request<C: KmsCall>(&self, attempt: &Attempt<'_, C>) -> Result<HttpRequest, SourceError> {
        let date = self.kms_clock.date(&*self.clock);
        let (Some(date), Some(nonce)) = (date, nonce()) else {
            return Err(SourceError::new(
                SourceErrorKind::Unavailable,
                "a request cannot be signed: the machine has no usable time or no randomness",
            ));
        };
        let authority = attempt.endpoint.authority();
        let mut signed = sign(
            CallToSign {
                host: &authority,
                action: C::ACTION,
                version: KMS_VERSION,
                query: &attempt.call.parameters(),
                content_type: None,
                body: b"",
            },
            attempt.credential,
            CallStamp {
                date: &date,
                nonce: &nonce,
            },
        );
        signed
            .headers
            .push(("accept", Zeroizing::new("application/json".to_owned())));
        Ok(HttpRequest {
            method: Method::Post,
            url: format!("{}/?{}", attempt.endpoint.origin(), signed.query),
            headers: signed.headers,
            body: Zeroizing::default(),
            timeout: attempt.timeout,
            body_limit: MAX_ANSWER_BYTES,
        })
    }

    fn judge<C: KmsCall>(
        &self,
        call: &C,
        response: HttpResponse,
    ) -> Result<C::Answer, AttemptFailure> {
        let error = if response.status == 200 {
            let error = match call.read(response.body) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // What came may have been meant for another request, and so may what comes next.
            self.http.distrust_connections();
            error
        } else {
            let asked = asked_pause(&response, self.clock.wall());
            error::from_response(&response, asked)
        };
        Err(error.into())
    }

    /// Learns the time of KMS from the answer that gave `outcome`, where requests need it.
    fn keep_time<A>(
        &self,
        date: Option<Timestamp>,
        outcome: Result<A, AttemptFailure>,
    ) -> Result<A, AttemptFailure> {
        let clock = &*self.clock;
        if date.is_some_and(|date| Skew::between(date, clock.wall()).is_slight()) {
            self.clock_is_confirmed.store(true, Ordering::Relaxed);
        }
        match outcome {
            Ok(answer) => {
                if self.kms_clock.follow(date, clock) {
                    self.log_agreement();
                }
                Ok(answer)
            }
            Err(failure) if failure.error.kind() == SourceErrorKind::ClockSkew => {
                if let Some(date) = date {
                    self.log_skew(Skew::between(date, clock.wall()));
                }
                Err(AttemptFailure {
                    has_new_time: self.kms_clock.learn(date, clock),
                    ..failure
                })
            }
            Err(failure) => Err(failure),
        }
    }
}
