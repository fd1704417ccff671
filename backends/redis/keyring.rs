//! Everything that is derived from the fleet's key: names on the server, seals, checks.

use std::fmt;
use std::fmt::Write as _;

use kms_agent_core::SecretKey;
use kms_agent_sealed::key::RootKey;
use kms_agent_sealed::seal::{CannotSeal, Damaged, RecordHash, SealedRecord, Sealer};
use zeroize::Zeroizing;

/// Bytes of a name or place in the journal.
pub(crate) const ID_BYTES: usize = 16;

/// Name of a secret, or place of a record, as the journal has it. Independent of the epoch.
pub(crate) type Id = [u8; ID_BYTES];

/// Random text that a `purge --all` or a new server begins: records of an earlier epoch are never found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(Box<str>);

/// Keys and names of one fleet.
pub(crate) struct Keyring {
    sealer: Sealer,
    /// Beginning of every key on the server.
    prefix: String,
}

/// Keys on the server of one secret version. All lie in one slot of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct ServerKeys {
    /// Generation of the secret's name, which a purge changes.
    pub(crate) generation: String,
    /// Lease of the agent that fetches.
    pub(crate) lease: String,
    /// The sealed entry.
    pub(crate) record: String,
    /// A sealed refusal or failure.
    pub(crate) note: String,
}

/// Circumstances that a sealed value on the server is bound to, besides the key of the fleet and its prefix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding<'a> {
    pub(crate) epoch: &'a Epoch,
    pub(crate) generation: &'a [u8],
    pub(crate) key: &'a SecretKey,
    pub(crate) kind: Kind,
}

/// Kinds of sealed values, so that none passes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Record,
    Note,
}

impl Epoch {
    /// Draws a new epoch.
    pub(crate) fn random() -> Result<Self, CannotSeal> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|_| CannotSeal)?;
        Ok(Self(hex(&bytes).into()))
    }

    /// Reads what the server holds.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Keyring {
    /// Derives the keys of the fleet that uses `prefix` from the key that its operator distributed.
    pub(crate) fn new(root: &RootKey, prefix: &str) -> Self {
        let sealer = Sealer::new(&root.derived(&[b"redis", prefix.as_bytes()]));
        let id = hex(sealer.id().as_bytes().get(..4).unwrap_or_default());
        Self {
            sealer,
            prefix: format!("{prefix}{id}"),
        }
    }

    /// Name of the key that holds epoch and number of the last journal entry.
    pub(crate) fn journal(&self) -> String {
        format!("{}{{j}}e", self.prefix)
    }

    /// Name of a page of the journal.
    pub(crate) fn page(&self, epoch: &Epoch, page: u64) -> String {
        let epoch = epoch.as_str().get(..8).unwrap_or_default();
        format!("{}{{j}}p{epoch}.{page}", self.prefix)
    }

    /// Names of the keys of `key` in `epoch`.
    pub(crate) fn server_keys(&self, epoch: &Epoch, key: &SecretKey) -> ServerKeys {
        let name = self.sealer.hash_parts(&[
            b"name",
            epoch.as_str().as_bytes(),
            key.secret.id.name().as_bytes(),
        ]);
        let place = self
            .sealer
            .hash_parts(&[b"place", epoch.as_str().as_bytes(), &key.encode()]);
        let (name, place) = (hex(half(&name)), hex(half(&place)));
        let prefix = &self.prefix;
        ServerKeys {
            generation: format!("{prefix}{{{name}}}g"),
            lease: format!("{prefix}{{{name}}}l{place}"),
            record: format!("{prefix}{{{name}}}r{place}"),
            note: format!("{prefix}{{{name}}}n{place}"),
        }
    }

    /// Name of the key that holds the generation of the secret `name`.
    pub(crate) fn generation_key(&self, epoch: &Epoch, name: &str) -> String {
        let name = self
            .sealer
            .hash_parts(&[b"name", epoch.as_str().as_bytes(), name.as_bytes()]);
        format!("{}{{{}}}g", self.prefix, hex(half(&name)))
    }

    /// Id of the record of `key` in the journal.
    pub(crate) fn place_id(&self, key: &SecretKey) -> Id {
        *half(&self.sealer.hash_parts(&[b"place id", &key.encode()]))
    }

    /// Id of the secret `name` in the journal.
    pub(crate) fn name_id(&self, name: &str) -> Id {
        *half(&self.sealer.hash_parts(&[b"name id", name.as_bytes()]))
    }

    /// Mark by which two answers with the same content are known.
    pub(crate) fn content_tag(&self, content: &[u8]) -> [u8; 8] {
        let hash = self.sealer.hash_parts(&[b"content", content]);
        *hash.0.first_chunk().unwrap_or(&[0; 8])
    }

    /// Authenticates a journal entry of `epoch`.
    pub(crate) fn entry_mac(&self, epoch: &Epoch, entry: &[u8]) -> Id {
        *half(
            &self
                .sealer
                .hash_parts(&[b"entry", epoch.as_str().as_bytes(), entry]),
        )
    }

    /// Seals a value for the server.
    pub(crate) fn seal(
        &self,
        binding: Binding<'_>,
        header: &[u8],
        value: &[u8],
    ) -> Result<SealedRecord, CannotSeal> {
        self.sealer.seal(&self.bound(binding), header, value)
    }

    /// Opens the header of a value from the server.
    pub(crate) fn open_header(
        &self,
        binding: Binding<'_>,
        sealed: &[u8],
    ) -> Result<Vec<u8>, Damaged> {
        self.sealer.open_header(&self.bound(binding), sealed)
    }

    /// Opens the value of a record from the server.
    pub(crate) fn open_value(
        &self,
        binding: Binding<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Damaged> {
        self.sealer.open_value(&self.bound(binding), sealed)
    }

    /// Short text that is equal for equal keys and prefixes, and says nothing else about them.
    pub(crate) fn fingerprint(&self) -> String {
        hex(self.sealer.id().as_bytes().get(..4).unwrap_or_default())
    }

    fn bound(&self, binding: Binding<'_>) -> RecordHash {
        let kind: &[u8] = match binding.kind {
            Kind::Record => b"record",
            Kind::Note => b"note",
        };
        self.sealer.hash_parts(&[
            b"sealed",
            kind,
            binding.epoch.as_str().as_bytes(),
            binding.generation,
            &binding.key.encode(),
        ])
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring(<keys redacted>)")
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn half(hash: &RecordHash) -> &Id {
    hash.0.first_chunk().unwrap_or(&[0; ID_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::key;

    fn keyring(prefix: &str) -> Keyring {
        Keyring::new(&RootKey::random().unwrap(), prefix)
    }

    #[test]
    fn keys_of_one_secret_lie_in_one_slot_and_show_no_name() {
        let keyring = keyring("app:");
        let epoch = Epoch::random().unwrap();
        let keys = keyring.server_keys(&epoch, &key("secret-name"));
        let slot = |key: &str| {
            let (_, rest) = key.split_once('{').unwrap();
            rest.split_once('}').unwrap().0.to_owned()
        };
        for other in [&keys.lease, &keys.record, &keys.note] {
            assert_eq!(slot(other), slot(&keys.generation));
            assert!(other.starts_with("app:") && !other.contains("secret"));
        }
        assert_eq!(
            keys.generation,
            keyring.generation_key(&epoch, "secret-name")
        );
    }

    #[test]
    fn another_epoch_generation_kind_or_prefix_opens_nothing() {
        let root = RootKey::random().unwrap();
        let keyring = Keyring::new(&root, "a");
        let (one, two) = (Epoch::random().unwrap(), Epoch::random().unwrap());
        let key = key("a");
        let binding = Binding {
            epoch: &one,
            generation: b"g1",
            key: &key,
            kind: Kind::Record,
        };
        let sealed = keyring.seal(binding, b"header", b"value").unwrap();
        assert!(keyring.open_header(binding, &sealed).is_ok());
        let others = [
            Binding {
                epoch: &two,
                ..binding
            },
            Binding {
                generation: b"g2",
                ..binding
            },
            Binding {
                kind: Kind::Note,
                ..binding
            },
        ];
        for other in others {
            assert_eq!(keyring.open_header(other, &sealed), Err(Damaged));
        }
        let other = Keyring::new(&root, "b");
        assert_eq!(other.open_header(binding, &sealed), Err(Damaged));
        assert_eq!(format!("{keyring:?}"), "Keyring(<keys redacted>)");
    }
}
