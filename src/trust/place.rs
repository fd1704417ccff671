//! Places at which files and folders are made, held by the descriptor of their folder.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags, linkat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::judge::{self, Facts};
use crate::walk::{Walk, WalkEnd, mode};
use crate::{ExistingFile, Verdict, folder_of};

/// Number of attempts to draw a free name.
const ATTEMPTS: u32 = 16;

/// A path at which a file is, or will be made. Links on the way were followed only where no stranger could have
/// planted them, and the folder stays the same whatever happens to its path meanwhile.
#[derive(Debug)]
pub struct FilePlace {
    walk: Walk,
    name: OsString,
}

impl FilePlace {
    /// Finds the place that `path` leads to. A link that a stranger could have planted is an error of the kind
    /// `PermissionDenied`, whose text says why.
    pub fn find(path: &Path) -> io::Result<Self> {
        let mut walk = Walk::start_warily(path, None)?;
        match walk.follow()? {
            WalkEnd::File {
                name,
                is_magic: false,
            } => Ok(Self { walk, name }),
            WalkEnd::File { .. } => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is an open file of a process",
            )),
            WalkEnd::Folder => Err(Errno::ISDIR.into()),
        }
    }

    /// Finds the place of `path` without following a link at its end, which [`put`](Self::put) replaces.
    pub fn find_unfollowed(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(Errno::ISDIR)?.to_owned();
        let mut walk = Walk::start_warily(folder_of(path), None)?;
        match walk.follow()? {
            WalkEnd::Folder => Ok(Self { walk, name }),
            WalkEnd::File { name, .. } => {
                let found = statat(&walk.folder()?.fd, &name, AtFlags::SYMLINK_NOFOLLOW);
                Err(found.err().unwrap_or(Errno::NOTDIR).into())
            }
        }
    }

    /// The path without links.
    pub fn path(&self) -> io::Result<PathBuf> {
        Ok(self.walk.folder()?.path.join(&self.name))
    }

    /// The verdict on the folders for a file of this process.
    pub fn verdict(&self) -> Verdict {
        self.walk.verdict_on_folders(None)
    }

    /// The file that is there.
    pub fn existing(&self) -> io::Result<Option<ExistingFile>> {
        let folder = self.walk.folder()?;
        match statat(&folder.fd, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            stat => {
                let stat = stat?;
                let facts = Facts::of(&stat);
                Ok(Some(ExistingFile {
                    user: facts.user,
                    group: facts.group,
                    mode: facts.mode & 0o7777,
                    is_file: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
                    is_link: facts.is_link,
                    has_more_names: stat.st_nlink > 1,
                    is_planted: judge::is_planted(&folder.facts, &facts),
                }))
            }
        }
    }

    /// Makes a new file of mode 0600 beside the place, under a name that begins with `prefix`.
    pub fn make_beside(&self, prefix: &str) -> io::Result<(File, OsString)> {
        let mut last = Errno::EXIST;
        for _ in 0..ATTEMPTS {
            let unique = RandomState::new().build_hasher().finish();
            let name = OsString::from(format!("{prefix}{unique:016x}"));
            match self.open(&name, OFlags::CREATE | OFlags::EXCL | OFlags::RDWR, 0o600) {
                Ok(file) => return Ok((file, name)),
                Err(Errno::EXIST) => last = Errno::EXIST,
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.into())
    }

    /// Puts the file `made` into the place, over what is there.
    pub fn put(&self, made: &OsStr) -> io::Result<()> {
        let folder = &self.walk.folder()?.fd;
        Ok(renameat(folder, made, folder, &self.name)?)
    }

    /// Puts the file `made` into the place unless something is there, which is an error.
    pub fn put_new(&self, made: &OsStr) -> io::Result<()> {
        let folder = &self.walk.folder()?.fd;
        #[cfg(target_os = "linux")]
        {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(folder, made, folder, &self.name, flags) {
                // Some file systems know no such renaming.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                renamed => return Ok(renamed?),
            }
        }
        linkat(folder, made, folder, &self.name, AtFlags::empty())?;
        self.remove(made)
    }

    /// Removes `made` from the folder.
    pub fn remove(&self, made: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.walk.folder()?.fd, made, AtFlags::empty())?)
    }

    /// Removes what is there, which may be a link.
    pub fn clear(&self) -> io::Result<()> {
        self.remove(&self.name)
    }

    /// Opens the file that is there for reading, unless it is a link. A pipe is not waited for.
    pub fn open_for_reading(&self) -> io::Result<File> {
        Ok(self.open(&self.name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?)
    }

    /// Opens the file that is there for writing, with its content. It must be a regular file of one name.
    pub fn open_existing(&self) -> io::Result<File> {
        let file = self.open(&self.name, OFlags::WRONLY | OFlags::NONBLOCK, 0)?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink > 1 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file of one name",
            ));
        }
        Ok(file)
    }

    /// Opens the file that is there for appending, or makes one with `bits`. A pipe is not waited for.
    pub fn open_appending(&self, bits: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK;
        match self.open(&self.name, flags, 0) {
            Err(Errno::NOENT) => {}
            opened => return Ok(opened?),
        }
        match self.open(&self.name, flags | OFlags::CREATE | OFlags::EXCL, bits) {
            Err(Errno::EXIST) => Ok(self.open(&self.name, flags, 0)?),
            made => Ok(made?),
        }
    }

    /// Makes what happened in the folder survive a power cut.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.open_folder()?)?)
    }

    /// Names of files beside the place that begin with `prefix`.
    pub fn names_beside(&self, prefix: &str) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(self.open_folder()?)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name.starts_with(prefix.as_bytes()) {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// Whether the folder is in memory: on tmpfs or ramfs. Systems other than Linux do not tell, and count as such.
    pub fn is_in_memory(&self) -> io::Result<bool> {
        #[cfg(target_os = "linux")]
        {
            const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
            let found = rustix::fs::fstatfs(&self.walk.folder()?.fd)?;
            #[expect(
                clippy::cast_sign_loss,
                reason = "the type is a number without a sign, in a signed field on some architectures"
            )]
            let kind = found.f_type as u64 & 0xffff_ffff;
            Ok(IN_MEMORY.contains(&kind))
        }
        #[cfg(not(target_os = "linux"))]
        Ok(true)
    }

    /// Whether something is mounted at the place itself, so that no file can be put there.
    pub fn is_mount_point(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{StatxAttributes, StatxFlags, statx};

            if let Ok(folder) = self.walk.folder()
                && let Ok(found) = statx(
                    &folder.fd,
                    &self.name,
                    AtFlags::SYMLINK_NOFOLLOW,
                    StatxFlags::BASIC_STATS,
                )
            {
                return found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
            }
        }
        false
    }

    fn open_folder(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(&self.walk.folder()?.fd, ".", flags, mode(0))?)
    }

    fn open(&self, name: &OsStr, flags: OFlags, bits: u32) -> Result<File, Errno> {
        let folder = self.walk.folder().map_err(|_| Errno::NOENT)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(openat(&folder.fd, name, flags, mode(bits))?.into())
    }
}

/// Makes the folder `path` and what is missing above it, with the permissions `bits`. Links on the way are followed
/// as in [`FilePlace::find`].
pub fn make_folder(path: &Path, bits: u32) -> io::Result<()> {
    match Walk::start_warily(path, Some(bits))?.follow()? {
        WalkEnd::Folder => Ok(()),
        WalkEnd::File { .. } => Err(Errno::NOTDIR.into()),
    }
}
