//! The log lines that reads and purges cause.

use std::time::Duration;

use kms_agent_core::log_gate::{Event, Gathered};
use kms_agent_core::secret::SecretKey;
use kms_agent_core::source::{SourceError, SourceErrorKind};

use super::SecretService;

/// A kind of line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ServiceLine {
    /// KMS could not be asked.
    Failed,
    /// KMS was not asked, because the agent makes no more calls for the time being.
    BudgetSpent,
    /// KMS refused.
    Refused,
    /// KMS answers again.
    Recovered,
    /// Entries of a secret were purged.
    Purged,
    /// All entries were purged.
    AllPurged,
}

impl ServiceLine {
    /// Shortest pause between lines of one kind and code.
    fn pause(self) -> Duration {
        match self {
            // A state of the agent that may last, whichever secrets it shows at.
            Self::BudgetSpent => Duration::from_mins(1),
            Self::Failed | Self::Refused | Self::Recovered | Self::Purged | Self::AllPurged => {
                Duration::from_secs(1)
            }
        }
    }
}

impl SecretService {
    /// Notes something about `key` for the next line of its kind.
    pub(super) fn report(&self, line: ServiceLine, key: &SecretKey, code: &str) {
        let event = Event {
            code,
            sample: key.secret.id.name(),
            amount: 0,
        };
        self.log.note(line, event, || None);
    }

    /// Notes that entries were purged.
    pub(super) fn report_purge(&self, line: ServiceLine, name: &str, entries: usize) {
        let event = Event {
            code: "",
            sample: name,
            amount: u64::try_from(entries).unwrap_or(u64::MAX),
        };
        self.log.note(line, event, || None);
    }

    /// Notes a transient failure. Only the first of an outage is more than a detail.
    pub(super) fn report_failure(&self, key: &SecretKey, error: &SourceError, first: bool) {
        let code = error.code();
        if first {
            let line = if error.kind() == SourceErrorKind::BudgetSpent {
                ServiceLine::BudgetSpent
            } else {
                ServiceLine::Failed
            };
            let event = Event {
                code,
                sample: key.secret.id.name(),
                amount: 0,
            };
            self.log.note(line, event, || Some(error.report()));
        } else {
            tracing::debug!(
                secret = key.secret.id.loggable_name(),
                code,
                cause = error.report(),
                "Fetching a secret from KMS still fails"
            );
        }
    }

    /// Writes the lines that are due.
    pub(super) fn tell(&self) {
        for (line, code, gathered) in self.log.due(self.boot(), ServiceLine::pause) {
            write(line, &code, &gathered);
        }
        self.summary.tell(self.boot());
    }

    /// Writes what has not been written yet: there will be no later moment.
    pub(super) fn tell_the_rest(&self) {
        for (line, code, gathered) in self.log.rest() {
            write(line, &code, &gathered);
        }
    }
}

fn write(line: ServiceLine, code: &str, gathered: &Gathered) {
    let (secret, count, entries) = (gathered.names(), gathered.count, gathered.amount);
    let cause = gathered.cause.as_deref();
    match line {
        ServiceLine::Failed | ServiceLine::BudgetSpent => tracing::warn!(
            secret,
            code,
            cause,
            count,
            "Fetching a secret from KMS failed"
        ),
        ServiceLine::Refused => tracing::info!(secret, code, count, "KMS refused a secret"),
        ServiceLine::Recovered => {
            tracing::info!(secret, count, "KMS answers for this secret again");
        }
        ServiceLine::Purged => tracing::info!(secret, entries, count, "A secret was purged"),
        ServiceLine::AllPurged => tracing::info!(entries, count, "All secrets were purged"),
    }
}
