//! Commands of an agent that is connected, in one epoch.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kms_agent_core::{CacheEntry, SecretKey, SourceError, Timestamp};
use redis::{Cmd, Value};

use super::connection::Connection;
use super::script;
use super::time::ServerTime;
use super::trouble::Trouble;
use crate::journal::{ENTRY_BYTES, Entry, Head, PAGE_ENTRIES, page_of};
use crate::keyring::{Epoch, Keyring, ServerKeys};
use crate::note;
use crate::record::{Mark, Stamped, open_entry, random_mark, seal_entry, stamp};

/// Life of the journal's head, of generations and of data keys.
const LONG: Duration = Duration::from_hours(40 * 24);
/// Life of a page of the journal after its last entry.
const PAGE_LIFE: Duration = Duration::from_mins(15);
/// Pages that the journal keeps.
const PAGES_KEPT: u64 = 4096;
/// Attempts to append to a journal that others append to.
const APPEND_ATTEMPTS: usize = 8;

/// A connection, the keys of the fleet, and what both mean at the moment.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Connection,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) epoch: Epoch,
    /// The server's clock against boot time.
    pub(crate) server_clock: ServerTime,
    /// Boot time zero on the agent's timeline, known from the first call.
    pub(crate) origin: Arc<OnceLock<i64>>,
    pub(crate) timeout: Duration,
    pub(crate) lease_time: Duration,
}

/// State of one key on the server.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// Lease of the agent that fetches.
    pub(crate) holder: Option<Mark>,
    pub(crate) generation: Option<Vec<u8>>,
    pub(crate) record: Option<Shared>,
    /// Lease of the agent that left the note, and the note.
    pub(crate) note: Option<(Mark, Arc<SourceError>)>,
    /// Why no lease could be taken although reading works.
    pub(crate) refused: Option<Trouble>,
}

/// A record of the server, opened.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// Lease under which it was stored.
    pub(crate) lease: Mark,
    /// The entry, by this agent's timeline.
    pub(crate) entry: CacheEntry,
    /// When it was fetched, by the server's clock.
    pub(crate) fetched_at: Timestamp,
}

/// Outcome of storing a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Stored,
    /// Another agent took over, or KMS refused the key meanwhile.
    Lost,
    /// The name was purged meanwhile.
    Purged,
}

impl Session {
    /// Returns the server's clock against this agent's timeline.
    pub(crate) fn time(&self) -> ServerTime {
        let origin = self.origin.get().copied().unwrap_or(0);
        ServerTime {
            least: self.server_clock.least.saturating_sub(origin),
            most: self.server_clock.most.saturating_sub(origin),
            valid_from: self.server_clock.valid_from,
        }
    }

    /// Reads the record of `key`.
    pub(crate) async fn look(&self, key: &SecretKey) -> Result<Looked, Trouble> {
        let keys = self.keyring.server_keys(&self.epoch, key);
        let mut command = redis::cmd("MGET");
        command.arg(&keys.generation).arg(&keys.record);
        let found: Vec<Option<Vec<u8>>> = self.connection.query(&command, self.timeout).await?;
        let mut found = found.into_iter();
        Ok(self.opened(key, found.next().flatten(), found.next().flatten(), None))
    }

    /// Tries to take the lease of `key` as `lease`, and reads what the server holds.
    pub(crate) async fn begin(&self, key: &SecretKey, lease: &Mark) -> Result<Looked, Trouble> {
        let keys = self.keyring.server_keys(&self.epoch, key);
        let generation = random_mark()?;
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("SET")
            .arg(&keys.lease)
            .arg(lease)
            .arg("NX")
            .arg("PX")
            .arg(millis(self.lease_time))
            .cmd("SET")
            .arg(&keys.generation)
            .arg(&generation)
            .arg("NX")
            .arg("PX")
            .arg(millis(LONG))
            .cmd("MGET")
            .arg(&keys.generation)
            .arg(&keys.record)
            .arg(&keys.note)
            .arg(&keys.lease)
            .ignore_errors();
        let answers = self.connection.query_all(&pipeline, self.timeout).await?;
        let [taken, _, read] = <[_; 3]>::try_from(answers)
            .map_err(|_| Trouble::unexpected("a pipeline of three commands"))?;
        let read = read.map_err(Trouble::from)?;
        let found: Vec<Option<Vec<u8>>> =
            redis::from_redis_value(read).map_err(|_| Trouble::unexpected("MGET"))?;
        let [generation, record, note, holder] =
            <[_; 4]>::try_from(found).map_err(|_| Trouble::unexpected("MGET"))?;
        let mut looked = self.opened(key, generation, record, note);
        looked.holder = holder.and_then(|it| Mark::try_from(it.as_slice()).ok());
        looked.refused = taken.err().map(Trouble::from);
        Ok(looked)
    }

    fn opened(
        &self,
        key: &SecretKey,
        generation: Option<Vec<u8>>,
        record: Option<Vec<u8>>,
        note: Option<Vec<u8>>,
    ) -> Looked {
        let current = |bytes: &Option<Vec<u8>>| -> Option<(Mark, Vec<u8>)> {
            let stamped = Stamped::parse(bytes.as_deref()?)?;
            (Some(stamped.generation) == generation.as_deref())
                .then(|| (stamped.lease, stamped.sealed.to_vec()))
        };
        let record = current(&record).and_then(|(lease, sealed)| {
            let stamped = Stamped {
                generation: generation.as_deref()?,
                lease,
                sealed: &sealed,
            };
            let mut entry = open_entry(&self.keyring, &self.epoch, key, stamped)?;
            let fetched_at = entry.lifetime.fetched_at;
            entry.lifetime = self.time().lifetime_here(&entry.lifetime);
            Some(Shared {
                lease,
                entry,
                fetched_at,
            })
        });
        let note = current(&note).and_then(|(lease, sealed)| {
            let stamped = Stamped {
                generation: generation.as_deref()?,
                lease,
                sealed: &sealed,
            };
            Some((lease, note::open(&self.keyring, &self.epoch, key, stamped)?))
        });
        Looked {
            generation,
            record,
            note,
            ..Looked::default()
        }
    }

    /// Stores `entry` under `lease`.
    pub(crate) async fn store(
        &self,
        key: &SecretKey,
        lease: &Mark,
        generation: &[u8],
        entry: &CacheEntry,
        now: Timestamp,
    ) -> Result<Store, Trouble> {
        let keys = self.keyring.server_keys(&self.epoch, key);
        let life = entry.lifetime.usable_until.since(now);
        if life.is_zero() {
            return Ok(Store::Lost);
        }
        let entry = CacheEntry {
            secret: entry.secret.clone(),
            lifetime: self.time().lifetime_on_server(&entry.lifetime),
        };
        let sealed = seal_entry(&self.keyring, &self.epoch, generation, key, &entry)?;
        let mut command = eval(
            script::STORE,
            &[&keys.lease, &keys.generation, &keys.record, &keys.note],
        );
        command
            .arg(lease)
            .arg(generation)
            .arg(stamp(generation, lease, &sealed))
            .arg(millis(life))
            .arg(millis(LONG));
        let answer: String = self.connection.query(&command, self.timeout).await?;
        match answer.as_str() {
            "stored" => Ok(Store::Stored),
            "lost" => Ok(Store::Lost),
            "purged" => Ok(Store::Purged),
            _ => Err(Trouble::unexpected("EVAL")),
        }
    }

    /// Lengthens a lease. Returns whether it is still held.
    pub(crate) async fn renew(&self, keys: &ServerKeys, lease: &Mark) -> Result<bool, Trouble> {
        let mut command = eval(script::RENEW, &[&keys.lease]);
        command.arg(lease).arg(millis(self.lease_time));
        let held: i64 = self.connection.query(&command, self.timeout).await?;
        Ok(held == 1)
    }

    /// Ends a lease, with a note for the others where there is one.
    pub(crate) async fn end(
        &self,
        keys: &ServerKeys,
        lease: &Mark,
        note: Option<(Vec<u8>, Duration)>,
    ) -> Result<(), Trouble> {
        let mut command = eval(script::END, &[&keys.lease, &keys.note]);
        command.arg(lease);
        add_note(&mut command, note);
        let _: i64 = self.connection.query(&command, self.timeout).await?;
        Ok(())
    }

    /// Removes a record that KMS refuses, with a note for the others where there is one.
    pub(crate) async fn decide(
        &self,
        keys: &ServerKeys,
        note: Option<(Vec<u8>, Duration)>,
    ) -> Result<(), Trouble> {
        let mut command = eval(script::DECIDE, &[&keys.lease, &keys.record, &keys.note]);
        add_note(&mut command, note);
        let _: i64 = self.connection.query(&command, self.timeout).await?;
        Ok(())
    }

    /// Begins a new generation of `name`.
    pub(crate) async fn purge(&self, name: &str) -> Result<(), Trouble> {
        let generation = random_mark()?;
        let key = self.keyring.generation_key(&self.epoch, name);
        let mut command = eval(script::PURGE, &[&key]);
        command.arg(&generation).arg(millis(LONG));
        let _: i64 = self.connection.query(&command, self.timeout).await?;
        Ok(())
    }

    /// Begins a new epoch whose first entry is `entry`. Returns it, or `None` where another agent was faster.
    pub(crate) async fn purge_all(&self, at: Timestamp) -> Result<Option<Epoch>, Trouble> {
        let epoch = Epoch::random()?;
        let entry = Entry {
            event: crate::journal::Event::AllPurged,
            at,
        };
        let entry = entry.encode(&self.keyring, &epoch);
        let page = self.keyring.page(&epoch, 0);
        let mut command = eval(script::EPOCH, &[&self.keyring.journal(), &page]);
        command
            .arg(self.epoch.as_str())
            .arg(epoch.as_str())
            .arg(entry)
            .arg(millis(LONG))
            .arg(millis(LONG));
        let begun: i64 = self.connection.query(&command, self.timeout).await?;
        Ok((begun == 1).then_some(epoch))
    }

    /// Appends to the journal. `near` is the number of an entry that is known.
    pub(crate) async fn append(&self, entry: &Entry, near: u64) -> Result<(), Trouble> {
        let bytes = entry.encode(&self.keyring, &self.epoch);
        let mut last = near;
        for _ in 0..APPEND_ATTEMPTS {
            let page = page_of(last + 1);
            let old = page.wrapping_sub(PAGES_KEPT);
            let mut command = eval(
                script::APPEND,
                &[
                    &self.keyring.journal(),
                    &self.keyring.page(&self.epoch, page),
                    &self.keyring.page(&self.epoch, old),
                ],
            );
            command
                .arg(self.epoch.as_str())
                .arg(page)
                .arg(PAGE_ENTRIES)
                .arg(&bytes)
                .arg(millis(LONG))
                .arg(millis(PAGE_LIFE));
            let answer: i64 = self.connection.query(&command, self.timeout).await?;
            if answer > 0 {
                return Ok(());
            }
            if answer == 0 && last == 0 {
                return Err(Trouble::new(
                    super::TroubleKind::EpochChanged,
                    "another agent purged everything",
                ));
            }
            last = answer.unsigned_abs();
        }
        Err(Trouble::new(
            super::TroubleKind::Failing,
            "other agents append to the journal without a pause",
        ))
    }

    /// Reads the entries after `known`, and the number of the last one. `None` where some of them are gone or the
    /// epoch is another.
    pub(crate) async fn entries(&self, known: u64) -> Result<Option<(Vec<Entry>, u64)>, Trouble> {
        let mut entries = Vec::new();
        let mut known = known;
        loop {
            let page = page_of(known + 1);
            let mut command = redis::cmd("MGET");
            command
                .arg(self.keyring.journal())
                .arg(self.keyring.page(&self.epoch, page));
            let found: Vec<Option<Vec<u8>>> = self.connection.query(&command, self.timeout).await?;
            let Ok([Some(head), Some(bytes)]) = <[_; 2]>::try_from(found) else {
                return Ok(None);
            };
            let Some(head) = Head::parse(&head).filter(|head| head.epoch == self.epoch) else {
                return Ok(None);
            };
            // A page that expired and was begun again lacks its first entries, so numbers count from its last one.
            let last = head.sequence.min((page + 1) * PAGE_ENTRIES);
            let first = last - (bytes.len() / ENTRY_BYTES) as u64 + 1;
            if first > known + 1 || last <= known {
                return Ok(None);
            }
            for (sequence, entry) in (first..).zip(bytes.chunks(ENTRY_BYTES)) {
                if sequence > known {
                    // What no agent of the fleet wrote is passed over.
                    entries.extend(Entry::decode(&self.keyring, &self.epoch, entry));
                }
            }
            known = last;
            if known >= head.sequence {
                return Ok(Some((entries, known)));
            }
        }
    }
}

/// Reads epoch and number of the last entry.
pub(crate) async fn head(
    connection: &Connection,
    keyring: &Keyring,
    timeout: Duration,
) -> Result<Option<Head>, Trouble> {
    let mut command = redis::cmd("GET");
    command.arg(keyring.journal());
    let text: Option<Vec<u8>> = connection.query(&command, timeout).await?;
    Ok(text.and_then(|text| Head::parse(&text)))
}

/// Begins the journal of a server that has none.
pub(crate) async fn begin_journal(
    connection: &Connection,
    keyring: &Keyring,
    timeout: Duration,
) -> Result<(), Trouble> {
    let epoch = Epoch::random()?;
    let mut command = redis::cmd("SET");
    command
        .arg(keyring.journal())
        .arg(format!("{}:0", epoch.as_str()))
        .arg("NX")
        .arg("PX")
        .arg(millis(LONG));
    let _: Value = connection.query(&command, timeout).await?;
    Ok(())
}

/// Reads the server's clock in milliseconds since the Unix epoch.
pub(crate) async fn server_millis(
    connection: &Connection,
    keyring: &Keyring,
    timeout: Duration,
) -> Result<i64, Trouble> {
    let command = eval(script::TIME, &[&keyring.journal()]);
    let (seconds, micros): (i64, i64) = connection.query(&command, timeout).await?;
    Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
}

/// Keeps the ciphertext of a data key on the server, and returns the one in force.
pub(crate) async fn keep_ciphertext(
    connection: &Connection,
    prefix: &str,
    ciphertext: &str,
    timeout: Duration,
) -> Result<String, Trouble> {
    let mut command = eval(script::KEEP, &[&ciphertext_key(prefix)]);
    command.arg(ciphertext).arg(millis(LONG));
    connection.query(&command, timeout).await
}

/// Puts the ciphertext of another data key on the server.
pub(crate) async fn replace_ciphertext(
    connection: &Connection,
    prefix: &str,
    ciphertext: &str,
    timeout: Duration,
) -> Result<(), Trouble> {
    let mut command = redis::cmd("SET");
    command
        .arg(ciphertext_key(prefix))
        .arg(ciphertext)
        .arg("PX")
        .arg(millis(LONG));
    let _: Value = connection.query(&command, timeout).await?;
    Ok(())
}

fn ciphertext_key(prefix: &str) -> String {
    format!("{prefix}{{k}}k")
}

fn eval(script: &str, keys: &[&String]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(keys.len());
    for key in keys {
        command.arg(key);
    }
    command
}

fn add_note(command: &mut Cmd, note: Option<(Vec<u8>, Duration)>) {
    let (note, life) = note.unwrap_or_default();
    command.arg(note).arg(millis(life));
}

/// Milliseconds for `PX`, which takes no zero.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}
