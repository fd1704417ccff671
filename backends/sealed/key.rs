//! Root key of sealed records, and the file that holds it.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use hkdf::Hkdf;
use kms_agent_trust::{FilePlace, Kind};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::private::{self, Distrust};

/// Size of a key file, which holds only the key.
const KEY_BYTES: usize = 32;

/// Variable that systemd sets for a unit with `LoadCredential=` or the like.
const CREDENTIALS_FOLDER: &str = "CREDENTIALS_DIRECTORY";

/// Root of all keys of one store.
pub struct RootKey(Zeroizing<[u8; KEY_BYTES]>);

impl RootKey {
    /// Draws a random key.
    pub fn random() -> io::Result<Self> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *bytes).map_err(io::Error::other)?;
        Ok(Self(bytes))
    }

    /// Takes over bytes that another service drew.
    pub fn from_bytes(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self(bytes)
    }

    /// Key of a use that `context` names, from which this one cannot be computed.
    #[must_use]
    pub fn derived(&self, context: &[&[u8]]) -> Self {
        let keys = Hkdf::<Sha256>::new(None, &*self.0);
        // Lengths keep two contexts apart whose parts end to end are the same bytes.
        let lengths: Vec<[u8; 8]> = context
            .iter()
            .map(|part| (part.len() as u64).to_le_bytes())
            .collect();
        let mut info: Vec<&[u8]> = vec![b"alibabacloud-kms-agent derived key "];
        for (length, part) in lengths.iter().zip(context) {
            info.extend([&length[..], part]);
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        #[expect(
            clippy::expect_used,
            reason = "HKDF refuses more than 255 hashes, and a key is one"
        )]
        keys.expand_multi_info(&info, &mut *key)
            .expect("a key is short");
        Self(key)
    }

    /// Returns a key that is not secret.
    #[cfg(fuzzing)]
    pub(crate) fn fixed() -> Self {
        Self(Zeroizing::new([7; KEY_BYTES]))
    }

    /// Reveals the bytes of the key.
    pub(crate) fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(<redacted>)")
    }
}

/// Source of the key, from `KeyFile`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// File of the agent.
    File(PathBuf),
    /// File that the service manager provides. It is never written, and its mode is not checked.
    Credential(String),
}

/// Reason that the key cannot be used.
#[derive(Debug)]
pub enum KeyError {
    /// The file does not exist.
    Missing(String),
    /// This user cannot read the file, or not at the moment.
    Unreadable(String),
    /// The file does not hold a key.
    Invalid(String),
    /// Other users may read or write the file.
    Exposed(String),
}

impl KeySource {
    /// Reads the config value: a path, or `credential:NAME`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("credential:") {
            None if text.is_empty() || text.ends_with('/') || text.contains('\0') => {
                Err("must name a file".to_owned())
            }
            None => Ok(Self::File(PathBuf::from(text))),
            Some("" | "." | "..") => {
                Err("must name a credential, as in credential:NAME".to_owned())
            }
            Some(name) if name.contains(['/', '\0']) => {
                Err("must name a credential, which has no slash in it".to_owned())
            }
            Some(name) => Ok(Self::Credential(name.to_owned())),
        }
    }

    /// The same source with its path in full, so that an operator finds the file that messages name.
    #[must_use]
    pub fn in_full(&self) -> Self {
        match self {
            Self::File(path) => Self::File(private::in_full(path)),
            Self::Credential(name) => Self::Credential(name.clone()),
        }
    }

    /// Path of the key. `None`: the service manager provides no credentials.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Credential(name) => {
                std::env::var_os(CREDENTIALS_FOLDER).map(|folder| Path::new(&folder).join(name))
            }
        }
    }

    /// Reads the key.
    pub fn load(&self) -> Result<RootKey, KeyError> {
        match self {
            Self::File(path) => read(path, true).map_err(|error| match error {
                KeyError::Missing(message) => KeyError::Missing(format!(
                    "{message}; put it back, or remove the store to create a new one"
                )),
                other => other,
            }),
            Self::Credential(name) => {
                let path = self.path().ok_or_else(|| {
                    KeyError::Missing(format!(
                        "the credential {name} cannot be looked up: {CREDENTIALS_FOLDER} is not set; \
                         add LoadCredential={name}:/path/to/key to the unit"
                    ))
                })?;
                read(&path, false)
            }
        }
    }

    /// Path of the key with links followed. `None`: the key is a credential, which the agent cannot write.
    pub fn target(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(fs::canonicalize(path).unwrap_or_else(|_| path.clone())),
            Self::Credential(_) => None,
        }
    }

    /// Returns whether the agent can write the key.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Creates the folder of a new key, and refuses a folder that other users may write.
    pub fn prepare_folder(&self) -> Result<(), KeyError> {
        let Self::File(path) = self else {
            return Ok(());
        };
        // A failure shows again when the key is created.
        let _ = private::make_folder(path);
        private::heed(private::judge_folder("key", path)).map_err(KeyError::from)
    }

    /// Writes `key` durably where the file does not exist yet, never over another key.
    pub fn make(&self, key: &RootKey) -> io::Result<()> {
        // A key that appeared meanwhile is not replaced.
        self.write(key, FilePlace::put_new)
    }

    /// Replaces the key by `key`, durably and atomically.
    pub fn replace(&self, key: &RootKey) -> io::Result<()> {
        self.write(key, FilePlace::put)
    }

    /// Removes the files that a killed process left beside the key file: a copy of the key, or an unused key. Only the
    /// process that has the store open may call this.
    pub fn remove_leftovers(&self) -> io::Result<()> {
        let Some(path) = self.target() else {
            return Ok(());
        };
        let prefix = unplaced(&path);
        for entry in fs::read_dir(private::folder(&path))?.flatten() {
            let name = entry.file_name();
            let unique = name.to_str().and_then(|name| name.strip_prefix(&prefix));
            if unique
                .is_some_and(|it| it.len() == 16 && it.bytes().all(|at| at.is_ascii_hexdigit()))
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Writes `key` beside the key file and lets `put` rename it.
    fn write(
        &self,
        key: &RootKey,
        put: impl Fn(&FilePlace, &OsStr) -> io::Result<()>,
    ) -> io::Result<()> {
        let Self::File(path) = self else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        private::make_folder(path)?;
        let place = FilePlace::find(path)?;
        let (mut file, made) = place.make_beside(&unplaced(&place.path()?))?;
        let written = file
            .write_all(key.expose())
            .and_then(|()| file.sync_all())
            .and_then(|()| put(&place, &made));
        if written.is_err() {
            let _ = place.remove(&made);
        }
        written?;
        place.sync()
    }
}

/// Prefix of the names of unfinished key files.
fn unplaced(path: &Path) -> String {
    format!(".{}.", private::name(path))
}

/// Reads a key file. If it `is_judged`, other users may not access it.
fn read(path: &Path, is_judged: bool) -> Result<RootKey, KeyError> {
    let shown = path.display();
    let unreadable = |error: io::Error| {
        KeyError::Unreadable(format!(
            "the key {shown} cannot be read: {error}; let the agent's user read it"
        ))
    };
    let opened = match kms_agent_trust::open(path, Kind::Secret) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KeyError::Missing(format!("the key {shown} does not exist")));
        }
        Err(error) => {
            // The key of another user may be unreadable too; its owner is the worse fault.
            if is_judged && let Err(Distrust::Refused(message)) = private::judge("key", path) {
                return Err(KeyError::Exposed(message));
            }
            return Err(unreadable(error));
        }
        Ok(opened) => opened,
    };
    let mut file = opened.file;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(KeyError::Invalid(format!(
            "the key {shown} is not a file; choose another Cache.Persistent.KeyFile"
        )));
    }
    if is_judged {
        private::heed(private::conclude("key", path, Ok(opened.verdict)))
            .map_err(KeyError::from)?;
    }
    let mut key = RootKey(Zeroizing::new([0; KEY_BYTES]));
    match file.read_exact(&mut *key.0) {
        Ok(()) if metadata.len() == KEY_BYTES as u64 => Ok(key),
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(unreadable(error)),
        _ => Err(KeyError::Invalid(format!(
            "the key {shown} holds {} bytes where a key has {KEY_BYTES}; put the whole key back, or name \
             another one in Cache.Persistent.KeyFile",
            metadata.len()
        ))),
    }
}

impl From<Distrust> for KeyError {
    fn from(distrust: Distrust) -> Self {
        match distrust {
            Distrust::Refused(message) => Self::Exposed(message),
            Distrust::Failed(_) => Self::Unreadable(format!("the key: {distrust}")),
        }
    }
}

impl KeyError {
    /// Describes the fault, the file and the remedy.
    pub fn message(&self) -> &str {
        match self {
            Self::Missing(message)
            | Self::Unreadable(message)
            | Self::Invalid(message)
            | Self::Exposed(message) => message,
        }
    }

    /// Word for metrics and health checks.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Missing(_) => "key_missing",
            Self::Unreadable(_) => "key_unreadable",
            Self::Invalid(_) => "key_invalid",
            Self::Exposed(_) => "key_exposed",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn a_key_file_is_a_path_or_the_name_of_a_credential() {
        assert_eq!(
            KeySource::parse("a/b.key"),
            Ok(KeySource::File("a/b.key".into()))
        );
        assert_eq!(
            KeySource::parse("credential:agent"),
            Ok(KeySource::Credential("agent".into()))
        );
        for bad in ["", "a/", "credential:", "credential:..", "credential:a/b"] {
            assert!(KeySource::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_made_once_for_this_user_alone_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/agent.key");
        let source = KeySource::File(path.clone());
        assert!(matches!(source.load(), Err(KeyError::Missing(_))));

        let key = RootKey::random().unwrap();
        source.make(&key).unwrap();
        assert_eq!(source.load().unwrap().expose(), key.expose());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let kept = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(kept.mode() & 0o777, 0o700);

        let other = RootKey::random().unwrap();
        assert!(source.make(&other).is_err());
        assert_eq!(source.load().unwrap().expose(), key.expose());
        source.replace(&other).unwrap();
        assert_eq!(source.load().unwrap().expose(), other.expose());
        let left = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "no temporary file stays behind");
    }

    #[test]
    fn a_key_of_another_length_is_invalid_and_an_open_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.key");
        let source = KeySource::File(path.clone());
        for length in [0, 31, 33] {
            fs::write(&path, vec![7; length]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let Err(KeyError::Invalid(message)) = source.load() else {
                panic!("a key of {length} bytes was taken");
            };
            assert!(message.contains(&format!("{length} bytes")), "{message}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(source.load(), Err(KeyError::Exposed(_))));
    }

    #[test]
    fn the_mode_of_a_credential_is_not_judged_and_its_absence_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        fs::write(&path, [7; KEY_BYTES]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path, false).is_ok());

        let source = KeySource::Credential("no-such-credential".to_owned());
        let Err(KeyError::Missing(message)) = source.load() else {
            panic!("there is no such credential");
        };
        assert!(message.contains("no-such-credential"), "{message}");
        let refused = source.make(&RootKey::random().unwrap()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn a_pipe_is_not_a_key_and_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.key");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        let refused = KeySource::File(path).load().unwrap_err();
        assert!(matches!(refused, KeyError::Invalid(_)), "{refused:?}");
    }

    #[test]
    fn a_key_behind_a_link_is_replaced_where_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let (link, volume) = (folder.path().join("keys/key"), folder.path().join("volume"));
        for made in [link.parent().unwrap(), &volume] {
            fs::create_dir(made).unwrap();
        }
        let [old, new] = [(); 2].map(|()| RootKey::random().unwrap());
        KeySource::File(volume.join("key")).make(&old).unwrap();
        std::os::unix::fs::symlink(volume.join("key"), &link).unwrap();
        let source = KeySource::File(link.clone());
        source.replace(&new).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(volume.join("key")).unwrap(), new.expose());
        assert_eq!(source.load().unwrap().expose(), new.expose());
    }

    #[test]
    fn debug_shows_nothing_of_a_key() {
        let key = RootKey(Zeroizing::new([0xAB; KEY_BYTES]));
        assert_eq!(format!("{key:?}"), "RootKey(<redacted>)");
    }
}
