use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::source::{OVERALL_TIMEOUT, Purpose, SendGate, SourceErrorKind};
use kms_agent_core::{Scope, SourceError};
use zeroize::Zeroizing;

use super::KmsSource;
use super::attempt::{Attempt, AttemptFailure};
use crate::credential::Lease;
use crate::gateway::retry;
use crate::location::endpoint::Endpoint;

/// With less time than this left, no answer can be hoped for, and no call is made.
const LEAST_ATTEMPT: Duration = Duration::from_millis(100);

/// An action of KMS with its parameters, and how its answer is read.
pub(super) trait KmsCall: Sync {
    type Answer: Send;

    const ACTION: &'static str;

    fn parameters(&self) -> Vec<(&'static str, &str)>;

    /// Reads the body of an answer of status 200. The error says that it is not one to this call.
    fn read(&self, body: Zeroizing<Vec<u8>>) -> Result<Self::Answer, SourceError>;

    /// `RequestId`, for the log.
    fn request_id(answer: &Self::Answer) -> Option<&str>;
}

/// Circumstances of a call.
#[derive(Clone, Copy)]
pub(super) struct CallTerms<'a> {
    pub(super) purpose: Purpose,
    /// The overall deadline counts from here, in boot time.
    pub(super) arrived_at: Duration,
    pub(super) gate: &'a SendGate,
}

/// Answer of KMS, and the scope that it was given in.
pub(super) struct Answered<A> {
    pub(super) answer: A,
    pub(super) scope: Arc<Scope>,
}

impl KmsSource {
    /// Makes a call, with as many attempts as fit into its time.
    pub(super) async fn call<C: KmsCall>(
        &self,
        call: &C,
        terms: CallTerms<'_>,
    ) -> Result<Answered<C::Answer>, SourceError> {
        let deadline = terms.arrived_at + OVERALL_TIMEOUT;
        let mut attempts = CallAttempts::new(self, call, terms, deadline);
        tokio::select! {
            biased;
            outcome = attempts.run() => return outcome,
            () = self.clock.sleep_until(deadline) => {}
        }
        Err(attempts.verdict.unwrap_or_else(timed_out))
    }
}

/// One call, followed through all its attempts.
struct CallAttempts<'a, C> {
    source: &'a KmsSource,
    call: &'a C,
    terms: CallTerms<'a>,
    deadline: Duration,
    /// Error to return when time runs out.
    verdict: Option<SourceError>,
    /// Whether KMS's refusal of a request's time has been answered with another time.
    time_was_renewed: bool,
    /// Whether a request that met the end of its connection has been sent again.
    resent: bool,
    /// Whether KMS's refusal of the agent's identity has set off a renewal.
    replaced: bool,
    /// Requests sent.
    sent: u32,
    /// Those of them that failed in a way that is worth a retry. A new signature, with another clock, other
    /// credentials or on a new connection, does not count.
    failed: u32,
}

impl<'a, C: KmsCall> CallAttempts<'a, C> {
    fn new(source: &'a KmsSource, call: &'a C, terms: CallTerms<'a>, deadline: Duration) -> Self {
        Self {
            source,
            call,
            terms,
            deadline,
            verdict: None,
            time_was_renewed: false,
            resent: false,
            replaced: false,
            sent: 0,
            failed: 0,
        }
    }

    async fn run(&mut self) -> Result<Answered<C::Answer>, SourceError> {
        let endpoint = self.locate().await?;
        let mut lease = self.lease().await?;
        loop {
            let latest = self.deadline.saturating_sub(LEAST_ATTEMPT);
            self.source.budget.take(self.terms.purpose, latest).await?;
            if !self.terms.gate.pass() {
                return Err(SourceError::new(
                    SourceErrorKind::Unavailable,
                    "no reader waits for this secret any more",
                ));
            }
            let failure = match self.attempt(&endpoint, &lease).await {
                Ok(answered) => return Ok(answered),
                Err(failure) => failure,
            };
            if !self.prepare_another(failure, &mut lease).await {
                return Err(self.verdict.take().unwrap_or_else(timed_out));
            }
        }
    }

    async fn locate(&mut self) -> Result<Endpoint, SourceError> {
        self.verdict = Some(SourceError::new(
            SourceErrorKind::RegionUnknown,
            "the region is not known, and the metadata service does not tell it in time; set KMS.Region",
        ));
        let endpoint = self.source.locator.endpoint().await?;
        self.verdict = None;
        Ok(endpoint)
    }

    async fn lease(&mut self) -> Result<Lease, SourceError> {
        let failed = |text: String| SourceError::new(SourceErrorKind::NoCredentials, text);
        self.verdict = Some(failed("the credentials did not come in time".to_owned()));
        let credentials = &self.source.credentials;
        let mut lease = credentials.current().await;
        if lease.is_err()
            && let Some(at) = credentials.second_try_at()
            && at + LEAST_ATTEMPT < self.deadline
        {
            self.source.clock.sleep_until(at).await;
            lease = credentials.current().await;
        }
        let lease = lease.map_err(|error| failed(error.to_string()))?;
        self.verdict = None;
        Ok(lease)
    }

    async fn attempt(
        &mut self,
        endpoint: &Endpoint,
        lease: &Lease,
    ) -> Result<Answered<C::Answer>, AttemptFailure> {
        self.sent += 1;
        let left = self.deadline.saturating_sub(self.source.clock.boot());
        let answer = self
            .source
            .attempt(Attempt {
                endpoint,
                credential: &lease.credential,
                call: self.call,
                timeout: self.source.settings.kms.request_timeout.min(left),
                number: self.sent,
            })
            .await?;
        Ok(Answered {
            answer,
            scope: self
                .source
                .scope
                .of_answer(&endpoint.authority(), &lease.identity),
        })
    }

    /// Does what must be done before another attempt, waiting included; `false` when there is to be none.
    async fn prepare_another(&mut self, failure: AttemptFailure, lease: &mut Lease) -> bool {
        let AttemptFailure {
            error,
            has_new_time,
            is_stale,
        } = failure;
        let (kind, asked) = (error.kind(), error.retry_after());
        self.verdict = Some(error);
        match kind {
            _ if is_stale && !self.resent => {
                self.resent = true;
                true
            }
            SourceErrorKind::ClockSkew if !self.time_was_renewed => {
                self.time_was_renewed = true;
                has_new_time
            }
            SourceErrorKind::IdentityRefused if !self.replaced => {
                self.replaced = true;
                match self.source.credentials.replace(lease).await {
                    Some(other) => *lease = other,
                    None => return false,
                }
                true
            }
            kind if retry::is_worth(kind) => {
                self.failed += 1;
                let clock = &self.source.clock;
                let resume_at = clock.boot() + retry::pause(self.failed, asked);
                if self.failed >= self.source.settings.kms.max_attempts.get()
                    || resume_at + LEAST_ATTEMPT > self.deadline
                {
                    return false;
                }
                clock.sleep_until(resume_at).await;
                true
            }
            _ => false,
        }
    }
}

fn timed_out() -> SourceError {
    SourceError::new(
        SourceErrorKind::TimedOut,
        "KMS did not answer within the time that a reader waits",
    )
}
