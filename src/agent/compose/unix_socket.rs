//! The Unix socket at startup. It is never connectable with a wider mode than the configured one, and never takes the
//! place of anything but a stale socket of this user.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use kms_agent_trust::{Verdict, judge_folder_of};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use crate::config::{SocketConfig, UNPLACED};
use crate::exit::Failure;
use crate::platform;
use crate::telemetry;

/// Number of connections that may wait to be accepted, as for TCP.
const BACKLOG: i32 = 1024;

/// No permission for anyone, until the socket has its own mode.
const NO_MODE: Mode = Mode::from_raw_mode(0o777);

/// A listening socket with a name. Dropping it removes the name if it still leads to this socket.
#[derive(Debug)]
pub(super) struct NamedSocket {
    path: PathBuf,
    /// Device and number of the socket.
    id: (u64, u64),
    /// Locked while the agent runs, so that one of two starting agents waits for nothing and fails.
    _lock: File,
    listener: Option<UnixListener>,
}

impl NamedSocket {
    /// Opens the socket of `config`, if there is one.
    pub(super) fn open(config: &SocketConfig) -> Result<Option<Self>, Failure> {
        let Some(path) = &config.path else {
            return Ok(None);
        };
        let shown = path.display();
        match judge_folder_of(path) {
            Ok(Verdict::Refused(reason)) => {
                return Err(Failure::config(format!(
                    "the socket {shown} is not made: {reason}"
                )));
            }
            Ok(Verdict::Trusted | Verdict::Warned(_)) => {}
            Err(error) => return Err(failed(path, "its folder", &error)),
        }
        let lock = lock(path)?;
        clear(path)?;
        let unplaced = temporary(path);
        if fs::symlink_metadata(&unplaced).is_ok_and(|left| is_own_socket(&left)) {
            // The lock shows that the process which made it is gone.
            let _ = fs::remove_file(&unplaced);
        }
        let gid = config.group.as_deref().map(group).transpose()?;
        let made = make(&unplaced, config.mode, gid).and_then(|listener| {
            let made = fs::symlink_metadata(&unplaced)?;
            fs::rename(&unplaced, path)?;
            Ok((listener, platform::identity(&made)))
        });
        match made {
            Ok((listener, id)) => Ok(Some(Self {
                path: path.clone(),
                id,
                _lock: lock,
                listener: Some(listener),
            })),
            Err(error) => {
                // It may not have been made.
                let _ = fs::remove_file(&unplaced);
                Err(failed(path, "it", &error))
            }
        }
    }

    /// Takes the listener; the name stays with this value.
    pub(super) fn take_listener(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }

    /// Logs that the socket is open.
    pub(super) fn log_ready(&self) {
        let path = self.path.display();
        tracing::info!(target: telemetry::READY, "listening on the socket {path}");
    }
}

impl Drop for NamedSocket {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| platform::identity(&found) == self.id);
        if is_ours {
            // A socket that stays is stale, and the next start replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Name of the socket until it has mode, group and queue.
fn temporary(path: &Path) -> PathBuf {
    with_end(path, UNPLACED)
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn group(name: &str) -> Result<u32, Failure> {
    name.parse()
        .ok()
        .or_else(|| platform::group(name))
        .ok_or_else(|| {
            Failure::config(
                "Server.SocketGroup is not known here: there is no such entry in /etc/group; create it, or write its \
                 number",
            )
        })
}

fn lock(path: &Path) -> Result<File, Failure> {
    let name = with_end(path, ".lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0))
        .open(&name)
        .map_err(|error| failed(path, "its lock file", &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(in_use(path)),
        Err(error) => Err(failed(path, "its lock file", &error.into())),
    }
}

fn in_use(path: &Path) -> Failure {
    Failure::failed(format!(
        "the socket {} is in use by another process; stop it or choose another path (Server.SocketPath)",
        path.display()
    ))
}

/// Removes a stale socket of this user. Anything else at `path` is a failure.
fn clear(path: &Path) -> Result<(), Failure> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| failed(path, "what is there", &error))?,
    };
    if !is_own_socket(&found) {
        return Err(Failure::config(format!(
            "{} exists and is not a socket of this user; remove it or choose another path (Server.SocketPath)",
            path.display()
        )));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| failed(path, "the stale socket", &error))
        }
        // A full queue and a mode without permission are signs of a living process, too.
        _ => Err(in_use(path)),
    }
}

fn is_own_socket(found: &fs::Metadata) -> bool {
    found.file_type().is_socket() && found.uid() == platform::own_user()
}

fn make(path: &Path, mode: u32, gid: Option<u32>) -> io::Result<UnixListener> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    let address = SocketAddrUnix::new(path)?;
    // No other thread exists yet.
    let former = rustix::process::umask(NO_MODE);
    let bound = bind(&socket, &address);
    rustix::process::umask(former);
    bound?;
    if gid.is_some() {
        chown(path, None, gid)?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn failed(path: &Path, what: &str, error: &io::Error) -> Failure {
    Failure::of_io(
        format_args!("the socket {}: {what}", path.display()),
        error,
        "Make its folder writable for the agent, and let Server.SocketGroup be a group of the agent",
    )
}
