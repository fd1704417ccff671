//! Writer thread: owns the database.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::Timestamp;
use kms_agent_sealed::key::RootKey;
use kms_agent_sealed::seal::{RecordHash, SealedRecord};

use super::salvage::{check, salvage};
use crate::queue::Batch;
use crate::store::fault::{Failure, Fault};
use crate::store::file::disk::{Disk, Limits};
use crate::store::file::{Keys, OpenFailure};
use crate::store::lifecycle::{Action, Step};
use crate::store::shared::Shared;
use crate::store::state::{Index, State};

/// Time for which writes are gathered into one commit. A batch has to begin within 100 ms of its first write, and a
/// listing step may have to finish first.
const GATHERING: Duration = Duration::from_millis(50);

/// Most bytes of one transaction; further writes wait for the next one.
const BATCH_BYTES: usize = 8 << 20;

/// Longest time that listing gives way to look-ups: as long as a reader waits for the store.
const GIVE_WAY: Duration = Duration::from_millis(500);

/// Limits of one listing step, so that a write never waits long for it, even on a slow disk.
const LISTED: Limits = Limits {
    records: 256,
    bytes: 1 << 20,
    time: Duration::from_millis(20),
};

/// Largest store that is verified before its first write; for a larger one the first batch would begin too late.
const VERIFIED_BYTES: u64 = 8 << 20;

/// Shutdown compacts a store that is larger than this and than twice its records.
const SMALL_STORE_BYTES: u64 = 1 << 20;
/// Panics of the thread after which the store is given up.
const MOST_PANICS: u32 = 5;

/// With more records than this, compaction would delay shutdown too long.
const LARGE_STORE_BYTES: u64 = 1 << 30;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// Key for a store that could not be created yet. The records in memory are sealed under it already.
    drawn: Option<RootKey>,
}

enum Job {
    Act(Action),
    /// Commit a batch, made at this moment.
    Write(Batch, Timestamp),
    /// List the records after this one.
    List(Option<RecordHash>),
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, drawn: Option<RootKey>) -> Self {
        Self { shared, drawn }
    }

    /// Works until the store is closed. After a panic the store is reopened, as after a failure of the medium.
    pub(crate) fn run(mut self) {
        let mut panics = 0;
        while catch_unwind(AssertUnwindSafe(|| self.work())).is_err() {
            panics += 1;
            let opened = catch_unwind(AssertUnwindSafe(|| {
                self.recover(Fault::Failed(Failure {
                    word: "thread_failed",
                    cause: "the store's thread panicked".to_owned(),
                }));
            }));
            if opened.is_err() || panics == MOST_PANICS {
                // No caller may wait for a thread that is gone.
                self.shared
                    .give_up("thread_failed", "the store's thread panicked repeatedly");
                return self.shared.close_disk();
            }
        }
    }

    fn work(&mut self) {
        loop {
            match self.next_job() {
                Job::Write(batch, begun_at) => self.write(&batch, begun_at),
                Job::List(after) => self.list(after),
                Job::Act(Action::Open) => {
                    self.open();
                }
                Job::Act(Action::Look) => self.look(),
                Job::Act(Action::TryWriting) => self.reopen_if_writable(),
                Job::Act(Action::Recover(fault)) => self.recover(fault),
                Job::Act(Action::Replace) => self.replace(),
                Job::Act(Action::Verify) => self.verify(),
                Job::Act(Action::Close) => return self.close(),
                Job::Act(Action::Abandon) => return self.shared.close_disk(),
            }
            if !self.shared.lock().lifecycle.has_store() {
                return self.shared.close_disk();
            }
        }
    }

    /// Waits for a job.
    fn next_job(&self) -> Job {
        let mut state = self.shared.lock();
        let mut gathered = false;
        let mut gave_way = false;
        loop {
            let has_writes = !state.queue.is_empty();
            match state.lifecycle.next(has_writes) {
                Step::Pause { can_list } => {
                    if let Index::Reading { after, .. } = state.index
                        && can_list
                    {
                        return Job::List(after);
                    }
                    state = self.shared.wait(state);
                }
                Step::Write if gathered || state.lifecycle.is_urgent() => {
                    let clock = &*self.shared.location.clock;
                    let begun_at = clock.wall();
                    let resumed = state.resumed(clock);
                    let batch = state.queue.batch(BATCH_BYTES).resumed_by(resumed);
                    return Job::Write(batch, begun_at);
                }
                Step::Write => {
                    let is_calm = |state: &State| state.lifecycle.is_calm();
                    state = self.shared.wait_while(state, GATHERING, is_calm);
                    gathered = true;
                }
                Step::Idle => {
                    self.all_written(&mut state);
                    if state.lifecycle.is_closing() {
                        return Job::Act(Action::Close);
                    }
                    if let Index::Reading { after, .. } = state.index {
                        if gave_way || state.lookups == 0 {
                            return Job::List(after);
                        }
                        state = self.shared.wait_while(state, GIVE_WAY, is_busy_reading);
                        gave_way = true;
                    } else {
                        state = self.shared.wait(state);
                        gathered = false;
                    }
                }
                Step::Act(action) => return Job::Act(action),
            }
        }
    }

    fn all_written(&self, state: &mut State) {
        if state.lifecycle.all_written() {
            tracing::info!(
                store.path = %self.shared.location.path.display(),
                "The cache's store works again"
            );
        }
        self.shared.publish(state);
    }

    /// Opens the store. Returns whether it is open.
    fn open(&mut self) -> bool {
        let sealer = Arc::clone(&self.shared.lock().sealer);
        let keys = match &self.drawn {
            Some(drawn) => Keys::Drawn(drawn),
            None => Keys::Known(&sealer),
        };
        let failure = match self.shared.location.open(keys) {
            Ok(opened) => {
                self.drawn = None;
                self.shared.install(opened);
                return true;
            }
            Err(failure) => failure,
        };
        self.not_opened(failure);
        false
    }

    fn not_opened(&self, failure: OpenFailure) {
        match failure {
            OpenFailure::Failed(failure) => self.shared.fail(&failure),
            OpenFailure::Refused(cause) => self.shared.fail(&Failure {
                word: "refused",
                cause,
            }),
            OpenFailure::Barred { word, message } => self.shared.give_up(word, &message),
        }
    }

    /// Handles a fault. The database is closed: redb does not promise how it behaves after a fault.
    fn recover(&mut self, fault: Fault) {
        let failure = match fault {
            Fault::Damaged(why) => {
                self.shared.lock().lifecycle.count_failure();
                salvage(&self.shared);
                if let Some(disk) = self.shared.take_disk() {
                    disk.abandon();
                }
                let quarantine = self.shared.location.quarantine(&why, None);
                quarantine.err().map(Failure::from)
            }
            Fault::Failed(failure) => Some(failure),
            Fault::Gone => {
                tracing::warn!(
                    store.path = %self.shared.location.path.display(),
                    "The file of the cache's store was removed or replaced; rewriting it from memory"
                );
                None
            }
            Fault::Locked | Fault::OtherKey => None,
        };
        self.shared.close_disk();
        match &failure {
            Some(failure) if failure.word == "disk_full" && self.owes_removals() => {
                if !self.open() {
                    return;
                }
                if !self.give_up_file() {
                    return self.shared.fail(failure);
                }
            }
            Some(failure) => self.shared.fail(failure),
            None => {}
        }
        // Readers can use it even if nothing can be written.
        self.open();
    }

    fn owes_removals(&self) -> bool {
        self.shared.lock().queue.owes_removals()
    }

    /// Removes the file so that a removed entry cannot come back: the last resort on a full disk. The file is then
    /// rewritten from memory, if there is space. False: the file is still there.
    fn give_up_file(&self) -> bool {
        if !salvage(&self.shared) {
            return false;
        }
        if let Some(disk) = self.shared.take_disk() {
            disk.abandon();
        }
        if let Err(error) = self.shared.location.remove() {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "The cache's store could not be removed"
            );
            return false;
        }
        tracing::warn!(
            store.path = %self.shared.location.path.display(),
            "The disk is too full to remove an entry from the cache's store; its file was removed and is rewritten from memory"
        );
        self.shared.lock().lifecycle.count_failure();
        self.shared.gone();
        true
    }

    fn reopen_if_writable(&mut self) {
        match self.shared.location.try_writing() {
            Ok(()) => {
                self.shared.close_disk();
                self.open();
            }
            Err(error) => self.shared.fail(&error.into()),
        }
    }

    fn look(&mut self) {
        let expected = self.shared.lock().lifecycle.file();
        if self.shared.location.file() != expected {
            self.recover(Fault::Gone);
        }
    }

    fn verify(&mut self) {
        if self.shared.location.bytes() <= VERIFIED_BYTES
            && let Some(Err(fault)) = self.shared.with_disk(Disk::verify)
        {
            self.recover(fault);
        }
    }

    fn write(&mut self, batch: &Batch, begun_at: Timestamp) {
        match self.shared.with_disk(|disk| disk.write(batch)) {
            None => self.shared.lock().lifecycle.closed(),
            Some(Err(fault)) => self.recover(fault),
            Some(Ok(())) => {
                let bytes = self.shared.location.bytes();
                let mut state = self.shared.lock();
                state.queue.settle(batch);
                state.bytes = bytes;
                if batch.is_whole() {
                    state.committed_at = Some(begun_at);
                }
                self.shared.publish(&state);
            }
        }
    }

    fn replace(&mut self) {
        let sealer = Arc::clone(&self.shared.lock().sealer);
        match self.shared.location.replace(&sealer) {
            Ok(opened) => self.shared.install_replacement(opened),
            Err(failure) => {
                // The folder may not be writable. The queue also has a request to empty the store.
                self.shared.lock().lifecycle.replacement_ended();
                if self.shared.location.file().is_none() {
                    self.shared.gone();
                    self.shared.close_disk();
                    self.not_opened(failure);
                }
            }
        }
    }

    fn list(&mut self, after: Option<RecordHash>) {
        let listed = self.shared.with_disk(|disk| disk.list(after, LISTED));
        match listed {
            None => self.shared.lock().lifecycle.closed(),
            Some(Err(fault)) => self.recover(fault),
            Some(Ok(listed)) => self.take_listed(listed),
        }
    }

    /// Verifies the listed records, indexes them, and removes the damaged ones.
    fn take_listed(&self, listed: Vec<(RecordHash, SealedRecord)>) {
        let sealer = Arc::clone(&self.shared.lock().sealer);
        let count = listed.len() as u64;
        let last = listed.last().map(|(hash, _)| *hash);
        for (hash, record) in listed {
            let checked = check(&sealer, &hash, &record);
            let mut state = self.shared.lock();
            if state.index == Index::Complete {
                // All records were dropped meanwhile.
                break;
            }
            if state.queue.waiting(&hash).is_some() {
                continue;
            }
            if let Ok((beginning, lifetime)) = checked {
                state.map.list(hash, beginning, &lifetime);
                state.evict();
            } else {
                state.remove(&hash);
                self.shared.note_damaged_record();
            }
        }
        let mut state = self.shared.lock();
        if let Index::Reading { left, .. } = state.index {
            state.index = match last {
                None => Index::Complete,
                after => Index::Reading {
                    after,
                    left: left.saturating_sub(count),
                },
            };
        }
        self.shared.publish(&state);
    }

    fn close(&self) {
        let (works, final_batch) = {
            let mut state = self.shared.lock();
            let works = state.lifecycle.trouble().is_none();
            let resumed = state.resumed(&*self.shared.location.clock);
            let final_batch = resumed
                .filter(|_| works)
                .map(|resumed| state.queue.batch(0).resumed_by(Some(resumed)));
            state.map.clear();
            (works, final_batch)
        };
        if let Some(disk) = self.shared.take_disk() {
            // The next process must not take the entries for younger than they are now.
            let written = final_batch.map_or(Ok(()), |batch| disk.write(&batch));
            self.shared.publish_written(&self.shared.lock());
            let compacted = if works { self.compact(&disk) } else { Ok(()) };
            if let Err(fault) = written.and(compacted).and(disk.close()) {
                tracing::warn!(?fault, "The cache's store could not be closed properly");
            }
        }
        self.shared.publish_closed(&self.shared.lock());
    }

    /// Compacts the store if it is much larger than its records.
    fn compact(&self, disk: &Disk) -> Result<(), Fault> {
        let location = &self.shared.location;
        let bytes = location.bytes();
        if bytes <= SMALL_STORE_BYTES {
            return Ok(());
        }
        let live = disk.live_bytes()?;
        if live > LARGE_STORE_BYTES || bytes / 2 <= live {
            return Ok(());
        }
        let sealer = Arc::clone(&self.shared.lock().sealer);
        match location.rewrite(disk, &sealer) {
            Ok(rewritten) => rewritten.disk.close(),
            // For example because the disk is full. Nothing is lost.
            Err(failure) => {
                tracing::debug!(?failure, "The cache's store could not be compacted");
                Ok(())
            }
        }
    }
}

/// Returns whether look-ups wait and no work precedes the listing.
fn is_busy_reading(state: &State) -> bool {
    state.lookups > 0 && state.lifecycle.is_idle() && state.queue.is_empty()
}
