//! The records of the persistent store: no bytes make the reader panic, a written record is read back, and a
//! changed one does not open.

#![no_main]

use std::sync::LazyLock;

use kms_agent_sealed::fuzzing::{Sealing, is_resumed, read_header, write_header};
use libfuzzer_sys::fuzz_target;

static SEALING: LazyLock<Sealing> = LazyLock::new(Sealing::default);

/// Largest overhead of a sealed record.
const OVERHEAD: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    // As they are, wherever bytes of a store are read.
    SEALING.open(bytes);
    SEALING.open_beginning(bytes);
    is_resumed(bytes);
    if let Some((key, entry)) = read_header(bytes, b"value") {
        let header = write_header(&key, &entry);
        let (same_key, same_entry) = read_header(&header, b"value").expect("it was just written");
        assert_eq!(key, same_key);
        assert_eq!(entry.lifetime, same_entry.lifetime);
        assert_eq!(entry.secret.version_id, same_entry.secret.version_id);
        assert_eq!(entry.secret.stages, same_entry.secret.stages);
    }

    // As a header and a value, cut where the first byte says; the second says what is changed.
    let [cut, change, rest @ ..] = bytes else {
        return;
    };
    let (header, value) = rest.split_at(usize::from(*cut).min(rest.len()));
    let mut sealed = SEALING.seal(header, value);
    assert!(sealed.len() <= rest.len() + OVERHEAD);
    assert_eq!(SEALING.open_beginning(&sealed).as_deref(), Some(header));
    let (found_header, found_value) = SEALING.open(&sealed);
    assert_eq!(found_header.as_deref(), Some(header));
    assert_eq!(found_value.as_deref(), Some(value));
    let at = usize::from(*change) % sealed.len();
    sealed[at] ^= 1 << (change & 7);
    assert!(!matches!(SEALING.open(&sealed), (Some(_), Some(_))));
});
