//! Token file: the token and nothing else, since clients put its bytes directly into a header.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::SystemTime;

use kms_agent_trust::{
    DistrustReason, ExistingFile, FilePlace, Kind, Verdict, folder_of, judge_folder_of,
};
use zeroize::Zeroizing;

use crate::platform;

/// Size limit of a token file.
const MAX_BYTES: u64 = 4096;

/// Access for the owner only.
const DEFAULT_MODE: u32 = 0o600;

/// Prefix of the name of a temporary token file.
const UNPLACED: &str = ".kmstoken-";

/// Read by every user of the machine.
pub(crate) const READABLE_FOR_OTHERS: u32 = 0o004;

/// Written by every user of the machine.
pub(crate) const WRITABLE_FOR_OTHERS: u32 = 0o002;

/// Access to a token file. `None` keeps the value of the replaced file; a new file has mode 0600 and belongs to the
/// process that writes it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Access {
    pub(crate) mode: Option<u32>,
    pub(crate) owner: Option<u32>,
    pub(crate) group: Option<u32>,
}

/// A token file that was read.
pub(crate) struct Look {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) id: TokenFileId,
    pub(crate) stamp: FileStamp,
    /// Warning for the operator about the file.
    pub(crate) warning: Option<String>,
}

/// Identity of a file, which differs from that of a file that replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenFileId {
    number: (u64, u64),
    /// Needed because the numbers of removed files are reused.
    made_at: Option<SystemTime>,
}

/// Changes when a file is written in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp {
    bytes: u64,
    written_at: Option<SystemTime>,
}

impl TokenFileId {
    fn of(metadata: &Metadata) -> Self {
        Self {
            number: platform::identity(metadata),
            made_at: metadata.created().ok(),
        }
    }
}

impl FileStamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            written_at: metadata.modified().ok(),
        }
    }
}

/// Reason why a token file cannot be used.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// It cannot be read or created, or is not a small regular file.
    Failed(io::Error),
    /// Others may write it, or a folder above it.
    Untrusted(DistrustReason),
}

impl Unusable {
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Failed(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Untrusted(refusal) => refusal.fmt(f),
        }
    }
}

/// Reads the file at `path` and follows links, as a client does. Anything but a regular file of at most 4 KiB is an
/// error.
pub(crate) fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let opened = kms_agent_trust::open(path, Kind::Token)?;
    read_small(opened.file).map(|(bytes, _)| bytes)
}

/// Reads the file as the agent does. Its content grants access, so other users must not be able to write it.
pub(crate) fn look(path: &Path) -> Result<Look, Unusable> {
    let opened = kms_agent_trust::open(path, Kind::Token)?;
    let (bytes, metadata) = read_small(opened.file)?;
    let warning = match opened.verdict {
        Verdict::Refused(refusal) => return Err(Unusable::Untrusted(refusal)),
        Verdict::Warned(warning) => Some(warning),
        Verdict::Trusted => None,
    };
    Ok(Look {
        bytes,
        id: TokenFileId::of(&metadata),
        stamp: FileStamp::of(&metadata),
        warning,
    })
}

fn read_small(file: File) -> io::Result<(Zeroizing<Vec<u8>>, Metadata)> {
    let metadata = file.metadata()?;
    let refuse = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if !metadata.is_file() {
        return refuse("it is not a regular file");
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(MAX_BYTES).unwrap_or(0) + 1,
    ));
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return refuse("it has more than 4096 bytes");
    }
    Ok((bytes, metadata))
}

/// Creates the file at `path` with `token`, or keeps an existing one. Readers see the whole token or no file.
pub(crate) fn create(path: &Path, token: &str) -> Result<(), Unusable> {
    let place = FilePlace::find(path)?;
    if let Verdict::Refused(refusal) = place.verdict() {
        return Err(Unusable::Untrusted(refusal));
    }
    let (mut file, made) = place.make_beside(UNPLACED)?;
    let placed = file
        .write_all(token.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| place.put_new(&made));
    if let Err(error) = placed {
        let _ = place.remove(&made);
        if error.kind() != io::ErrorKind::AlreadyExists {
            return Err(error.into());
        }
    }
    Ok(())
}

/// Whether [`create`] has a folder to write in.
pub(crate) fn may_be_made(path: &Path) -> Result<(), Unusable> {
    if let Verdict::Refused(refusal) = judge_folder_of(path)? {
        return Err(Unusable::Untrusted(refusal));
    }
    Ok(platform::may_make_files(folder_of(path))?)
}

/// Writes `token` to the file at `path`, which replaces an existing one: under a temporary name beside it, which is
/// then renamed. A mount point, and a file in a folder that may not be written, is overwritten in place. Returns notes
/// for the operator.
pub(crate) fn replace(path: &Path, token: &str, access: Access) -> io::Result<Vec<String>> {
    let place = FilePlace::find(path)?;
    let existing = place.existing()?;
    if existing.is_some_and(|existing| !existing.is_file) {
        // It is a device, a pipe or a socket that others need.
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the existing file is not a regular one",
        ));
    }
    let mut notes = Vec::new();
    let kept = existing.filter(|existing| {
        if existing.is_planted {
            notes.push(format!(
                "owner and mode of {} are not kept, since the user {} may have put it there",
                path.display(),
                existing.user
            ));
        }
        !existing.is_planted
    });
    let mode = mode(path, access, kept, &mut notes);
    let renamed = rename_over(&place, token, access, kept, mode);
    if let Err(error) = renamed {
        if existing.is_none() {
            return Err(error);
        }
        let placed = overwrite(&place, token, access, mode).or_else(|_| match kept {
            // Only root can keep the owner.
            Some(_) => {
                rename_over(&place, token, access, None, mode)?;
                notes.push(format!("the owner of {} could not be kept", path.display()));
                Ok(())
            }
            None => Err(io::ErrorKind::PermissionDenied.into()),
        });
        placed.map_err(|_: io::Error| error)?;
    }
    Ok(notes)
}

fn mode(path: &Path, access: Access, kept: Option<ExistingFile>, notes: &mut Vec<String>) -> u32 {
    let mut mode = access
        .mode
        .or(kept.map(|kept| kept.mode & 0o777))
        .unwrap_or(DEFAULT_MODE);
    if mode & WRITABLE_FOR_OTHERS != 0 {
        mode &= !WRITABLE_FOR_OTHERS;
        notes.push(format!(
            "{} was writable for others; it no longer is",
            path.display()
        ));
    }
    if mode & READABLE_FOR_OTHERS != 0 {
        notes.push(format!(
            "mode {mode:04o} lets every user of this machine read {}, and with it every secret",
            path.display()
        ));
    }
    mode
}

fn rename_over(
    place: &FilePlace,
    token: &str,
    access: Access,
    kept: Option<ExistingFile>,
    mode: u32,
) -> io::Result<()> {
    let (mut file, unplaced) = place.make_beside(UNPLACED)?;
    let kept = kept.filter(|_| cfg!(unix));
    let owner = access.owner.or(kept.map(|kept| kept.user));
    let group = access.group.or(kept.map(|kept| kept.group));
    let placed = file
        .write_all(token.as_bytes())
        // The owner changes before the permissions widen.
        .and_then(|()| platform::grant(&file, mode, owner, group))
        .and_then(|()| file.sync_all())
        .and_then(|()| place.put(&unplaced));
    if placed.is_err() {
        let _ = place.remove(&unplaced);
    }
    placed
}

fn overwrite(place: &FilePlace, token: &str, access: Access, mode: u32) -> io::Result<()> {
    let mut file = place.open_existing()?;
    let metadata = file.metadata()?;
    if access.owner.is_some() || access.group.is_some() || !platform::has_mode(&metadata, mode) {
        platform::grant(&file, mode, access.owner, access.group)?;
    }
    file.set_len(0)?;
    file.write_all(token.as_bytes())?;
    file.sync_all()
}

#[cfg(all(test, unix))]
mod tests;
