//! Journal of the fleet: what changed, in order, for the agents that poll it.

use kms_agent_core::Timestamp;

use crate::keyring::{Epoch, ID_BYTES, Id, Keyring};

/// Entries on one page.
pub(crate) const PAGE_ENTRIES: u64 = 32;

const BODY_BYTES: usize = 1 + ID_BYTES + 8 + 8;

/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = BODY_BYTES + ID_BYTES;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) event: Event,
    /// Moment by the server's clock: of the question to KMS, or of the removal.
    pub(crate) at: Timestamp,
}

/// Kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A record was stored; the mark tells whether its content is another.
    Stored { place: Id, content: [u8; 8] },
    /// A record was removed: KMS refuses it.
    Refused { place: Id },
    /// Every version of a secret was purged.
    Purged { name: Id },
    /// A fetch ended without a record.
    Ended { place: Id },
    /// Everything was purged; the first entry of the epoch that the purge began.
    AllPurged,
}

impl Entry {
    pub(crate) fn encode(&self, keyring: &Keyring, epoch: &Epoch) -> Vec<u8> {
        let (kind, id, content) = match self.event {
            Event::Stored { place, content } => (b'S', place, content),
            Event::Refused { place } => (b'R', place, [0; 8]),
            Event::Purged { name } => (b'N', name, [0; 8]),
            Event::Ended { place } => (b'X', place, [0; 8]),
            Event::AllPurged => (b'A', [0; ID_BYTES], [0; 8]),
        };
        let mut bytes = Vec::with_capacity(ENTRY_BYTES);
        bytes.push(kind);
        bytes.extend_from_slice(&id);
        bytes.extend_from_slice(&content);
        bytes.extend_from_slice(&self.at.as_millis().to_le_bytes());
        bytes.extend_from_slice(&keyring.entry_mac(epoch, &bytes));
        bytes
    }

    /// Reads an entry; `None` for one that no agent of the fleet wrote in this epoch.
    pub(crate) fn decode(keyring: &Keyring, epoch: &Epoch, bytes: &[u8]) -> Option<Self> {
        let (body, mac) = bytes.split_at_checked(BODY_BYTES)?;
        if keyring.entry_mac(epoch, body) != *mac {
            return None;
        }
        let (kind, rest) = body.split_first()?;
        let (id, rest) = rest.split_first_chunk::<ID_BYTES>()?;
        let (content, at) = rest.split_first_chunk::<8>()?;
        let at = Timestamp::from_millis(i64::from_le_bytes(at.try_into().ok()?));
        let event = match kind {
            b'S' => Event::Stored {
                place: *id,
                content: *content,
            },
            b'R' => Event::Refused { place: *id },
            b'N' => Event::Purged { name: *id },
            b'X' => Event::Ended { place: *id },
            b'A' => Event::AllPurged,
            _ => return None,
        };
        Some(Self { event, at })
    }
}

/// Epoch and number of the last entry, as the server holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) epoch: Epoch,
    pub(crate) sequence: u64,
}

impl Head {
    /// Reads `<epoch>:<sequence>`.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (epoch, sequence) = std::str::from_utf8(text).ok()?.split_once(':')?;
        Some(Self {
            epoch: Epoch::parse(epoch)?,
            sequence: sequence.parse().ok()?,
        })
    }
}

/// Page that holds the entry with this number; numbers begin with 1.
pub(crate) fn page_of(sequence: u64) -> u64 {
    sequence.saturating_sub(1) / PAGE_ENTRIES
}

#[cfg(test)]
mod tests {
    use kms_agent_sealed::key::RootKey;

    use super::*;

    #[test]
    fn entries_round_trip_in_their_epoch_only() {
        let keyring = Keyring::new(&RootKey::random().unwrap(), "p");
        let (epoch, other) = (Epoch::random().unwrap(), Epoch::random().unwrap());
        let id = [7; ID_BYTES];
        let events = [
            Event::Stored {
                place: id,
                content: [3; 8],
            },
            Event::Refused { place: id },
            Event::Purged { name: id },
            Event::Ended { place: id },
            Event::AllPurged,
        ];
        for event in events {
            let entry = Entry {
                event,
                at: Timestamp::from_millis(1_234_567),
            };
            let mut bytes = entry.encode(&keyring, &epoch);
            assert_eq!(bytes.len(), ENTRY_BYTES);
            assert_eq!(Entry::decode(&keyring, &epoch, &bytes), Some(entry));
            assert_eq!(Entry::decode(&keyring, &other, &bytes), None);
            bytes[20] ^= 1;
            assert_eq!(Entry::decode(&keyring, &epoch, &bytes), None);
        }
    }

    #[test]
    fn the_head_is_read_and_pages_follow_each_other() {
        let epoch = Epoch::random().unwrap();
        let text = format!("{}:33", epoch.as_str());
        let head = Head::parse(text.as_bytes()).unwrap();
        assert_eq!((head.epoch, head.sequence), (epoch, 33));
        assert_eq!(Head::parse(b"x:1"), None);
        assert_eq!([1, 32, 33].map(page_of), [0, 0, 1]);
    }
}
