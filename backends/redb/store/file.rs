//! The store's file: creating, opening, inspecting and replacing it, and its transactions.

mod create;
pub(crate) mod disk;
mod inspect;
mod location;
pub(crate) mod medium;
mod open;
mod overlay;
mod quarantine;

pub(crate) use self::inspect::{
    Inspection, check_distinct, inspect, read_last_scope, share_a_folder,
};
pub(crate) use self::location::{FileId, StoreLocation, key_mismatch_message};
pub(crate) use self::medium::FileSystem;
pub(crate) use self::open::{Keys, OpenFailure, Opened, kind_of};
