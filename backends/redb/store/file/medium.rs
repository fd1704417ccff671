//! Medium of the store's file: a port, so that tests can make it fail.

use std::fmt::Debug;
use std::fs::File;
use std::io;

use redb::StorageBackend;
use redb::backends::FileBackend;

/// Gives access to a file.
pub(crate) trait Medium: Debug + Send + Sync {
    /// Takes a file that was opened for reading and writing.
    fn open(&self, file: File) -> io::Result<Box<dyn StorageBackend>>;
}

/// The file system.
#[derive(Debug)]
pub(crate) struct FileSystem;

impl Medium for FileSystem {
    fn open(&self, file: File) -> io::Result<Box<dyn StorageBackend>> {
        let file = FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Box::new(file))
    }
}
