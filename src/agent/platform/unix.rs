//! Unix functions of the agent.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use listenfd::ListenFd;
use rustix::fs::{Access, AtFlags, CWD, OFlags, accessat};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Variable that names the user's home folder.
pub(crate) const HOME: &str = "HOME";

/// Returns the path in the text after `file://`.
pub(crate) fn path_of_url(text: &str) -> &Path {
    Path::new(text)
}

/// Gives a file that `options` creates the permissions `mode`.
pub(crate) fn made_with(options: &mut OpenOptions, mode: u32) -> &mut OpenOptions {
    options.mode(mode)
}

/// Makes `options` refuse a link, and open a pipe without waiting for its other end.
pub(crate) fn without_links_or_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
}

/// Makes `options` open a pipe without waiting for its other end.
pub(crate) fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(flags(OFlags::NONBLOCK))
}

fn flags(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).unwrap_or(0)
}

/// Returns device and number of a file, which no other file has at the same time.
pub(crate) fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Whether the open file with this metadata has no name any more.
pub(crate) fn is_removed(file: &Metadata) -> bool {
    file.nlink() == 0
}

/// Removes every permission of `file` that is not in `mode`; a file of another user stays as it is.
pub(crate) fn restrict(file: &File, mode: u32) {
    let Ok(found) = file.metadata() else { return };
    let permitted = found.permissions().mode() & 0o7777;
    if permitted & !mode != 0 {
        // This fails for the file of another user, which the operator has chosen.
        let _ = file.set_permissions(Permissions::from_mode(permitted & mode));
    }
}

/// Gives `file` to `owner` and `group`, and then sets `mode`.
pub(crate) fn grant(
    file: &File,
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
) -> io::Result<()> {
    if owner.is_some() || group.is_some() {
        fchown(file, owner, group)?;
    }
    file.set_permissions(Permissions::from_mode(mode))
}

/// Whether the permissions are exactly `mode`.
pub(crate) fn has_mode(metadata: &Metadata, mode: u32) -> bool {
    metadata.mode() & 0o7777 == mode
}

/// Checks whether files can be created in `folder`.
pub(crate) fn may_make_files(folder: &Path) -> io::Result<()> {
    let access = Access::WRITE_OK | Access::EXEC_OK;
    Ok(accessat(CWD, folder, access, AtFlags::EACCESS)?)
}

/// Sockets that a service manager may pass on; the agent has two listeners.
const MAX_INHERITED: u64 = 16;

/// Returns the sockets that the service manager has opened for this process (`LISTEN_FDS`, `sd_listen_fds(3)`). Must be
/// called once, before anything else is opened.
pub(crate) fn inherited_listeners() -> io::Result<Vec<TcpListener>> {
    let is_for_us =
        std::env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
    if !is_for_us {
        return Ok(Vec::new());
    }
    // `ListenFd` creates a list as long as the variable says.
    let is_too_many = |count: String| count.parse().is_ok_and(|count: u64| count > MAX_INHERITED);
    if std::env::var("LISTEN_FDS").is_ok_and(is_too_many) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("LISTEN_FDS promises more than {MAX_INHERITED} sockets"),
        ));
    }
    let mut inherited = ListenFd::from_env();
    (0..inherited.len())
        .filter_map(|index| inherited.take_tcp_listener(index).transpose())
        .collect()
}

/// Returns the number of the user of this process.
pub(crate) fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns the number of the user who owns the file at `path`.
pub(crate) fn owner_of(path: &Path) -> Option<u32> {
    Some(path.metadata().ok()?.uid())
}

/// Returns the name of the user with that number.
pub(crate) fn user_name(uid: u32) -> Option<String> {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten()?;
    Some(user.name)
}

/// Returns the number of the user of that name.
pub(crate) fn user(name: &str) -> Option<u32> {
    let user = nix::unistd::User::from_name(name).ok().flatten()?;
    Some(user.uid.as_raw())
}

/// Returns the number of the group of that name.
pub(crate) fn group(name: &str) -> Option<u32> {
    let group = nix::unistd::Group::from_name(name).ok().flatten()?;
    Some(group.gid.as_raw())
}

/// Returns the groups that the user has beside `gid`, as /etc/group lists them; empty where that cannot be learnt.
pub(crate) fn groups_of(uid: u32, gid: u32) -> Vec<u32> {
    #[cfg(target_os = "linux")]
    if let Some(name) = user_name(uid)
        && let Ok(name) = std::ffi::CString::new(name)
        && let Ok(groups) = nix::unistd::getgrouplist(&name, gid.into())
    {
        return groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
    }
    let _ = (uid, gid);
    Vec::new()
}

/// Whether this process can give its files to the group with that number.
pub(crate) fn is_own_group(gid: u32) -> bool {
    rustix::process::getegid().as_raw() == gid
        || rustix::process::getgroups()
            .is_ok_and(|groups| groups.iter().any(|group| group.as_raw() == gid))
}

/// Returns the width of the terminal on stdout.
pub(crate) fn terminal_columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Returns `bytes` as the value of an environment variable, which can hold anything but zero bytes.
pub(crate) fn env_value(bytes: &[u8]) -> Option<&OsStr> {
    (!bytes.contains(&0)).then(|| OsStr::from_bytes(bytes))
}

/// Replaces this process by `command`. Returns only after a failure.
pub(crate) fn replace_process(command: &mut Command) -> io::Error {
    command.exec()
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(crate) struct Endings {
    terminate: Signal,
    interrupt: Signal,
}

impl Endings {
    /// Starts to listen for the signals.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// SIGHUP, which from now on does not end the process.
#[derive(Debug)]
pub(crate) struct Hangups(Signal);

impl Hangups {
    /// Starts to listen for the signals.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        // The stream of signals never ends.
        self.0.recv().await;
    }
}
