//! Systems other than Unix, where the access list of a folder says who may do what in it: everything is trusted.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use crate::{ExistingFile, Kind, OpenedFile, Verdict};

/// Opens the file at `path` for reading.
pub fn open(path: &Path, _kind: Kind) -> io::Result<OpenedFile> {
    Ok(OpenedFile {
        file: File::open(path)?,
        verdict: Verdict::Trusted,
        path: path.to_owned(),
    })
}

/// Finds out whether `path` exists.
pub fn judge(path: &Path, _kind: Kind) -> io::Result<Verdict> {
    fs::metadata(path).map(|_| Verdict::Trusted)
}

/// Trusts every folder.
pub fn judge_folder_of(_path: &Path) -> io::Result<Verdict> {
    Ok(Verdict::Trusted)
}

/// Makes the folder `path` and what is missing above it.
pub fn make_folder(path: &Path, _bits: u32) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// A path at which a file is, or will be made.
#[derive(Debug)]
pub struct FilePlace {
    path: PathBuf,
}

impl FilePlace {
    /// Finds the place that `path` leads to.
    pub fn find(path: &Path) -> io::Result<Self> {
        // A link stays a link; what it points to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Self { path })
    }

    /// Finds the place of `path` without following a link at its end.
    pub fn find_unfollowed(path: &Path) -> io::Result<Self> {
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        fs::metadata(crate::folder_of(path))?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// The path without links.
    pub fn path(&self) -> io::Result<PathBuf> {
        Ok(self.path.clone())
    }

    /// Trusts every folder.
    pub fn verdict(&self) -> Verdict {
        Verdict::Trusted
    }

    /// The file that is there.
    pub fn existing(&self) -> io::Result<Option<ExistingFile>> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => Ok(Some(ExistingFile {
                user: 0,
                group: 0,
                mode: 0o600,
                is_file: found?.is_file(),
                is_link: false,
                has_more_names: false,
                is_planted: false,
            })),
        }
    }

    /// Makes a new file beside the place, under a name that begins with `prefix`.
    pub fn make_beside(&self, prefix: &str) -> io::Result<(File, OsString)> {
        let unique = RandomState::new().build_hasher().finish();
        let name = OsString::from(format!("{prefix}{unique:016x}"));
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.beside(&name))?;
        Ok((file, name))
    }

    /// Puts the file `made` into the place, over what is there.
    pub fn put(&self, made: &OsStr) -> io::Result<()> {
        fs::rename(self.beside(made), &self.path)
    }

    /// Puts the file `made` into the place unless something is there, which is an error.
    pub fn put_new(&self, made: &OsStr) -> io::Result<()> {
        fs::hard_link(self.beside(made), &self.path)?;
        self.remove(made)
    }

    /// Removes `made` from the folder.
    pub fn remove(&self, made: &OsStr) -> io::Result<()> {
        fs::remove_file(self.beside(made))
    }

    /// Removes what is there.
    pub fn clear(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    /// Opens the file that is there for reading.
    pub fn open_for_reading(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Names of files beside the place that begin with `prefix`.
    pub fn names_beside(&self, prefix: &str) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(crate::folder_of(&self.path))? {
            let name = entry?.file_name();
            if name.to_string_lossy().starts_with(prefix) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Is not known here, and counts as true.
    pub fn is_in_memory(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Is never so here.
    pub fn is_mount_point(&self) -> bool {
        false
    }

    /// Opens the file that is there for writing, with its content.
    pub fn open_existing(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(&self.path)
    }

    /// Opens the file that is there for appending, or makes one.
    pub fn open_appending(&self, _bits: u32) -> io::Result<File> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)
    }

    /// Does nothing: folders cannot be synced.
    pub fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn beside(&self, name: &OsStr) -> PathBuf {
        self.path.with_file_name(name)
    }
}
