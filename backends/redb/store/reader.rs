//! The thread that fetches records from the store.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use kms_agent_sealed::record::Header;
use kms_agent_sealed::seal::{RecordHash, SealedRecord};
use tokio::sync::oneshot;

use super::shared::Shared;
use super::state::{Known, State};

/// A question, and where the answer goes.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) place: RecordHash,
    pub(crate) answer: oneshot::Sender<Option<SealedRecord>>,
}

/// Answers questions until nobody can ask any more.
pub(crate) fn run(shared: &Shared, asked: &mpsc::Receiver<Lookup>) {
    for lookup in asked {
        // A panic costs this lookup, not those after it; the panic hook reports it.
        let found = catch_unwind(AssertUnwindSafe(|| fetch(shared, &lookup.place)));
        let found = found.unwrap_or_else(|_| {
            shared.lock().lifecycle.count_failure();
            None
        });
        shared.looked_up();
        // Nobody there any more: the record is in memory for the next one.
        let _ = lookup.answer.send(found);
    }
}

fn fetch(shared: &Shared, place: &RecordHash) -> Option<SealedRecord> {
    let (sealer, opening) = {
        let mut state = shared.lock();
        // Somebody else may have asked for the same before.
        match state.find(place) {
            Known::Here(record) => return Some(record),
            Known::Nothing => return None,
            Known::Ask => {}
        }
        state.loading = Some(*place);
        (state.sealer.clone(), state.lifecycle.openings())
    };
    let read = shared.ask(|disk| disk.read(place));
    let header = match &read {
        Some(Ok(Some(record))) => sealer.open_header(place, record).ok(),
        _ => None,
    };
    let header = header.as_deref().and_then(Header::decode);

    let mut state = shared.lock();
    if state.loading.take() != Some(*place) {
        // It was written or removed meanwhile.
        return in_memory(&mut state, place);
    }
    match (read?, header) {
        (Ok(Some(record)), Some(header)) => {
            state.load(*place, record.clone(), &header.lifetime);
            return Some(record);
        }
        (Ok(Some(_)), None) => {
            state.remove(place);
            shared.note_damaged_record();
        }
        (Ok(None), _) => {
            state.map.remove(place);
        }
        (Err(fault), _) => state.lifecycle.reported(opening, fault),
    }
    drop(state);
    shared.wake();
    None
}

fn in_memory(state: &mut State, place: &RecordHash) -> Option<SealedRecord> {
    match state.find(place) {
        Known::Here(record) => Some(record),
        Known::Ask | Known::Nothing => None,
    }
}
