//! Record parsing and sealing, for the fuzz target `record`.

use kms_agent_core::{CacheEntry, Secret, SecretKey, SecretValue};
use zeroize::Zeroizing;

use crate::key::RootKey;
use crate::record::{self, Header};
use crate::seal::{HASH_BYTES, RecordHash, Sealer, header_part};

const PLACE: RecordHash = RecordHash([7; HASH_BYTES]);

/// Seals and opens records under a key that is the same in every run.
#[derive(Debug)]
pub struct Sealing(Sealer);

impl Default for Sealing {
    fn default() -> Self {
        Self(Sealer::new(&RootKey::fixed()))
    }
}

impl Sealing {
    /// Seals a record of this header and value.
    pub fn seal(&self, header: &[u8], value: &[u8]) -> Vec<u8> {
        let sealed = self.0.seal(&PLACE, header, value);
        sealed.map(|sealed| sealed.to_vec()).unwrap_or_default()
    }

    /// Opens header and value of a record, each if it is undamaged.
    pub fn open(&self, sealed: &[u8]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let header = self.0.open_header(&PLACE, sealed).ok();
        let value = self.0.open_value(&PLACE, sealed).ok();
        (header, value.map(|value| value.to_vec()))
    }

    /// Opens the header of a record whose value was cut off.
    pub fn open_beginning(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let beginning = header_part(sealed).ok()?;
        self.0.open_header(&PLACE, beginning).ok()
    }
}

/// Decodes a header and adds `value`.
pub fn read_header(header: &[u8], value: &[u8]) -> Option<(SecretKey, CacheEntry)> {
    let header = Header::decode(header)?;
    let entry = CacheEntry {
        secret: Secret {
            answer: SecretValue::new(Zeroizing::new(value.to_vec())),
            version_id: header.version_id.into(),
            stages: header.owned_stages(),
        },
        lifetime: header.lifetime,
    };
    Some((header.key()?, entry))
}

/// Encodes the header of an entry.
pub fn write_header(key: &SecretKey, entry: &CacheEntry) -> Vec<u8> {
    Header::encode(key, entry)
}

/// Returns whether these bytes are a note for the next process.
pub fn is_resumed(bytes: &[u8]) -> bool {
    record::decode_resumed(bytes).is_some()
}
