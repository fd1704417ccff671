//! The token file: the token and nothing else, since clients put its bytes straight into a header.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::platform;

/// The longest token file that is read.
const MAX_BYTES: u64 = 4096;

/// For the owner only.
pub(crate) const DEFAULT_MODE: u32 = 0o600;

/// Who may read a token file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) mode: u32,
    /// The user it belongs to; `None`: whoever writes it.
    pub(crate) owner: Option<u32>,
    /// The group it belongs to; `None`: that of whoever writes it.
    pub(crate) group: Option<u32>,
}

impl Access {
    /// For whoever writes it, and nobody else.
    pub(crate) const PRIVATE: Self = Self {
        mode: DEFAULT_MODE,
        owner: None,
        group: None,
    };

    /// Gives the file away before it lets anybody in.
    fn grant(self, file: &File) -> io::Result<()> {
        platform::grant(file, self.mode, self.owner, self.group)
    }
}

/// The path in `text`: plain, or behind `file://`.
pub(crate) fn parse_path(text: &str) -> &Path {
    match text.strip_prefix("file://") {
        Some(path) => platform::path_of_url(path),
        None => Path::new(text),
    }
}

/// Reads the file behind `path`, links followed. Anything but a regular file of at most 4 KiB is an error.
pub(crate) fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = platform::without_waiting(OpenOptions::new().read(true)).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file",
        ));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(MAX_BYTES).unwrap_or(0) + 1,
    ));
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it has more than 4096 bytes",
        ));
    }
    Ok(bytes)
}

/// Makes the file at `path` with `token` in it, or leaves the one that is there. Readers see the whole token
/// or no file.
pub(crate) fn create(path: &Path, token: &str) -> io::Result<()> {
    match temporary(path, token, Access::PRIVATE)?.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

/// Whether [`create`] has a folder to write in.
pub(crate) fn may_be_made(path: &Path) -> io::Result<()> {
    platform::may_make_files(folder(path))
}

/// Writes `token` to the file at `path` in place of what is there: under a temporary name beside it and then
/// renamed, or, where the file is a mount point or its folder may not be written, in place.
pub(crate) fn replace(path: &Path, token: &str, access: Access) -> io::Result<()> {
    // A link stays a link; what it points to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let renamed = temporary(&path, token, access)
        .and_then(|file| file.persist(&path).map_err(|error| error.error));
    match renamed {
        Ok(_) => Ok(()),
        Err(error) if path.is_file() => overwrite(&path, token, access).map_err(|_| error),
        Err(error) => Err(error),
    }
}

fn temporary(path: &Path, token: &str, access: Access) -> io::Result<NamedTempFile> {
    // For its owner only, until it is granted to others.
    let mut file = tempfile::Builder::new()
        .prefix(".kmstoken-")
        .tempfile_in(folder(path))?;
    file.write_all(token.as_bytes())?;
    access.grant(file.as_file())?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn overwrite(path: &Path, token: &str, access: Access) -> io::Result<()> {
    let mut file = platform::without_links(OpenOptions::new().write(true)).open(path)?;
    access.grant(&file)?;
    file.set_len(0)?;
    file.write_all(token.as_bytes())?;
    file.sync_all()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn an_existing_file_is_never_made_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        create(&path, "first").unwrap();
        create(&path, "second").unwrap();
        assert_eq!(read(&path).unwrap().as_slice(), b"first");
        let access = Access {
            mode: 0o640,
            ..Access::PRIVATE
        };
        replace(&path, "third", access).unwrap();
        assert_eq!(read(&path).unwrap().as_slice(), b"third");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_small_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large");
        fs::write(&large, vec![b'a'; 4097]).unwrap();
        assert_eq!(
            read(&large).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert!(read(folder.path()).is_err());
        let link = folder.path().join("link");
        symlink(&large, &link).unwrap();
        fs::write(&large, "small").unwrap();
        assert_eq!(read(&link).unwrap().as_slice(), b"small");
    }
}
