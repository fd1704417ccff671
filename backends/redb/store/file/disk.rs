//! Transactions: every call into redb.

use std::ops::Bound;
use std::time::{Duration, Instant};

use kms_agent_sealed::seal::{FORMAT, RESUMED, RecordHash, SealedRecord, Sealer};
use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    RepairSession, StorageBackend, TableDefinition, TableError,
};

use super::overlay::{Locking, OverlayFile};
use crate::queue::{Batch, Write};
use crate::store::fault::{Failure, Fault, contained};

const RECORDS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_KEY_ID: &str = "key id";
const META_RESUMED: &str = "resumed";

/// Size of redb's page cache; records in use are held outside of it.
const PAGE_CACHE_BYTES: usize = 4 << 20;

/// Contents of a store that was just opened.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Sealed note of the previous process.
    pub(crate) resumed: Option<Vec<u8>>,
    /// Number of records.
    pub(crate) records: u64,
    /// Whether the store was just created.
    pub(crate) is_new: bool,
}

/// Limits of one listing step, which lists at least one record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) time: Duration,
}

/// Open store.
#[derive(Debug)]
pub(crate) struct Disk {
    database: Database,
    file: OverlayFile,
    /// Reason that the file cannot be written.
    read_only: Option<Failure>,
}

impl Disk {
    /// Opens the store in `file`, or creates one if the file is empty. A file of another key, or one that is `read_only`,
    /// stays as it is.
    pub(crate) fn open(
        file: Box<dyn StorageBackend>,
        sealer: &Sealer,
        read_only: Option<Failure>,
    ) -> Result<(Self, Contents), Fault> {
        let locking = if read_only.is_some() {
            Locking::Shared
        } else {
            Locking::Exclusive
        };
        let file = OverlayFile::new(file.into(), locking)?;
        let opened = contained(|| open(&file, Trust::LastCommit)).and_then(|database| {
            match contained(|| accept_contents(&database, &file, sealer, read_only.as_ref())) {
                Ok(contents) => Ok((database, contents)),
                Err(fault) => {
                    discard(database, &file);
                    Err(fault)
                }
            }
        });
        let (database, contents) = file.classified(opened)?;
        let disk = Self {
            database,
            file,
            read_only,
        };
        Ok((disk, contents))
    }

    /// Reason that the file cannot be written, while it can be read.
    pub(crate) fn read_only_cause(&self) -> Option<&Failure> {
        self.read_only.as_ref()
    }

    /// Writes a batch atomically. It is durable when this returns.
    pub(crate) fn write(&self, batch: &Batch) -> Result<(), Fault> {
        if let Some(failure) = &self.read_only {
            return Err(Fault::Failed(failure.clone()));
        }
        self.with_database(|database| write(database, batch))
    }

    /// Reads one record.
    pub(crate) fn read(&self, hash: &RecordHash) -> Result<Option<SealedRecord>, Fault> {
        self.with_database(|database| read(database, hash))
    }

    /// Lists some records after `after`. An empty list: there are no more.
    pub(crate) fn list(
        &self,
        after: Option<RecordHash>,
        limits: Limits,
    ) -> Result<Vec<(RecordHash, SealedRecord)>, Fault> {
        self.with_database(|database| list(database, after, limits))
    }

    fn with_database<T>(
        &self,
        question: impl FnOnce(&Database) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.file.classified(contained(|| question(&self.database)))
    }

    /// Compares the whole file with its checksums. Nothing may be written meanwhile.
    ///
    /// A commit frees pages that redb's own tables list. A damaged list makes it panic with a lock held, and once more
    /// while it unwinds, which ends the process. The listing does not see those tables.
    pub(crate) fn verify(&self) -> Result<(), Fault> {
        let view = self.file.view()?;
        let verified = contained(|| open(&view, Trust::Nothing)).map(|database| {
            discard(database, &view);
        });
        view.classified(verified)
    }

    /// Copies records and metadata into `other`, which is empty.
    pub(crate) fn copy_to(&self, other: &Self) -> Result<(), Fault> {
        self.with_database(|database| other.with_database(|empty| copy(database, empty)))
    }

    /// Size of all records.
    pub(crate) fn live_bytes(&self) -> Result<u64, Fault> {
        self.with_database(|database| {
            let records = database.begin_read()?.open_table(RECORDS)?;
            Ok(records.stats()?.stored_bytes())
        })
    }

    /// Closes the store.
    pub(crate) fn close(self) -> Result<(), Fault> {
        let Self { database, file, .. } = self;
        file.classified(contained(|| Ok(database.close()?)))
    }

    /// Closes a damaged store and leaves its file as it is.
    pub(crate) fn abandon(self) {
        discard(self.database, &self.file);
    }
}

/// Part of a file that is taken for undamaged when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// All that the last commit left. Every commit makes quick repair possible, so a file that would have to be read
    /// as a whole first is damaged.
    LastCommit,
    /// Nothing: every page is compared with its checksum.
    Nothing,
}

fn open(file: &OverlayFile, trust: Trust) -> Result<Database, Fault> {
    let mut builder = Builder::new();
    builder.set_cache_size(PAGE_CACHE_BYTES);
    match trust {
        Trust::LastCommit => builder.set_repair_callback(RepairSession::abort),
        Trust::Nothing => builder.set_check_integrity_on_open(true),
    };
    Ok(builder.create_with_backend(file.clone())?)
}

/// Reads the contents and, unless the store has another key, lets changes through to the file.
fn accept_contents(
    database: &Database,
    file: &OverlayFile,
    sealer: &Sealer,
    read_only: Option<&Failure>,
) -> Result<Contents, Fault> {
    let contents = read_contents(database, sealer)?;
    match (contents, read_only) {
        (Some(contents), Some(_)) => Ok(contents),
        (None, Some(failure)) => Err(Fault::Failed(failure.clone())),
        (contents, None) => {
            file.accept()?;
            contents.map_or_else(|| create(database, sealer), Ok)
        }
    }
}

/// Checks the store in `file` without changing or locking it. Returns the sealed note of the previous process.
pub(crate) fn inspect(
    file: Box<dyn StorageBackend>,
    sealer: &Sealer,
) -> Result<Option<Vec<u8>>, Fault> {
    let file = OverlayFile::new(file.into(), Locking::None)?;
    let recognized = contained(|| open(&file, Trust::LastCommit)).and_then(|database| {
        let read_contents = contained(|| read_contents(&database, sealer));
        discard(database, &file);
        read_contents.map(|contents| contents?.resumed)
    });
    file.classified(recognized)
}

/// Reads the contents of a store of this key. `None`: the database is empty.
fn read_contents(database: &Database, sealer: &Sealer) -> Result<Option<Contents>, Fault> {
    match read_meta(database, sealer) {
        Err(Fault::OtherKey) if opens_with(database, sealer)? => {
            Err(Fault::Damaged("it lost the id of its key".to_owned()))
        }
        contents => contents,
    }
}

/// Drops a database without a write. To close it redb would write; on damaged pages it may panic then, and once more
/// while it unwinds, which ends the process.
fn discard(mut database: Database, file: &OverlayFile) {
    file.shut();
    // redb notices here that the file fails, after which it does not write.
    let _ = contained(|| Ok(database.check_integrity()?));
    let _ = contained(|| Ok(database.close()?));
}

/// Returns whether `sealer` opens a record of a store that claims to have another key.
fn opens_with(database: &Database, sealer: &Sealer) -> Result<bool, Fault> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    if let Some(resumed) = meta.get(META_RESUMED)?
        && sealer.open_header(&RESUMED, resumed.value()).is_ok()
    {
        return Ok(true);
    }
    let records = transaction.open_table(RECORDS)?;
    let first = records.first()?;
    Ok(first.is_some_and(|(hash, record)| {
        sealer
            .open_header(&RecordHash(*hash.value()), record.value())
            .is_ok()
    }))
}

/// Reads the metadata. `None`: the database is empty.
fn read_meta(database: &Database, sealer: &Sealer) -> Result<Option<Contents>, Fault> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) if transaction.list_tables()?.next().is_none() => {
            return Ok(None);
        }
        meta => meta?,
    };
    let format = meta.get(META_FORMAT)?;
    if format.is_none_or(|format| format.value() != [FORMAT]) {
        return Err(Fault::Damaged(format!(
            "its format is not version {FORMAT}, the only one this agent knows"
        )));
    }
    let key_id = meta.get(META_KEY_ID)?;
    if key_id.is_none_or(|id| id.value() != sealer.id().as_bytes()) {
        return Err(Fault::OtherKey);
    }
    Ok(Some(Contents {
        resumed: meta
            .get(META_RESUMED)?
            .map(|resumed| resumed.value().to_vec()),
        records: transaction.open_table(RECORDS)?.len()?,
        is_new: false,
    }))
}

fn create(database: &Database, sealer: &Sealer) -> Result<Contents, Fault> {
    let transaction = durable_write(database)?;
    transaction.open_table(RECORDS)?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_FORMAT, [FORMAT].as_slice())?;
        meta.insert(META_KEY_ID, sealer.id().as_bytes())?;
    }
    transaction.commit()?;
    Ok(Contents {
        resumed: None,
        records: 0,
        is_new: true,
    })
}

/// Begins a transaction that is durable once committed, and after which a crash needs no repair.
fn durable_write(database: &Database) -> Result<redb::WriteTransaction, Fault> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn write(database: &Database, batch: &Batch) -> Result<(), Fault> {
    let transaction = durable_write(database)?;
    if batch.empties() {
        transaction.delete_table(RECORDS)?;
        transaction.open_table(META)?.remove(META_RESUMED)?;
    }
    {
        let mut records = transaction.open_table(RECORDS)?;
        for (hash, write) in batch.writes() {
            match write {
                Write::Put(record) => records.insert(&hash.0, &**record)?,
                Write::Remove => records.remove(&hash.0)?,
            };
        }
    }
    if let Some(resumed) = batch.resumed() {
        transaction
            .open_table(META)?
            .insert(META_RESUMED, resumed)?;
    }
    transaction.commit()?;
    Ok(())
}

fn read(database: &Database, hash: &RecordHash) -> Result<Option<SealedRecord>, Fault> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    Ok(records
        .get(&hash.0)?
        .map(|record| SealedRecord::from(record.value())))
}

fn list(
    database: &Database,
    after: Option<RecordHash>,
    limits: Limits,
) -> Result<Vec<(RecordHash, SealedRecord)>, Fault> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    let start = after
        .as_ref()
        .map_or(Bound::Unbounded, |hash| Bound::Excluded(&hash.0));
    let began = Instant::now();
    let mut listed = Vec::new();
    let mut last = after;
    let mut size = 0;
    for record in records
        .range::<&[u8; 32]>((start, Bound::Unbounded))?
        .take(limits.records)
    {
        let (hash, record) = record?;
        let hash = RecordHash(*hash.value());
        if last.is_some_and(|last| last >= hash) {
            return Err(Fault::Damaged("its records are out of order".to_owned()));
        }
        last = Some(hash);
        let record = SealedRecord::from(record.value());
        size += record.len();
        listed.push((hash, record));
        if size >= limits.bytes || began.elapsed() >= limits.time {
            break;
        }
    }
    Ok(listed)
}

fn copy(from: &Database, to: &Database) -> Result<(), Fault> {
    let source = from.begin_read()?;
    let target = durable_write(to)?;
    {
        let mut meta = target.open_table(META)?;
        for entry in source.open_table(META)?.iter()? {
            let (name, value) = entry?;
            meta.insert(name.value(), value.value())?;
        }
        let mut records = target.open_table(RECORDS)?;
        for entry in source.open_table(RECORDS)?.iter()? {
            let (hash, record) = entry?;
            records.insert(hash.value(), record.value())?;
        }
    }
    target.commit()?;
    Ok(())
}
