//! AES-256-GCM sealing: a record cannot be read without the key, or used under another hash.

use std::fmt;
use std::sync::Arc;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use kms_agent_core::backend::BackendErrorKind;
use kms_agent_core::{BackendError, SecretKey};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::key::RootKey;

/// Version of the record format. A store of another version is quarantined.
pub const FORMAT: u8 = 1;

const KEY_ID_BYTES: usize = 16;
/// Length of a record hash.
pub(crate) const HASH_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const LENGTH_BYTES: usize = 4;

/// Identifies the key of a store, and reveals nothing else about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId([u8; KEY_ID_BYTES]);

impl KeyId {
    /// Bytes of the id.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Key of a record: a keyed hash, from which no name can be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordHash(pub [u8; HASH_BYTES]);

/// Hash of the one record without a secret: the note for the next process.
pub const RESUMED: RecordHash = RecordHash([0; HASH_BYTES]);

/// Record as it is in the store and in memory. Cheap to clone.
pub type SealedRecord = Arc<[u8]>;

/// Error of a record that was not sealed under this key for this hash, or was changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// Error of a system without random numbers.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no random numbers to seal a record with")]
pub struct CannotSeal;

impl From<CannotSeal> for BackendError {
    fn from(error: CannotSeal) -> Self {
        Self::new(BackendErrorKind::Unavailable, "sealing an entry").with_cause(error)
    }
}

/// Keys of one store, derived from its root key.
pub struct Sealer {
    id: KeyId,
    /// Key of headers: names, version, lifetime.
    header: Aes256Gcm,
    /// Key of values. It is separate, so that a scan decrypts no secret.
    value: Aes256Gcm,
    /// Key of the record hashes.
    hasher: Hmac<Sha256>,
}

impl Sealer {
    /// Derives the keys from `root`.
    pub fn new(root: &RootKey) -> Self {
        let keys = Hkdf::<Sha256>::new(None, root.expose());
        let mut id = [0; KEY_ID_BYTES];
        expand(&keys, b"key id", &mut id);
        Self {
            id: KeyId(id),
            header: Aes256Gcm::new(&(*derive(&keys, b"record header")).into()),
            value: Aes256Gcm::new(&(*derive(&keys, b"record value")).into()),
            hasher: <Hmac<Sha256> as KeyInit>::new(&(*derive_block(&keys, b"record place")).into()),
        }
    }

    /// Id of the root key.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Hash of the record of `key`.
    pub fn hash(&self, key: &SecretKey) -> RecordHash {
        let mut mac = self.hasher.clone();
        mac.update(&key.encode());
        RecordHash(mac.finalize().into_bytes().into())
    }

    /// Keyed hash of a list of parts, under no circumstances that of a [`SecretKey`].
    pub fn hash_parts(&self, parts: &[&[u8]]) -> RecordHash {
        let mut mac = self.hasher.clone();
        // A key begins with the length of its endpoint, which is never so long.
        mac.update(&u32::MAX.to_le_bytes());
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        RecordHash(mac.finalize().into_bytes().into())
    }

    /// Seals a record for `hash`. The only plaintext copy is encrypted in place.
    pub fn seal(
        &self,
        hash: &RecordHash,
        header: &[u8],
        value: &[u8],
    ) -> Result<SealedRecord, CannotSeal> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| CannotSeal)?;
        let header_length = u32::try_from(header.len()).map_err(|_| CannotSeal)?;
        let fixed = 1 + NONCE_BYTES + LENGTH_BYTES + 2 * TAG_BYTES;
        let mut sealed = Vec::with_capacity(fixed + header.len() + value.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&header_length.to_le_bytes());
        let header_tag = append(
            &self.header,
            &nonce,
            &self.header_binding(hash),
            header,
            &mut sealed,
        )?;
        append(
            &self.value,
            &nonce,
            &self.value_binding(hash, header_tag),
            value,
            &mut sealed,
        )?;
        Ok(sealed.into())
    }

    /// Decrypts the header of a record that was found at `hash`.
    pub fn open_header(&self, hash: &RecordHash, sealed: &[u8]) -> Result<Vec<u8>, Damaged> {
        let parts = Parts::parse(sealed).ok_or(Damaged)?;
        let mut header = parts.header.to_vec();
        self.header
            .decrypt_inout_detached(
                &Nonce::from(*parts.nonce),
                &self.header_binding(hash),
                header.as_mut_slice().into(),
                &(*parts.header_tag).into(),
            )
            .map_err(|_| Damaged)?;
        Ok(header)
    }

    /// Decrypts the value of a record that was found at `hash`, in a buffer of exactly its size.
    pub fn open_value(
        &self,
        hash: &RecordHash,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Damaged> {
        let parts = Parts::parse(sealed).ok_or(Damaged)?;
        let (value, tag) = parts.value.split_last_chunk().ok_or(Damaged)?;
        let mut value = Zeroizing::new(value.to_vec());
        self.value
            .decrypt_inout_detached(
                &Nonce::from(*parts.nonce),
                &self.value_binding(hash, *parts.header_tag),
                value.as_mut_slice().into(),
                &<[u8; TAG_BYTES]>::into(*tag),
            )
            .map_err(|_| Damaged)?;
        Ok(value)
    }

    /// Additional data of a header: format, key, hash.
    fn header_binding(&self, hash: &RecordHash) -> Vec<u8> {
        let mut bound = Vec::with_capacity(1 + KEY_ID_BYTES + HASH_BYTES + TAG_BYTES);
        bound.push(FORMAT);
        bound.extend_from_slice(&self.id.0);
        bound.extend_from_slice(&hash.0);
        bound
    }

    /// Additional data of a value: that of the header, and its tag.
    fn value_binding(&self, hash: &RecordHash, header_tag: [u8; TAG_BYTES]) -> Vec<u8> {
        let mut bound = self.header_binding(hash);
        bound.extend_from_slice(&header_tag);
        bound
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(<keys redacted>)")
    }
}

/// Returns the part of a record that [`Sealer::open_header`] needs.
pub fn header_part(sealed: &[u8]) -> Result<&[u8], Damaged> {
    let parts = Parts::parse(sealed).ok_or(Damaged)?;
    sealed
        .get(..sealed.len().saturating_sub(parts.value.len()))
        .ok_or(Damaged)
}

/// Parts of a sealed record, as drawn in the README of `backends/redb`.
struct Parts<'a> {
    nonce: &'a [u8; NONCE_BYTES],
    header: &'a [u8],
    header_tag: &'a [u8; TAG_BYTES],
    /// Value with its tag; empty if only the header is kept.
    value: &'a [u8],
}

impl<'a> Parts<'a> {
    fn parse(sealed: &'a [u8]) -> Option<Self> {
        let (format, rest) = sealed.split_first()?;
        if *format != FORMAT {
            return None;
        }
        let (nonce, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (header, rest) = rest.split_at_checked(length)?;
        let (header_tag, value) = rest.split_first_chunk()?;
        Some(Self {
            nonce,
            header,
            header_tag,
            value,
        })
    }
}

/// Overwrites the stack below the caller, on which decryption leaves the last bytes of a value.
///
/// For threads that decrypt values and then wait: on a busy thread the next call overwrites them.
#[inline(never)]
pub fn scrub_stack() {
    let mut stack = [0_u64; 1024];
    stack.zeroize();
    std::hint::black_box(&stack);
}

/// Appends `plain`, encrypted, and its tag, which it returns.
fn append(
    cipher: &Aes256Gcm,
    nonce: &[u8; NONCE_BYTES],
    bound: &[u8],
    plain: &[u8],
    sealed: &mut Vec<u8>,
) -> Result<[u8; TAG_BYTES], CannotSeal> {
    let start = sealed.len();
    sealed.extend_from_slice(plain);
    let part = sealed.get_mut(start..).unwrap_or_default();
    let tag = cipher
        .encrypt_inout_detached(&Nonce::from(*nonce), bound, part.into())
        .map_err(|_| CannotSeal)?;
    sealed.extend_from_slice(&tag);
    Ok(tag.into())
}

fn derive(keys: &Hkdf<Sha256>, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    expand(keys, purpose, &mut *key);
    key
}

/// Derives a key of the block size of HMAC.
fn derive_block(keys: &Hkdf<Sha256>, purpose: &[u8]) -> Zeroizing<[u8; 64]> {
    let mut key = Zeroizing::new([0; 64]);
    expand(keys, purpose, &mut *key);
    key
}

fn expand(keys: &Hkdf<Sha256>, purpose: &[u8], key: &mut [u8]) {
    #[expect(
        clippy::expect_used,
        reason = "HKDF refuses more than 255 hashes' worth, and no key is that long"
    )]
    keys.expand_multi_info(&[b"alibabacloud-kms-agent store ", &[FORMAT], purpose], key)
        .expect("a key is short");
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    use std::fs;

    use super::*;

    const PLACE: RecordHash = RecordHash([3; HASH_BYTES]);

    fn sealer() -> Sealer {
        Sealer::new(&RootKey::random().unwrap())
    }

    #[test]
    fn a_record_opens_in_its_place_under_its_key() {
        let sealer = sealer();
        for value in [&b""[..], b"v", &[9; 5000]] {
            let record = sealer.seal(&PLACE, b"header", value).unwrap();
            assert_eq!(sealer.open_header(&PLACE, &record).unwrap(), b"header");
            let opened = sealer.open_value(&PLACE, &record).unwrap();
            assert_eq!(opened.as_slice(), value);
            assert_eq!(opened.capacity(), value.len());
            let beginning = header_part(&record).unwrap();
            assert_eq!(sealer.open_header(&PLACE, beginning).unwrap(), b"header");
            assert_eq!(sealer.open_value(&PLACE, beginning).unwrap_err(), Damaged);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_scrubbed_stack_holds_nothing_of_a_decrypted_value() {
        use std::os::unix::fs::FileExt;

        const BYTES: usize = 32 << 10;
        // The end of this value stays on the stack in builds without optimization.
        let mut inverted = [0; 40];
        getrandom::fill(&mut inverted).unwrap();
        let value: Vec<u8> = inverted.iter().map(|byte| !byte).collect();
        let sealer = sealer();
        let record = sealer.seal(&PLACE, b"header", &value).unwrap();
        let scanned = std::thread::spawn(move || {
            let mut stack = vec![0; BYTES];
            let memory = fs::File::open("/proc/self/mem").unwrap();
            let below = std::ptr::from_ref(&memory) as usize - BYTES;
            drop(sealer.open_value(&PLACE, &record).unwrap());
            scrub_stack();
            memory.read_exact_at(&mut stack, below as u64).unwrap();
            stack
        });
        let stack = scanned.join().unwrap();
        for part in value.windows(8) {
            assert!(!stack.windows(8).any(|at| at == part));
        }
    }

    #[test]
    fn no_two_records_are_sealed_alike_and_none_shows_what_it_holds() {
        let sealer = sealer();
        let one = sealer
            .seal(&PLACE, b"a-secret-name", b"a-secret-value")
            .unwrap();
        let two = sealer
            .seal(&PLACE, b"a-secret-name", b"a-secret-value")
            .unwrap();
        assert_ne!(one, two);
        for text in [&b"a-secret-name"[..], b"a-secret-value"] {
            assert!(!one.windows(text.len()).any(|part| part == text));
        }
    }

    #[test]
    fn a_record_is_laid_out_as_the_readme_draws_it() {
        let record = sealer().seal(&PLACE, &[1; 300], &[2; 77]).unwrap();
        assert_eq!(record[0], 1);
        assert_eq!(record[13..17], 300_u32.to_le_bytes());
        assert_eq!(header_part(&record).unwrap().len(), 33 + 300);
        assert_eq!(record.len(), 49 + 300 + 77);
    }

    #[test]
    fn a_change_of_any_byte_is_damage() {
        let sealer = sealer();
        let record = sealer.seal(&PLACE, b"head", b"value").unwrap();
        for at in 0..record.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut changed = record.to_vec();
                changed[at] ^= flip;
                let whole = sealer.open_header(&PLACE, &changed).is_ok()
                    && sealer.open_value(&PLACE, &changed).is_ok();
                assert!(!whole, "byte {at} changed unnoticed");
            }
        }
        for length in 0..record.len() {
            let cut = &record[..length];
            assert_eq!(sealer.open_value(&PLACE, cut).unwrap_err(), Damaged);
        }
    }

    #[test]
    fn a_record_opens_nowhere_else() {
        let (sealer, other) = (sealer(), sealer());
        let record = sealer.seal(&PLACE, b"header", b"value").unwrap();
        let elsewhere = RecordHash([4; HASH_BYTES]);
        assert_eq!(sealer.open_header(&elsewhere, &record), Err(Damaged));
        assert!(sealer.open_value(&elsewhere, &record).is_err());
        assert_eq!(other.open_header(&PLACE, &record), Err(Damaged));
        assert!(other.open_value(&PLACE, &record).is_err());
    }

    #[test]
    fn a_value_opens_with_its_own_header_only() {
        let sealer = sealer();
        let old = sealer.seal(&PLACE, b"header", b"old value").unwrap();
        let new = sealer.seal(&PLACE, b"header", b"new value").unwrap();
        let mut mixed = header_part(&new).unwrap().to_vec();
        mixed.extend_from_slice(&old[mixed.len()..]);
        assert!(sealer.open_header(&PLACE, &mixed).is_ok());
        assert_eq!(sealer.open_value(&PLACE, &mixed).unwrap_err(), Damaged);
    }

    #[test]
    fn the_same_root_key_gives_the_same_keys() {
        let root = RootKey::random().unwrap();
        let (one, two) = (Sealer::new(&root), Sealer::new(&root));
        assert_eq!(one.id(), two.id());
        let record = one.seal(&PLACE, b"header", b"value").unwrap();
        assert!(two.open_value(&PLACE, &record).is_ok());
        assert_ne!(one.id(), sealer().id());
    }

    #[test]
    fn debug_shows_nothing_of_the_keys() {
        assert_eq!(format!("{:?}", sealer()), "Sealer(<keys redacted>)");
    }
}
