//! Judgement of one file, folder or link: who may change it.

use std::path::Path;

use rustix::fs::{FileType, Stat};
use rustix::process::geteuid;

use crate::acl::Acl;
use crate::identity::{Owner, is_own_group};
use crate::{DistrustReason, Kind, Verdict};

const STICKY: u32 = 0o1000;
const READ: u16 = 4;
const WRITE: u16 = 2;

/// Facts about a file, folder or link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) mode: u32,
    pub(crate) is_link: bool,
    /// It lies on a read-only mount.
    pub(crate) is_read_only: bool,
    /// It is where something is mounted.
    pub(crate) is_mount_point: bool,
    pub(crate) acl: Option<Acl>,
}

/// The strangers that have a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strangers {
    Everybody,
    Group(u32),
    Acl,
}

impl Facts {
    /// Facts from `stat` alone.
    #[cfg_attr(
        target_os = "linux",
        expect(clippy::useless_conversion, reason = "the type is another elsewhere")
    )]
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            user: stat.st_uid,
            group: stat.st_gid,
            mode: u32::from(stat.st_mode),
            is_link: FileType::from_raw_mode(stat.st_mode) == FileType::Symlink,
            is_read_only: false,
            is_mount_point: false,
            acl: None,
        }
    }

    fn owner(&self) -> Owner {
        Owner::of(self.user)
    }

    fn is_device(&self) -> bool {
        const TYPE: u32 = 0o170_000;
        const CHARACTER_DEVICE: u32 = 0o020_000;
        self.mode & TYPE == CHARACTER_DEVICE
    }

    /// The strangers that have `right`, one bit of three.
    fn strangers(&self, right: u16) -> Option<Strangers> {
        let has = |shift: u32| (self.mode >> shift) & u32::from(right) != 0;
        let group = self.acl.map_or(has(3), |acl| acl.group & right != 0);
        if has(0) {
            Some(Strangers::Everybody)
        } else if group && !is_own_group(self.group) {
            Some(Strangers::Group(self.group))
        } else if self.acl.is_some_and(|acl| acl.strangers & right != 0) {
            Some(Strangers::Acl)
        } else {
            None
        }
    }

    fn writers(&self) -> Option<Strangers> {
        if self.is_read_only {
            return None;
        }
        self.strangers(WRITE)
    }
}

/// The entry of a folder that the path goes on with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken<'a> {
    pub(crate) path: &'a Path,
    pub(crate) facts: &'a Facts,
    /// Its maker knows the content, so it must not become a secret of another user.
    pub(crate) is_token: bool,
}

impl Taken<'_> {
    /// The command that takes it from a stranger.
    fn command(self) -> String {
        if self.is_token || self.facts.is_link {
            format!("rm {}", quoted(self.path))
        } else {
            chown(self.path)
        }
    }
}

/// The verdict on a folder that the path goes through, and how far it goes.
#[derive(Debug)]
pub(crate) struct OnFolder {
    pub(crate) verdict: Verdict,
    /// The folders above do not matter.
    pub(crate) ends_walk: bool,
}

/// Judges the folder at `path`, from which the walk takes `taken`, or a file that this process will make.
pub(crate) fn folder(path: &Path, folder: &Facts, taken: Option<Taken<'_>>) -> OnFolder {
    let mut ends_walk = false;
    let verdict = match (folder.owner(), folder.writers()) {
        _ if folder.is_read_only => Verdict::Trusted,
        (Owner::Stranger(user), _) => refuse(
            format!("the folder {} belongs to the user {user}", path.display()),
            chown(path),
        ),
        (owner, None) => owner_verdict("folder", path, owner),
        (owner, Some(_)) if folder.mode & STICKY != 0 => match taken {
            Some(taken) if taken.facts.owner() != Owner::Own => refuse(
                format!(
                    "the folder {} is writable for others, and {} in it belongs to the user {}",
                    path.display(),
                    taken.path.display(),
                    taken.facts.user
                ),
                taken.command(),
            ),
            _ => owner_verdict("folder", path, owner),
        },
        (_, Some(_)) if is_open_mount(folder) => {
            ends_walk = true;
            match taken {
                Some(taken) if taken.facts.is_link && taken.facts.owner() != Owner::Own => refuse(
                    format!(
                        "the folder {} is writable for others, and the link {} in it belongs to the user {}",
                        path.display(),
                        taken.path.display(),
                        taken.facts.user
                    ),
                    taken.command(),
                ),
                _ => Verdict::Warned(format!(
                    "the volume {} is writable for everyone who can reach it; let only the agent mount it writable",
                    path.display()
                )),
            }
        }
        (_, Some(writers)) => writable("folder", path, writers),
    };
    OnFolder { verdict, ends_walk }
}

/// Reason to make nothing behind the link at `path`, which lies in `folder`: a stranger could have planted it.
/// `verdict` is that on the folders that lead to it.
pub(crate) fn not_to_follow(
    path: &Path,
    link: &Facts,
    folder: &Facts,
    verdict: &Verdict,
) -> Option<String> {
    let shown = path.display();
    if let Some(refusal) = verdict.refusal() {
        return Some(format!(
            "the link {shown} is not followed, since others could have planted it: {}",
            refusal.reason
        ));
    }
    match link.owner() {
        Owner::Stranger(user) if !folder.is_read_only => Some(format!(
            "the link {shown} is not followed, since it belongs to the user {user}"
        )),
        _ => None,
    }
}

/// Whether `file` in `folder` may be there because a stranger put it there to be taken for a file of this process.
pub(crate) fn is_planted(folder: &Facts, file: &Facts) -> bool {
    folder.writers().is_some()
        && !is_open_mount(folder)
        && file.owner() != Owner::Own
        && file.user != folder.user
}

/// Whether the folder is a volume that is open to all, as root made it.
fn is_open_mount(folder: &Facts) -> bool {
    folder.is_mount_point && folder.user == 0 && folder.mode & 0o002 != 0
}

/// Judges the file at `path` by itself.
pub(crate) fn file(path: &Path, file: &Facts, kind: Kind) -> Verdict {
    let owner = file.owner();
    // What is written to a device such as /dev/null is not what is read from it, and its mode is the system's.
    if kind != Kind::Secret && file.is_device() {
        return Verdict::Trusted;
    }
    if let Some(writers) = file.writers() {
        return match kind {
            Kind::Secret => exposed(path, writers),
            Kind::Token | Kind::Setting => writable("file", path, writers),
        };
    }
    if kind == Kind::Secret
        && let Some(readers) = file.strangers(READ)
    {
        return exposed(path, readers);
    }
    match owner {
        Owner::Stranger(user) if kind != Kind::Token && !file.is_read_only => refuse(
            format!("the file {} belongs to the user {user}", path.display()),
            chown(path),
        ),
        _ if kind == Kind::Token && file.strangers(READ) == Some(Strangers::Everybody) => {
            Verdict::Warned(format!(
                "every user of this machine may read the token {}, and with it every secret; run `chmod o-rwx {}`",
                path.display(),
                quoted(path)
            ))
        }
        Owner::Unknown if kind == Kind::Token || file.is_read_only => Verdict::Trusted,
        owner => owner_verdict("file", path, owner),
    }
}

fn owner_verdict(what: &str, path: &Path, owner: Owner) -> Verdict {
    match owner {
        Owner::Unknown => Verdict::Warned(format!(
            "the owner of the {what} {} cannot be judged: this user namespace has no number for it",
            path.display()
        )),
        Owner::Own | Owner::Stranger(_) => Verdict::Trusted,
    }
}

fn writable(what: &str, path: &Path, writers: Strangers) -> Verdict {
    let shown = path.display();
    let word = quoted(path);
    match writers {
        Strangers::Everybody => refuse(
            format!("the {what} {shown} is writable for others"),
            format!("chmod o-w {word}"),
        ),
        Strangers::Group(group) => refuse(
            format!(
                "the {what} {shown} is writable for the group {group}, which this process is not a member of"
            ),
            format!("chmod g-w {word}"),
        ),
        Strangers::Acl => refuse(
            format!("the {what} {shown} is writable for others by its ACL"),
            format!("setfacl -b {word}"),
        ),
    }
}

fn exposed(path: &Path, to: Strangers) -> Verdict {
    let shown = path.display();
    let word = quoted(path);
    match to {
        Strangers::Everybody => refuse(
            format!("the file {shown} is accessible to others"),
            format!("chmod 600 {word}"),
        ),
        Strangers::Group(group) => refuse(
            format!(
                "the file {shown} is accessible to the group {group}, which this process is not a member of"
            ),
            format!("chmod 600 {word}"),
        ),
        Strangers::Acl => refuse(
            format!("the file {shown} is accessible to others by its ACL"),
            format!("setfacl -b {word}"),
        ),
    }
}

fn chown(path: &Path) -> String {
    match geteuid().as_raw() {
        0 => format!("chown root {}", quoted(path)),
        user => format!("chown {user} {}", quoted(path)),
    }
}

pub(crate) fn refuse(reason: String, command: String) -> Verdict {
    Verdict::Refused(DistrustReason { reason, command })
}

/// The path as a shell takes it for one word.
pub(crate) fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    let is_plain = |at: char| at.is_alphanumeric() || "/._-+,:@%=".contains(at);
    if !path.starts_with('-') && path.chars().all(is_plain) {
        path.into_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
