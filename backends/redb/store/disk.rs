//! Transactions: all that is ever asked of redb.

use std::fs::File;
use std::ops::Bound;

use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTableMetadata, TableDefinition,
    TableError,
};

use super::fault::{Fault, contained};
use super::tentative::TentativeFile;
use crate::queue::{Batch, Write};
use crate::seal::{Damaged, FORMAT, RecordHash, SealedRecord, Sealer, header_part};

const RECORDS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_KEY_ID: &str = "key id";
const META_RESUMED: &str = "resumed";

/// Pages that redb keeps in memory; records in use are held outside of it.
const PAGE_CACHE_BYTES: usize = 4 << 20;

/// What a store that was just opened has in it.
#[derive(Debug)]
pub(crate) struct Contents {
    /// What the process before left word of, sealed.
    pub(crate) resumed: Option<Vec<u8>>,
    /// How many records.
    pub(crate) records: u64,
    /// Nothing, because it was just begun.
    pub(crate) is_new: bool,
}

/// Opens the store in `file`, or begins one if the file is empty. A file that is none of ours stays as it is.
pub(crate) fn open(file: File, sealer: &Sealer) -> Result<(Database, Contents), Fault> {
    contained(|| {
        let file = TentativeFile::new(file)?;
        let database = Builder::new()
            .set_cache_size(PAGE_CACHE_BYTES)
            .create_with_backend(file.clone())?;
        let contents = identify(&database, sealer)?;
        file.accept()?;
        let contents = match contents {
            Some(contents) => contents,
            None => begin(&database, sealer)?,
        };
        Ok((database, contents))
    })
}

/// Lets go of the store.
pub(crate) fn close(database: Database) -> Result<(), Fault> {
    contained(|| {
        drop(database);
        Ok(())
    })
}

/// `None`: there is nothing in it at all.
fn identify(database: &Database, sealer: &Sealer) -> Result<Option<Contents>, Fault> {
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

fn begin(database: &Database, sealer: &Sealer) -> Result<Contents, Fault> {
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

/// A transaction that is on the disk when it is committed, and that opening after a crash need not check.
fn durable_write(database: &Database) -> Result<redb::WriteTransaction, Fault> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Writes a batch, all of it or nothing. It is durable when this returns.
pub(crate) fn write(database: &Database, batch: &Batch) -> Result<(), Fault> {
    let transaction = durable_write(database)?;
    if batch.empties() {
        transaction.delete_table(RECORDS)?;
        transaction.open_table(META)?.remove(META_RESUMED)?;
    }
    {
        let mut records = transaction.open_table(RECORDS)?;
        for (place, write) in batch.writes() {
            match write {
                Write::Put(record) => records.insert(&place.0, &**record)?,
                Write::Remove => records.remove(&place.0)?,
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

/// Reads one record.
pub(crate) fn read(database: &Database, place: &RecordHash) -> Result<Option<SealedRecord>, Fault> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    Ok(records
        .get(&place.0)?
        .map(|record| SealedRecord::from(record.value())))
}

/// A record as the index needs it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) place: RecordHash,
    /// The part of it that has the header.
    pub(crate) beginning: Result<SealedRecord, Damaged>,
    /// The size of the whole record.
    pub(crate) size: usize,
}

/// Lists records after `after`, about `bytes` and at most `count` of them. None: there are no more.
pub(crate) fn list(
    database: &Database,
    after: Option<&RecordHash>,
    count: usize,
    bytes: usize,
) -> Result<Vec<Listed>, Fault> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    let start = after.map_or(Bound::Unbounded, |place| Bound::Excluded(&place.0));
    let mut listed = Vec::new();
    let mut size = 0;
    for record in records
        .range::<&[u8; 32]>((start, Bound::Unbounded))?
        .take(count)
    {
        let (place, record) = record?;
        let record = record.value();
        listed.push(Listed {
            place: RecordHash(*place.value()),
            beginning: header_part(record).map(SealedRecord::from),
            size: record.len(),
        });
        size += record.len();
        if size >= bytes {
            break;
        }
    }
    Ok(listed)
}

/// Gives back the space of removed records.
pub(crate) fn compact(database: &mut Database) -> Result<(), Fault> {
    contained(|| {
        database.compact()?;
        Ok(())
    })
}
