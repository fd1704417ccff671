//! Maintenance of the files while the agent runs.

mod state;

use std::collections::{BTreeMap, HashSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use kms_agent_cache::SecretService;
use kms_agent_cache::{Watch, WatchState};
use kms_agent_core::source::{SourceError, SourceErrorKind};
use kms_agent_core::{Backoff, SecretRef, Timestamp, run_blocking};
use kms_agent_trust::is_new_warning;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

pub use self::state::{FileCounts, FileStatus};
use self::state::{FileState, Phase};
use crate::format::{self, RenderError};
use crate::settings::{Content, FileSpec, OnRefusal};
use crate::target::{Target, TargetError, WriteOutcome};
use crate::template::{self, Rendered, Values};

/// Number of files that are made at a time.
const CONCURRENCY: usize = 8;

/// Pauses between attempts to make a file that failed.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(2));

/// Time that the first pass gives to the calls that its files share. A file whose secret takes longer delays no other.
const SHARED_CALLS: Duration = Duration::from_secs(2);

/// Limit of secrets in one template.
const MAX_SECRETS: usize = 100;

/// Code of KMS for a secret that does not exist.
const NOT_FOUND: &str = "ResourceNotFound";

/// Keeps each file of the config equal to its secret.
#[derive(Debug)]
pub struct Files {
    service: Arc<SecretService>,
    entries: Mutex<Vec<Arc<Entry>>>,
    /// Told when `entries` has changed.
    changes: watch::Sender<()>,
    /// Every file was tried once. It stays set.
    first_pass_is_over: AtomicBool,
    places: Semaphore,
}

/// A file that is maintained.
#[derive(Debug)]
struct Entry {
    file: FileSpec,
    state: Mutex<FileState>,
    /// Set when the file is no longer maintained. Held while the file is changed.
    is_retired: Mutex<bool>,
}

/// Versions of the secrets that a file was made of.
type Versions = BTreeMap<SecretRef, Arc<str>>;

/// Reason why a file is not up to date.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}", .0.report())]
    Source(Arc<SourceError>),
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The template cannot be read, or the work could not be done.
    #[error("{0}")]
    Other(String),
}

impl Files {
    /// Returns the files, none of which is made yet.
    pub fn new(service: Arc<SecretService>, files: Vec<FileSpec>) -> Arc<Self> {
        Arc::new(Self {
            service,
            first_pass_is_over: AtomicBool::new(files.is_empty()),
            entries: Mutex::new(files.into_iter().map(Entry::new).collect()),
            changes: watch::Sender::new(()),
            places: Semaphore::new(CONCURRENCY),
        })
    }

    /// Maintains the files. A panic becomes a panic of this call, which may be repeated.
    pub async fn run(self: Arc<Self>) {
        let mut list = self.changes.subscribe();
        loop {
            list.borrow_and_update();
            if !self.first_pass_is_over.load(Ordering::Acquire) {
                self.fetch_together().await;
            }
            let mut tasks = JoinSet::new();
            for entry in self.lock().iter() {
                tasks.spawn(Arc::clone(&self).keep(Arc::clone(entry)));
            }
            tokio::select! {
                changed = list.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tasks.shutdown().await;
                }
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended
                        && let Ok(panic) = error.try_into_panic()
                    {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
    }

    /// Replaces the list of files. A file that is no longer in it is kept or removed as its own settings say.
    pub async fn replace(&self, files: Vec<FileSpec>) {
        let removed = {
            let mut entries = self.lock();
            let mut former = std::mem::take(&mut *entries);
            *entries = files
                .into_iter()
                .map(
                    |file| match former.iter().position(|entry| entry.file == file) {
                        Some(at) => former.swap_remove(at),
                        None => Entry::new(file),
                    },
                )
                .collect();
            for entry in &former {
                entry.retire();
            }
            former.retain(|old| {
                let path = &old.file.target.path;
                entries.iter().all(|entry| entry.file.target.path != *path)
            });
            former
        };
        self.changes.send_replace(());
        Self::clean_up(removed).await;
    }

    /// Brings every file up to date, as after a change of a template.
    pub fn refresh(&self) {
        self.changes.send_replace(());
    }

    /// Ends the maintenance and removes the files that are to be removed at shutdown.
    pub async fn stop(&self) {
        let entries = std::mem::take(&mut *self.lock());
        for entry in &entries {
            entry.retire();
        }
        Self::clean_up(entries).await;
    }

    /// Returns the files in numbers.
    pub fn counts(&self) -> FileCounts {
        let entries = self.lock();
        let phases: Vec<Phase> = entries.iter().map(|entry| entry.lock().phase).collect();
        let count = |wanted: &[Phase]| phases.iter().filter(|phase| wanted.contains(phase)).count();
        FileCounts {
            total: phases.len(),
            written: count(&[Phase::Written]),
            failed: count(&[Phase::Failed, Phase::Removed]),
            first_pass_is_over: self.first_pass_is_over.load(Ordering::Acquire),
        }
    }

    /// Returns the files with their states, without a value.
    pub fn list(&self) -> Vec<FileStatus> {
        let entries = self.lock();
        entries
            .iter()
            .map(|entry| entry.lock().status(&entry.file))
            .collect()
    }

    async fn clean_up(entries: Vec<Arc<Entry>>) {
        let remove = move || {
            for entry in entries.iter().filter(|entry| entry.file.is_removed_on_stop) {
                let target = &entry.file.target;
                if let Err(error) = target.remove() {
                    let file = target.path.display();
                    tracing::warn!(%file, cause = %error, "A secret file was not removed; remove it");
                }
            }
        };
        if let Err(error) = run_blocking(remove).await {
            tracing::warn!(cause = %error, "Secret files were not removed; remove them");
        }
    }

    /// Has the cache fetch the secrets of all files by shared calls. Those of templates are not known yet.
    async fn fetch_together(&self) {
        let policies = self.service.policy();
        let secrets: HashSet<SecretRef> = self
            .lock()
            .iter()
            .filter_map(|entry| match &entry.file.content {
                Content::Secret { secret, .. } => Some(secret.clone()),
                Content::Template(_) => None,
            })
            .filter(|secret| !policies.of(&secret.id).ttl.is_zero())
            .collect();
        if secrets.len() > 1 {
            let secrets: Vec<SecretRef> = secrets.into_iter().collect();
            tokio::select! {
                // The tasks of the files report the errors.
                _ = self.service.read_all(&secrets) => {}
                () = self.service.timeline().sleep(SHARED_CALLS) => {}
            }
        }
    }

    /// Keeps one file equal to its secrets.
    async fn keep(self: Arc<Self>, entry: Arc<Entry>) {
        let mut watches: BTreeMap<SecretRef, Watch> = BTreeMap::new();
        self.prepare(&entry).await;
        let mut failures = 0;
        loop {
            let mut versions = Versions::new();
            let result = {
                // The semaphore is never closed.
                let _place = self.places.acquire().await;
                self.update(&entry, &mut watches, &mut versions).await
            };
            watches.retain(|secret, _| versions.contains_key(secret));
            let pause = match result {
                Ok(outcome) => {
                    failures = 0;
                    entry.note_success(outcome, &versions, self.service.timeline().clock().wall());
                    None
                }
                Err(failure) => {
                    self.fail(&entry, &failure).await;
                    failures += 1;
                    Some(BACKOFF.pause(failures - 1))
                }
            };
            self.end_first_pass();
            tokio::select! {
                () = any_changed(&mut watches, &versions) => {}
                () = self.pause(pause) => {}
            }
        }
    }

    async fn pause(&self, pause: Option<Duration>) {
        match pause {
            Some(pause) => self.service.timeline().sleep(pause).await,
            None => std::future::pending().await,
        }
    }

    /// Removes what a killed process left, and logs a warning about the folder once.
    async fn prepare(&self, entry: &Arc<Entry>) {
        let target = entry.file.target.clone();
        let examine = move || {
            if let Err(error) = target.remove_leftovers() {
                tracing::debug!(cause = %error, "Temporary files were not removed");
            }
            target.examine().ok().flatten()
        };
        if let Ok(Some(warning)) = run_blocking(examine).await
            && is_new_warning(&warning)
        {
            tracing::warn!(cause = warning, "The folder of a secret file is not ideal");
        }
    }

    /// Brings the file up to date. `versions` gets every secret that was asked for; an empty version was not read.
    async fn update(
        &self,
        entry: &Arc<Entry>,
        watches: &mut BTreeMap<SecretRef, Watch>,
        versions: &mut Versions,
    ) -> Result<WriteOutcome, Failure> {
        let bytes = match &entry.file.content {
            Content::Secret { secret, format } => {
                let value = self.read(secret, watches, versions).await?;
                format.render(&value)?
            }
            Content::Template(path) => {
                let path = path.clone();
                let source = run_blocking(move || template::read(&path)).await;
                let source = source.map_err(|error| Failure::Other(error.to_string()))?;
                let source = source.map_err(Failure::Other)?;
                self.render(&source, watches, versions).await?
            }
        };
        let entry = Arc::clone(entry);
        let write = move || entry.change(|target| target.write(&bytes));
        match run_blocking(write).await {
            Ok(result) => Ok(result?.unwrap_or(WriteOutcome::Unchanged)),
            Err(error) => Err(Failure::Other(error.to_string())),
        }
    }

    async fn render(
        &self,
        source: &str,
        watches: &mut BTreeMap<SecretRef, Watch>,
        versions: &mut Versions,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut values = Values::new();
        loop {
            match template::render(source, &values)? {
                Rendered::File(bytes) => return Ok(bytes),
                Rendered::Needs(_) if values.len() >= MAX_SECRETS => {
                    let text = format!("the template reads more than {MAX_SECRETS} secrets");
                    return Err(Failure::Other(text));
                }
                Rendered::Needs(secret) => {
                    let value = self.read(&secret, watches, versions).await?;
                    values.insert(secret, Arc::new(value));
                }
            }
        }
    }

    /// Reads the value of a secret, which is watched from now on.
    async fn read(
        &self,
        secret: &SecretRef,
        watches: &mut BTreeMap<SecretRef, Watch>,
        versions: &mut Versions,
    ) -> Result<Zeroizing<String>, Failure> {
        versions.insert(secret.clone(), Arc::from(""));
        let watch = watches
            .entry(secret.clone())
            .or_insert_with(|| self.service.watch(secret));
        // Seen before the value is read, so that no later change is missed.
        watch.state();
        let answer = watch.read().await.map_err(Failure::Source)?;
        versions.insert(secret.clone(), Arc::clone(&answer.secret.version_id));
        Ok(format::value(&answer.secret)?)
    }

    /// Notes a failure, and removes the file where KMS decided so.
    async fn fail(&self, entry: &Arc<Entry>, failure: &Failure) {
        let is_removed = failure.removes(entry.file.on_refusal) && {
            let entry = Arc::clone(entry);
            matches!(
                run_blocking(move || entry.change(Target::remove)).await,
                Ok(Ok(Some(_)))
            )
        };
        entry.note_failure(failure, is_removed);
    }

    fn end_first_pass(&self) {
        let is_over = self
            .lock()
            .iter()
            .all(|entry| entry.lock().phase != Phase::Pending);
        if is_over {
            self.first_pass_is_over.store(true, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(file: FileSpec) -> Arc<Self> {
        Arc::new(Self {
            file,
            state: Mutex::default(),
            is_retired: Mutex::new(false),
        })
    }

    /// Changes the file, unless it is no longer maintained.
    fn change<T>(
        &self,
        change: impl FnOnce(&Target) -> Result<T, TargetError>,
    ) -> Result<Option<T>, TargetError> {
        let is_retired = self
            .is_retired
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *is_retired {
            return Ok(None);
        }
        change(&self.file.target).map(Some)
    }

    /// Prevents every later change of the file by this entry, and waits for one that runs.
    fn retire(&self) {
        *self
            .is_retired
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn note_success(&self, outcome: WriteOutcome, versions: &Versions, now: Timestamp) {
        let mut state = self.lock();
        let is_news = state.phase != Phase::Written || outcome == WriteOutcome::Replaced;
        state.succeed(outcome, versions, now);
        if is_news {
            tracing::info!(
                file = %self.file.target.path.display(),
                secrets = ?state.secrets,
                version = state.versions,
                unchanged = outcome == WriteOutcome::Unchanged,
                "A secret file is up to date"
            );
        }
    }

    fn note_failure(&self, failure: &Failure, is_removed: bool) {
        let file = self.file.target.path.display();
        let cause = failure.to_string();
        let is_news = self.lock().fail(failure.code(), &cause, is_removed);
        match (is_news, is_removed) {
            (false, _) => tracing::debug!(%file, cause, "A secret file is still not up to date"),
            (true, true) => tracing::warn!(
                %file,
                cause,
                "KMS refused the secret of a file, which was removed"
            ),
            (true, false) => tracing::warn!(
                %file,
                cause,
                "A secret file was not written; the previous one stays"
            ),
        }
    }

    fn lock(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failure {
    /// Code or reason for the status.
    fn code(&self) -> String {
        match self {
            Self::Source(error) => error.code().to_owned(),
            other => other.to_string(),
        }
    }

    /// Whether the file is removed.
    fn removes(&self, on_refusal: OnRefusal) -> bool {
        let Self::Source(error) = self else {
            return false;
        };
        error.kind() == SourceErrorKind::Decision
            && match on_refusal {
                OnRefusal::Auto => error.code().ends_with(NOT_FOUND),
                OnRefusal::Remove => true,
                OnRefusal::Keep => false,
            }
    }
}

/// Waits until one of the secrets has another state than the one that the file was made of.
async fn any_changed(watches: &mut BTreeMap<SecretRef, Watch>, versions: &Versions) {
    let mut waits: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::new();
    for (secret, watch) in watches {
        let version = versions.get(secret);
        waits.push(Box::pin(async move {
            loop {
                match watch.changed().await {
                    WatchState::Version(other) if Some(&other) == version => {}
                    WatchState::Pending => {}
                    _ => return,
                }
            }
        }));
    }
    poll_fn(|context| {
        if waits
            .iter_mut()
            .any(|wait| wait.as_mut().poll(context).is_ready())
        {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
