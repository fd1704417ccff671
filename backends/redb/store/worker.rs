//! The store's two threads: one that owns the database, one that reads from it.

pub(crate) mod reader;
mod salvage;
pub(crate) mod writer;
