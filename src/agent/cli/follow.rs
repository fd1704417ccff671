//! Changes of secrets, as a running agent reports them at `/agent/watch`.

mod complaint;
pub(super) mod digest;
mod poll;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::Backoff;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use self::complaint::Complaints;
use super::target::AgentTarget;
use crate::exit::Failure;
use crate::terminal::shown;

/// Secrets in one request for changes, which the agent limits.
const SECRETS_PER_REQUEST: usize = 20;

/// Time without a further change after which changes are settled.
const SETTLE: Duration = Duration::from_secs(1);

/// Time after which changes are reported though others keep coming.
const LONGEST_SETTLE: Duration = Duration::from_secs(5);

/// Pauses between attempts to read what has changed.
const READ_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Changes of some secrets.
#[derive(Debug)]
pub(super) struct Changes {
    changed: mpsc::UnboundedReceiver<String>,
    complaints: Arc<Complaints>,
}

impl Changes {
    /// Begins to follow the secrets from the versions that were read. Needs a runtime, and goes on as long as that.
    pub(super) fn follow(target: &AgentTarget, versions: BTreeMap<String, String>) -> Self {
        let (sender, changed) = mpsc::unbounded_channel();
        let complaints = Arc::new(Complaints::default());
        let versions: Vec<_> = versions.into_iter().collect();
        for group in versions.chunks(SECRETS_PER_REQUEST) {
            poll::start(
                target.clone(),
                group.to_vec(),
                sender.clone(),
                Arc::clone(&complaints),
            );
        }
        Self {
            changed,
            complaints,
        }
    }

    /// Sends what `read` makes of settled changes. `read` gets the names of the secrets; it is repeated after a failure,
    /// with the secrets that have changed meanwhile.
    pub(super) async fn report<T>(
        mut self,
        updates: mpsc::Sender<T>,
        mut read: impl AsyncFnMut(&BTreeSet<String>) -> Result<Option<T>, Failure>,
    ) {
        let mut names = BTreeSet::new();
        let mut complaint = None;
        let mut failures = 0;
        loop {
            if names.is_empty() {
                let Some(name) = self.changed.recv().await else {
                    return;
                };
                names.insert(name);
            } else {
                let pause = READ_BACKOFF.pause(failures);
                failures += 1;
                tokio::select! {
                    () = sleep(pause) => {}
                    name = self.changed.recv() => names.extend(name),
                }
            }
            self.settle(&mut names).await;
            match read(&names).await {
                Ok(update) => {
                    self.complaints.withdraw(complaint.take());
                    names.clear();
                    failures = 0;
                    if let Some(update) = update
                        && updates.send(update).await.is_err()
                    {
                        return;
                    }
                }
                Err(failure) => {
                    let names = names.iter().map(String::as_str).collect::<Vec<_>>();
                    let text = format!(
                        "{} changed and cannot be used yet: {}",
                        names.join(", "),
                        failure.message()
                    );
                    self.complaints.replace(&mut complaint, text);
                }
            }
        }
    }

    /// Adds the changes that come together with the first ones.
    async fn settle(&mut self, names: &mut BTreeSet<String>) {
        let end = Instant::now() + LONGEST_SETTLE;
        while let Ok(Some(name)) =
            timeout_at(end.min(Instant::now() + SETTLE), self.changed.recv()).await
        {
            names.insert(name);
        }
    }
}

/// Failure to go on following, which only an error of this program causes.
pub(super) fn stopped() -> Failure {
    Failure::failed("changes are not followed any more")
}

/// Prints a line on stderr, which the command has, too.
pub(super) fn say(message: &str) {
    // A failure means that stderr is closed, and there is no reader.
    let _ = writeln!(io::stderr(), "alibabacloud-kms-agent: {}", shown(message));
}
