//! Windows functions of the agent. The access list of its folder decides who may open a file; there are no modes,
//! owners and groups.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::future;
use std::io;
use std::net::TcpListener;
use std::os::windows::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, ctrl_break, ctrl_c, ctrl_close};

/// Variable that names the user's home folder.
pub(crate) const HOME: &str = "USERPROFILE";

/// Returns the path in the text after `file://`: `/C:/token` is `C:/token`.
pub(crate) fn path_of_url(text: &str) -> &Path {
    let drive = text
        .strip_prefix('/')
        .filter(|rest| rest.as_bytes().get(1) == Some(&b':'));
    Path::new(drive.unwrap_or(text))
}

/// Nothing: see above.
pub(crate) fn made_with(options: &mut OpenOptions, _mode: u32) -> &mut OpenOptions {
    options
}

/// Has `options` open a link itself instead of what it leads to; opening a pipe does not wait.
pub(crate) fn without_links_or_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
    options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
}

/// Nothing: opening a pipe does not wait.
pub(crate) fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// The same for all files: a file that is open cannot be replaced.
pub(crate) fn identity(_file: &Metadata) -> (u64, u64) {
    (0, 0)
}

/// Never: a file that is open keeps its name.
pub(crate) fn is_removed(_file: &Metadata) -> bool {
    false
}

/// Nothing: see above.
pub(crate) fn restrict(_file: &File, _mode: u32) {}

/// Refuses to give `file` away; its mode means nothing.
pub(crate) fn grant(
    _file: &File,
    _mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
) -> io::Result<()> {
    if owner.is_some() || group.is_some() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(())
}

/// Yes: modes do not exist.
pub(crate) fn has_mode(_metadata: &Metadata, _mode: u32) -> bool {
    true
}

/// Checks whether `folder` is a folder; only creating a file would tell more.
pub(crate) fn may_make_files(folder: &Path) -> io::Result<()> {
    match fs::metadata(folder)?.is_dir() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    }
}

/// None: no service manager passes sockets.
pub(crate) fn inherited_listeners() -> io::Result<Vec<TcpListener>> {
    Ok(Vec::new())
}

/// Zero: users have no numbers.
pub(crate) fn own_user() -> u32 {
    0
}

/// None: users have no numbers.
pub(crate) fn owner_of(_path: &Path) -> Option<u32> {
    None
}

/// None: users have no numbers.
pub(crate) fn user_name(_uid: u32) -> Option<String> {
    None
}

/// None: users have no numbers.
pub(crate) fn user(_name: &str) -> Option<u32> {
    None
}

/// False: groups have no numbers.
pub(crate) fn is_own_group(_gid: u32) -> bool {
    false
}

/// None: groups have no numbers.
pub(crate) fn groups_of(_uid: u32, _gid: u32) -> Vec<u32> {
    Vec::new()
}

/// Users and groups are numbered on Unix only.
pub(crate) fn group(_name: &str) -> Option<u32> {
    None
}

/// Width of the terminal that stdout is: one that every window has.
#[expect(clippy::unnecessary_wraps, reason = "on Unix it may be unknown")]
pub(crate) fn terminal_columns() -> Option<usize> {
    Some(80)
}

/// Returns `bytes` as the value of an environment variable, which can hold text without zero bytes.
pub(crate) fn env_value(bytes: &[u8]) -> Option<&OsStr> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.contains('\0')).then(|| OsStr::new(text))
}

/// Runs `command` and exits with its code, which is the closest to replacing the process. Returns only after a failure.
#[expect(
    clippy::exit,
    reason = "the command's exit code is that of this process"
)]
pub(crate) fn replace_process(command: &mut Command) -> io::Error {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}

/// Ctrl-C, Ctrl-Break and the end of the console.
#[derive(Debug)]
pub(crate) struct Endings {
    interrupt: CtrlC,
    terminate: CtrlBreak,
    close: CtrlClose,
}

impl Endings {
    /// Starts to listen for the signals.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            terminate: ctrl_break()?,
            close: ctrl_close()?,
        })
    }

    /// Waits for the next event.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.close.recv() => {}
        }
    }
}

/// None: there is no such signal.
#[derive(Debug)]
pub(crate) struct Hangups(());

impl Hangups {
    /// Starts to listen for the signals.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self(()))
    }

    /// Waits forever.
    pub(crate) fn next(&mut self) -> future::Pending<()> {
        future::pending()
    }
}
