//! Identity and secrets of the emulator, kept in the folder of `--persist`. The cache there belongs to the same
//! endpoint and access key.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use kms_agent_emulator::AccessKey;
use kms_agent_trust::Kind;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::platform;

/// Name of the file in the folder.
const FILE: &str = "emulator.json";

/// Versions of one secret that are kept: the current and the previous one.
const VERSIONS: usize = 2;

/// Emulator of the previous run.
pub(super) struct Kept {
    pub(super) port: u16,
    pub(super) access_key: AccessKey,
    /// Oldest first.
    pub(super) versions: Vec<Version>,
}

/// Version of a secret. There is no `Debug`, since it would show the value.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) value: String,
}

/// Contents of the file.
#[derive(Serialize, Deserialize)]
struct Contents {
    port: u16,
    access_key_id: String,
    access_key_secret: String,
    versions: Vec<Version>,
}

/// Creates the folder of `--persist` where it is missing.
pub(super) fn make_folder(folder: &Path) -> Result<(), Failure> {
    let shown = folder.display();
    if folder.exists() && !folder.is_dir() {
        return Err(Failure::usage(format!(
            "--persist {shown}: this is not a folder"
        )));
    }
    kms_agent_trust::make_folder(folder, 0o700)
        .and_then(|()| platform::may_make_files(folder))
        .map_err(|error| Failure::failed(format!("--persist {shown}: {error}")))
}

/// Loads what an earlier run kept in `folder`, if there was one.
pub(super) fn load(folder: &Path) -> Result<Option<Kept>, Failure> {
    let path = folder.join(FILE);
    let bad = |why: &dyn std::fmt::Display| {
        Failure::config(format!(
            "the emulator's file {}: {why}; remove it, or take another folder for --persist",
            path.display()
        ))
    };
    let opened = match kms_agent_trust::open(&path, Kind::Secret) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(|error| bad(&error))?,
    };
    if let Some(refusal) = opened.verdict.refusal() {
        return Err(bad(refusal));
    }
    let metadata = opened.file.metadata().map_err(|error| bad(&error))?;
    if !metadata.is_file() {
        return Err(bad(&"it is not a regular file"));
    }
    let mut file = opened.file;
    let mut bytes = Zeroizing::new(Vec::new());
    file.read_to_end(&mut bytes).map_err(|error| bad(&error))?;
    // The cause is withheld, since it may contain a value.
    let contents: Contents = serde_json::from_slice(&bytes).map_err(|_| bad(&"it is damaged"))?;
    Ok(Some(Kept {
        port: contents.port,
        access_key: AccessKey::new(contents.access_key_id, contents.access_key_secret),
        versions: contents.versions,
    }))
}

/// Keeps them for the next run, for this user alone.
pub(super) fn save(folder: &Path, kept: &Kept) -> Result<(), Failure> {
    let contents = Contents {
        port: kept.port,
        access_key_id: kept.access_key.id().to_owned(),
        access_key_secret: kept.access_key.expose_secret().to_owned(),
        versions: newest(&kept.versions),
    };
    let path: PathBuf = folder.join(FILE);
    let write = || -> io::Result<()> {
        // Mode 0600 from the first byte.
        let mut file = NamedTempFile::new_in(folder)?;
        let bytes = Zeroizing::new(serde_json::to_vec_pretty(&contents)?);
        file.write_all(&bytes)?;
        file.persist(&path)?;
        Ok(())
    };
    write()
        .map_err(|error| Failure::failed(format!("{} cannot be written: {error}", path.display())))
}

/// Returns the newest versions of each secret, in their order.
fn newest(versions: &[Version]) -> Vec<Version> {
    let is_newest = |(index, version): &(usize, &Version)| {
        let newer = versions
            .iter()
            .skip(index + 1)
            .filter(|other| other.name == version.name);
        newer.count() < VERSIONS
    };
    let newest = versions.iter().enumerate().filter(is_newest);
    newest.map(|(_, version)| version.clone()).collect()
}
