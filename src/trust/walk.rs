//! The walk along a path, one component at a time, by file descriptor.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, StatVfsMountFlags, fstat, fstatvfs, openat, readlinkat,
    statat,
};
use rustix::io::Errno;

use crate::acl::Acl;
use crate::judge::{self, Facts, Taken};
use crate::{Kind, OpenedFile, Verdict, identity};

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// The way in which folders are opened: to go through, not to list. Landlock lets a confined process do that.
#[cfg(target_os = "linux")]
const THROUGH: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const THROUGH: OFlags = OFlags::RDONLY;

/// Opens the file at `path` for reading and judges it as `kind`. Symbolic links are followed; a pipe is opened
/// without waiting for its other end.
pub fn open(path: &Path, kind: Kind) -> io::Result<OpenedFile> {
    let mut walk = Walk::start(path)?;
    let end = walk.follow()?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let (file, facts, path) = match end {
        WalkEnd::File { name, is_magic } => {
            let no_follow = if is_magic {
                OFlags::empty()
            } else {
                OFlags::NOFOLLOW
            };
            let folder = walk.folder()?;
            let file = openat(&folder.fd, &name, flags | no_follow, Mode::empty())?;
            let path = folder.path.join(&name);
            let facts = facts_of(file.as_fd(), &path)?;
            if is_magic {
                // The file came open from the process that started this one. No folder leads to it.
                let verdict = judge::file(&path, &facts, kind);
                return Ok(opened(file, verdict, path));
            }
            (file, facts, path)
        }
        WalkEnd::Folder => {
            let folder = walk.pop()?;
            let file = openat(&folder.fd, ".", flags, Mode::empty())?;
            (file, folder.facts, folder.path)
        }
    };
    let verdict = walk.verdict(&path, &facts, kind);
    Ok(opened(file, verdict, path))
}

fn opened(file: OwnedFd, verdict: Verdict, path: PathBuf) -> OpenedFile {
    OpenedFile {
        file: file.into(),
        verdict,
        path,
    }
}

/// Judges the file or folder at `path` as `kind`, links followed, without opening it.
pub fn judge(path: &Path, kind: Kind) -> io::Result<Verdict> {
    let mut walk = Walk::start(path)?;
    let (facts, path) = match walk.follow()? {
        WalkEnd::File { name, .. } => {
            let folder = walk.folder()?;
            let path = folder.path.join(&name);
            let stat = statat(&folder.fd, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let facts = Facts {
                acl: Acl::read(&path),
                is_read_only: is_file_read_only(folder, &name),
                ..Facts::of(&stat)
            };
            (facts, path)
        }
        WalkEnd::Folder => {
            let folder = walk.pop()?;
            (folder.facts, folder.path)
        }
    };
    Ok(walk.verdict(&path, &facts, kind))
}

/// Judges the folder that a file of this process at `path` would be made in. The file need not exist.
pub fn judge_folder_of(path: &Path) -> io::Result<Verdict> {
    let mut walk = Walk::start(path)?;
    if matches!(walk.follow()?, WalkEnd::Folder) {
        walk.pop()?;
    }
    Ok(walk.verdict_on_folders(None))
}

/// Whether the file is on a read-only mount; it may be mounted by itself.
fn is_file_read_only(folder: &Folder, name: &OsStr) -> bool {
    let flags = THROUGH | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(&folder.fd, name, flags, Mode::empty())
        .map_or(folder.facts.is_read_only, |file| is_read_only(file.as_fd()))
}

fn is_read_only(file: BorrowedFd<'_>) -> bool {
    fstatvfs(file).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn facts_of(file: BorrowedFd<'_>, path: &Path) -> io::Result<Facts> {
    Ok(Facts {
        is_read_only: is_read_only(file),
        acl: Acl::read(path),
        ..Facts::of(&fstat(file)?)
    })
}

/// End of a path.
pub(crate) enum WalkEnd {
    /// To an entry of the walk's last folder that is not a link, or to nothing.
    File {
        name: OsString,
        /// The kernel alone can follow it: an open file under `/proc/self/fd`.
        is_magic: bool,
    },
    /// To the walk's last folder itself.
    Folder,
}

/// A folder on the way.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) fd: OwnedFd,
    /// Without links.
    pub(crate) path: PathBuf,
    pub(crate) facts: Facts,
}

/// The folders from the root to where the walk is.
#[derive(Debug)]
pub(crate) struct Walk {
    chain: Vec<Folder>,
    pending: VecDeque<OsString>,
    /// Verdicts that a link on the way depends on.
    on_links: Vec<Verdict>,
    links: usize,
    /// Links that a stranger could have planted are an error, since something will be made at the end.
    is_wary: bool,
    /// Missing folders are made with this mode.
    making: Option<u32>,
}

impl Walk {
    /// Begins at the root, or for a relative path in the working directory, whose folders are judged too.
    pub(crate) fn start(path: &Path) -> io::Result<Self> {
        identity::prepare();
        if path.as_os_str().is_empty() {
            return Err(Errno::NOENT.into());
        }
        let mut walk = Self {
            chain: Vec::new(),
            pending: VecDeque::new(),
            on_links: Vec::new(),
            links: 0,
            is_wary: false,
            making: None,
        };
        walk.enter_root()?;
        if !path.is_absolute() {
            walk.enter_working_directory()?;
        }
        walk.push(path);
        Ok(walk)
    }

    /// The same for a path at which something will be made.
    pub(crate) fn start_warily(path: &Path, making: Option<u32>) -> io::Result<Self> {
        Ok(Self {
            is_wary: true,
            making,
            ..Self::start(path)?
        })
    }

    fn enter_root(&mut self) -> io::Result<()> {
        let fd = openat(CWD, "/", folder_flags(), Mode::empty())?;
        self.chain.clear();
        self.add_folder(fd, PathBuf::from("/"))
    }

    fn enter_working_directory(&mut self) -> io::Result<()> {
        self.push(&std::env::current_dir()?);
        while let Some(name) = self.pending.pop_front() {
            if let Err(error) = self.enter(&name) {
                if error.kind() != io::ErrorKind::PermissionDenied {
                    return Err(error);
                }
                // The starter of this process could go through folders that the process cannot go through.
                self.pending.clear();
                self.chain.clear();
                let fd = openat(CWD, ".", folder_flags(), Mode::empty())?;
                return self.add_folder(fd, PathBuf::from("."));
            }
        }
        Ok(())
    }

    /// Puts the components of `path` in front of what is still to be walked.
    fn push(&mut self, path: &Path) {
        let names = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        });
        for name in names.collect::<Vec<_>>().into_iter().rev() {
            self.pending.push_front(name);
        }
    }

    /// Walks to the last component, which need not exist. Links are followed.
    pub(crate) fn follow(&mut self) -> io::Result<WalkEnd> {
        while let Some(name) = self.pending.pop_front() {
            if name == ".." {
                if self.chain.len() > 1 {
                    self.chain.pop();
                } else if self.folder()?.path == Path::new(".") {
                    return Err(Errno::ACCESS.into());
                }
                continue;
            }
            let is_last = self.pending.is_empty();
            let folder = self.folder()?;
            let stat = match statat(&folder.fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) if self.making.is_some() => {
                    self.make(&name)?;
                    continue;
                }
                Err(Errno::NOENT) if is_last => {
                    return Ok(WalkEnd::File {
                        name,
                        is_magic: false,
                    });
                }
                stat => stat?,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink if is_last && is_proc(folder.fd.as_fd()) => {
                    return Ok(WalkEnd::File {
                        name,
                        is_magic: true,
                    });
                }
                FileType::Symlink => self.follow_link(&name, &Facts::of(&stat))?,
                FileType::Directory => self.enter(&name)?,
                _ if is_last => {
                    return Ok(WalkEnd::File {
                        name,
                        is_magic: false,
                    });
                }
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        Ok(WalkEnd::Folder)
    }

    fn follow_link(&mut self, name: &OsStr, link: &Facts) -> io::Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let verdict = self.verdict_on_folders(Some(Taken {
            path: &self.folder()?.path.join(name),
            facts: link,
            is_token: false,
        }));
        if self.is_wary {
            let path = self.folder()?.path.join(name);
            if let Some(why) = judge::not_to_follow(&path, link, &self.folder()?.facts, &verdict) {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
        }
        self.on_links.push(verdict);
        let target: CString = readlinkat(&self.folder()?.fd, name, Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.enter_root()?;
        }
        self.push(&target);
        Ok(())
    }

    /// Goes into the folder `name`, which is not a link.
    pub(crate) fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        let folder = self.folder()?;
        let fd = openat(&folder.fd, name, folder_flags(), Mode::empty())?;
        let path = folder.path.join(name);
        self.add_folder(fd, path)
    }

    fn add_folder(&mut self, fd: OwnedFd, path: PathBuf) -> io::Result<()> {
        let facts = Facts {
            is_mount_point: self.is_mount_point(fd.as_fd())?,
            ..facts_of(fd.as_fd(), &path)?
        };
        self.chain.push(Folder { fd, path, facts });
        Ok(())
    }

    /// Whether something is mounted at `folder`, which is about to be entered.
    fn is_mount_point(&self, folder: BorrowedFd<'_>) -> io::Result<bool> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{StatxAttributes, StatxFlags, statx};

            let root = StatxAttributes::MOUNT_ROOT;
            if let Ok(found) = statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
                && found.stx_attributes_mask.contains(root)
            {
                return Ok(found.stx_attributes.contains(root));
            }
        }
        // Older kernels: another file system begins here.
        let here = fstat(folder)?.st_dev;
        match self.chain.last() {
            Some(above) => Ok(fstat(&above.fd)?.st_dev != here),
            None => Ok(true),
        }
    }

    /// Makes the folder `name` and goes into it.
    fn make(&mut self, name: &OsStr) -> io::Result<()> {
        let mode = mode(self.making.unwrap_or(0o700));
        match rustix::fs::mkdirat(&self.folder()?.fd, name, mode) {
            Ok(()) | Err(Errno::EXIST) => self.enter(name),
            Err(error) => Err(error.into()),
        }
    }

    /// The folder where the walk is.
    pub(crate) fn folder(&self) -> io::Result<&Folder> {
        self.chain.last().ok_or_else(|| Errno::NOENT.into())
    }

    /// Goes up one folder.
    pub(crate) fn pop(&mut self) -> io::Result<Folder> {
        self.chain.pop().ok_or_else(|| Errno::NOENT.into())
    }

    /// The verdict on everything that led here and on the file at the end.
    fn verdict(&self, path: &Path, file: &Facts, kind: Kind) -> Verdict {
        let own = judge::file(path, file, kind);
        if own.refusal().is_some() {
            return own;
        }
        let taken = Taken {
            path,
            facts: file,
            is_token: kind == Kind::Token,
        };
        worse(own, self.verdict_on_folders(Some(taken)))
    }

    /// The verdict on the folders and links, of which the last folder gives `taken`.
    pub(crate) fn verdict_on_folders(&self, taken: Option<Taken<'_>>) -> Verdict {
        let mut verdict = Verdict::Trusted;
        let mut below = taken;
        for folder in self.chain.iter().rev() {
            let on = judge::folder(&folder.path, &folder.facts, below);
            verdict = worse(verdict, on.verdict);
            if on.ends_walk {
                break;
            }
            below = Some(Taken {
                path: &folder.path,
                facts: &folder.facts,
                is_token: false,
            });
        }
        self.on_links.iter().cloned().fold(verdict, worse)
    }
}

/// `bits` as the system's own type, which is narrower on some systems.
#[cfg_attr(
    target_os = "linux",
    expect(clippy::useless_conversion, reason = "the type is another elsewhere")
)]
pub(crate) fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits.try_into().unwrap_or(0o600))
}

/// The worse of two verdicts; of two alike the first.
fn worse(first: Verdict, second: Verdict) -> Verdict {
    match (&first, &second) {
        (Verdict::Refused(_), _)
        | (_, Verdict::Trusted)
        | (Verdict::Warned(_), Verdict::Warned(_)) => first,
        _ => second,
    }
}

fn folder_flags() -> OFlags {
    THROUGH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Whether `folder` is on procfs, whose links lead to what no path names.
fn is_proc(folder: BorrowedFd<'_>) -> bool {
    #[cfg(target_os = "linux")]
    {
        rustix::fs::fstatfs(folder)
            .is_ok_and(|found| u64::try_from(found.f_type) == Ok(PROC_SUPER_MAGIC))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = folder;
        false
    }
}

#[cfg(target_os = "linux")]
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
