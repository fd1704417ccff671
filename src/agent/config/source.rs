//! Text of a config file, read at startup and again on SIGHUP.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::platform;

/// Size limit of the file. A full config with a thousand prefetched secrets has a tenth of it.
const MAX_BYTES: u64 = 1 << 20;

/// Time without a change after which a file counts as complete. Editors and `cp` empty a file before they write it.
const SETTLE: Duration = Duration::from_millis(100);

/// Number of reads of a file that keeps changing.
const MAX_READS: u32 = 20;

/// Reason why there is no text.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The system refused.
    Io(io::Error),
    /// The file is not one that can be used.
    Unusable(&'static str),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads `path`, which may be a file, a pipe or standard input.
pub(super) fn read(path: &Path) -> Result<String, Unreadable> {
    for _ in 0..MAX_READS {
        let mut file = File::open(path)?;
        let before = file.metadata()?;
        let bytes = read_all(&mut file)?;
        if !before.is_file() || stamp(&before) == stamp(&file.metadata()?) {
            return text(bytes);
        }
    }
    Err(CHANGING)
}

/// Reads `path` again. A pipe or another file that can be read only once is refused without waiting for it.
pub(super) fn read_again(path: &Path) -> Result<String, Unreadable> {
    read_settled(path, || thread::sleep(SETTLE))
}

fn read_settled(path: &Path, mut wait: impl FnMut()) -> Result<String, Unreadable> {
    // Checked before it is opened, since opening a device may have an effect.
    if !fs::metadata(path)?.is_file() {
        return Err(ONCE);
    }
    for _ in 0..MAX_READS {
        let mut options = OpenOptions::new();
        options.read(true);
        let mut file = platform::without_waiting(&mut options).open(path)?;
        let before = file.metadata()?;
        if !before.is_file() {
            return Err(ONCE);
        }
        let bytes = read_all(&mut file)?;
        wait();
        // By path, since an editor may have replaced the file.
        if stamp(&before) == stamp(&fs::metadata(path)?) {
            return text(bytes);
        }
    }
    Err(CHANGING)
}

const ONCE: Unreadable = Unreadable::Unusable(
    "is not a regular file and can be read only once; restart the agent to read another config",
);

const CHANGING: Unreadable =
    Unreadable::Unusable("changes while it is read; write it to another name and rename it");

fn read_all(file: &mut File) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Unreadable::Unusable("is larger than 1 MiB"));
    }
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> Result<String, Unreadable> {
    String::from_utf8(bytes).map_err(|_| Unreadable::Unusable("is not UTF-8 text"))
}

/// Values that differ between two states of a file.
fn stamp(file: &Metadata) -> ((u64, u64), u64, Option<SystemTime>) {
    (platform::identity(file), file.len(), file.modified().ok())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_being_written_is_read_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "").unwrap();
        let mut lines = 0;
        let text = read_settled(&path, || {
            if lines < 5 {
                lines += 1;
                fs::write(&path, "# line\n".repeat(lines)).unwrap();
            }
        });
        assert_eq!(text.unwrap(), "# line\n".repeat(5));
    }

    #[test]
    fn a_file_that_is_replaced_by_one_of_the_same_size_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (
            folder.path().join("config.toml"),
            folder.path().join("other"),
        );
        fs::write(&path, "old").unwrap();
        fs::write(&other, "new").unwrap();
        let text = read_settled(&path, || {
            let _ = fs::rename(&other, &path);
        });
        assert_eq!(text.unwrap(), "new");
    }

    #[test]
    fn a_file_that_never_stays_as_it_is_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "").unwrap();
        let mut size = 0;
        let result = read_settled(&path, || {
            size += 1;
            fs::write(&path, "#".repeat(size)).unwrap();
        });
        assert!(matches!(result, Err(Unreadable::Unusable(_))));
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        for read in [read, read_again] {
            assert!(matches!(
                read(Path::new("/dev/zero")),
                Err(Unreadable::Unusable(_))
            ));
        }
    }
}
