//! Reader thread: fetches records from the store.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use kms_agent_sealed::record::Header;
use kms_agent_sealed::seal::{RecordHash, SealedRecord};
use tokio::sync::oneshot;

use crate::store::shared::Shared;
use crate::store::state::{Known, State};

/// Look-up of a record, and the channel for the answer.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) hash: RecordHash,
    pub(crate) answer: oneshot::Sender<Option<SealedRecord>>,
}

/// Answers look-ups until the store is dropped.
pub(crate) fn run(shared: &Shared, asked: &mpsc::Receiver<Lookup>) {
    for lookup in asked {
        // A panic costs this look-up, not later ones; the panic hook reports it.
        let found = catch_unwind(AssertUnwindSafe(|| fetch(shared, &lookup.hash)));
        let found = found.unwrap_or_else(|_| {
            shared.lock().lifecycle.count_failure();
            None
        });
        shared.looked_up();
        // The caller may be gone; the record is in memory for the next one.
        let _ = lookup.answer.send(found);
    }
}

fn fetch(shared: &Shared, hash: &RecordHash) -> Option<SealedRecord> {
    let (sealer, opening) = {
        let mut state = shared.lock();
        // An earlier look-up may have fetched the same record.
        match state.find(hash) {
            Known::Here(record) => return Some(record),
            Known::Nothing => return None,
            Known::Ask => {}
        }
        state.loading = Some(*hash);
        (state.sealer.clone(), state.lifecycle.openings())
    };
    let read = shared.with_disk(|disk| disk.read(hash));
    let header = match &read {
        Some(Ok(Some(record))) => sealer.open_header(hash, record).ok(),
        _ => None,
    };
    let header = header.as_deref().and_then(Header::decode);

    let mut state = shared.lock();
    if state.loading.take() != Some(*hash) {
        // The record was written or removed meanwhile.
        return in_memory(&mut state, hash);
    }
    match (read?, header) {
        (Ok(Some(record)), Some(header)) => {
            state.load(*hash, record.clone(), &header.lifetime);
            return Some(record);
        }
        (Ok(Some(_)), None) => {
            state.remove(hash);
            shared.note_damaged_record();
        }
        (Ok(None), _) => {
            state.map.remove(hash);
        }
        (Err(fault), _) => state.lifecycle.reported(opening, fault),
    }
    drop(state);
    shared.wake();
    None
}

fn in_memory(state: &mut State, hash: &RecordHash) -> Option<SealedRecord> {
    match state.find(hash) {
        Known::Here(record) => Some(record),
        Known::Ask | Known::Nothing => None,
    }
}
