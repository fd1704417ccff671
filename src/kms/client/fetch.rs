use std::time::Duration;

use kms_agent_core::SourceError;
use kms_agent_core::secret::Fetched;
use kms_agent_core::source::{FetchRequest, SourceErrorKind};

use super::KmsSource;
use super::attempt::{Attempt, AttemptFailure};
use crate::credential::Lease;
use crate::gateway::retry;
use crate::location::endpoint::Endpoint;

/// With less time than this left, no answer can be hoped for, and no call is made.
const LEAST_ATTEMPT: Duration = Duration::from_millis(100);

/// One order, followed through all its attempts.
pub(super) struct FetchAttempts<'a> {
    source: &'a KmsSource,
    request: FetchRequest<'a>,
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

impl<'a> FetchAttempts<'a> {
    pub(super) fn new(
        source: &'a KmsSource,
        request: FetchRequest<'a>,
        deadline: Duration,
    ) -> Self {
        Self {
            source,
            request,
            deadline,
            verdict: None,
            time_was_renewed: false,
            resent: false,
            replaced: false,
            sent: 0,
            failed: 0,
        }
    }

    /// The most telling thing to say when [`run`](Self::run) was cut short.
    pub(super) fn verdict(self) -> Option<SourceError> {
        self.verdict
    }

    pub(super) async fn run(&mut self) -> Result<Fetched, SourceError> {
        let endpoint = self.locate().await?;
        let mut lease = self.lease().await?;
        loop {
            let latest = self.deadline.saturating_sub(LEAST_ATTEMPT);
            self.source
                .budget
                .take(self.request.purpose, latest)
                .await?;
            if !self.request.gate.pass() {
                return Err(SourceError::new(
                    SourceErrorKind::Unavailable,
                    "no reader waits for this secret any more",
                ));
            }
            let failure = match self.attempt(&endpoint, &lease).await {
                Ok(fetched) => return Ok(fetched),
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
    ) -> Result<Fetched, AttemptFailure> {
        self.sent += 1;
        let left = self.deadline.saturating_sub(self.source.clock.boot());
        let answer = self
            .source
            .attempt(Attempt {
                endpoint,
                credential: &lease.credential,
                secret: self.request.secret,
                timeout: self.source.settings.kms.request_timeout.min(left),
                number: self.sent,
            })
            .await?;
        Ok(Fetched {
            secret: answer.secret,
            scope: self
                .source
                .scope
                .of_answer(&endpoint.authority(), &lease.identity),
            rotates_at: answer.rotates_at,
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

pub(super) fn timed_out() -> SourceError {
    SourceError::new(
        SourceErrorKind::TimedOut,
        "KMS did not answer within the time that a reader waits",
    )
}
