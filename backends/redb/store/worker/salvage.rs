//! Salvage of a damaged store: a bad page costs the records on it and no others.

use std::time::Duration;

use kms_agent_core::Lifetime;
use kms_agent_sealed::record::Header;
use kms_agent_sealed::seal::{Damaged, RecordHash, SealedRecord, Sealer, header_part, scrub_stack};

use crate::store::fault::Fault;
use crate::store::file::disk::Limits;
use crate::store::shared::Shared;
use crate::store::state::Index;

/// Limits of one step while pages are readable.
const LIMITS: Limits = Limits {
    records: 256,
    bytes: 1 << 20,
    time: Duration::MAX,
};

/// Takes the records into memory that only the store has. False: the medium failed, so some are missing.
pub(crate) fn salvage(shared: &Shared) -> bool {
    let (sealer, count) = {
        let state = shared.lock();
        if state.queue.is_emptying() {
            return true;
        }
        (state.sealer.clone(), state.entries())
    };
    let mut walk = Walk::among(count);
    while let Some(listed) = shared.with_disk(|disk| disk.list(walk.after, walk.limits)) {
        match listed.as_deref() {
            Ok([.., (last, _)]) => walk.go_on(*last),
            Err(Fault::Damaged(_)) if walk.avoid() => {}
            Ok([]) | Err(Fault::Damaged(_)) => return true,
            Err(_) => return false,
        }
        for (hash, record) in listed.unwrap_or_default() {
            if let Ok((_, lifetime)) = check(&sealer, &hash, &record) {
                take(shared, hash, record, &lifetime);
            }
        }
    }
    false
}

fn take(shared: &Shared, hash: RecordHash, record: SealedRecord, lifetime: &Lifetime) {
    let mut state = shared.lock();
    let is_known = state.map.contains(&hash) || state.index != Index::Complete;
    if is_known && state.queue.waiting(&hash).is_none() {
        state.map.fill(hash, record, lifetime);
        state.evict();
    }
}

/// Opens a record, header and value. Returns what the index needs of it.
pub(crate) fn check(
    sealer: &Sealer,
    hash: &RecordHash,
    record: &[u8],
) -> Result<(SealedRecord, Lifetime), Damaged> {
    let header = sealer.open_header(hash, record)?;
    let lifetime = Header::decode(&header).ok_or(Damaged)?.lifetime;
    let opened = sealer.open_value(hash, record).map(drop);
    scrub_stack();
    opened?;
    Ok((header_part(record)?.into(), lifetime))
}

/// Walk through the records around unreadable pages. Hashes are distributed evenly, so equal ranges hold about equally
/// many records.
struct Walk {
    after: Option<RecordHash>,
    /// Limits of the next step: one record where a page is unreadable.
    limits: Limits,
    /// Length of the next jump, in terms of the first eight bytes; at first the distance of one record.
    step: u64,
    one_record: u64,
}

impl Walk {
    fn among(count: usize) -> Self {
        let one_record = u64::MAX / (count as u64).saturating_add(1);
        Self {
            after: None,
            limits: LIMITS,
            step: one_record,
            one_record,
        }
    }

    fn go_on(&mut self, last: RecordHash) {
        self.after = Some(last);
        self.step = self.one_record;
    }

    /// Jumps over unreadable records. False: there are none behind them.
    fn avoid(&mut self) -> bool {
        if self.limits.records > 1 {
            self.limits.records = 1;
            return true;
        }
        let before = self.after.map_or(0, beginning);
        let Some(next) = before.checked_add(self.step) else {
            return false;
        };
        let mut hash = [0; 32];
        for (byte, of) in hash.iter_mut().zip(next.to_be_bytes()) {
            *byte = of;
        }
        self.after = Some(RecordHash(hash));
        self.step = self.step.saturating_mul(2);
        true
    }
}

fn beginning(hash: RecordHash) -> u64 {
    hash.0
        .first_chunk()
        .map_or(0, |eight| u64::from_be_bytes(*eight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_goes_around_what_is_in_the_way_in_growing_steps_and_ends() {
        let mut walk = Walk::among(99);
        assert!(walk.avoid());
        assert_eq!((walk.after, walk.limits.records), (None, 1));
        let mut jumps = 0;
        while walk.avoid() {
            jumps += 1;
        }
        assert_eq!(jumps, 6, "1 + 2 + 4 + 8 + 16 + 32 hundredths");
        walk.go_on(RecordHash([1; 32]));
        let before = beginning(RecordHash([1; 32]));
        assert!(walk.avoid());
        assert_eq!(beginning(walk.after.unwrap()) - before, walk.one_record);
    }
}
