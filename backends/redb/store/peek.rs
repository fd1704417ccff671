//! A look into a store that may be somebody else's at the moment, and stays as it is.

use std::fs::File;
use std::path::Path;

use kms_agent_core::Resumed;

use super::disk::Disk;
use super::medium::{FileSystem, Medium};
use super::place::resumed;
use crate::key::RootKey;
use crate::seal::Sealer;

/// What the process that last used the store at `path` left, or leaves at the moment. Whatever is in the way of
/// that is nobody's matter here.
pub(crate) fn peek(path: &Path, key: &RootKey) -> Option<Resumed> {
    let sealer = Sealer::new(key);
    let file = FileSystem.open(File::open(path).ok()?).ok()?;
    let record = Disk::peek(file, &sealer).ok().flatten()?;
    resumed(&record, &sealer)
}
