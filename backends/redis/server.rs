//! The server that the fleet shares.

mod check;
mod connection;
mod link;
mod script;
mod session;
mod time;
mod trouble;

pub(crate) use self::check::check;
pub(crate) use self::connection::{Connection, Mode, ServerSettings, check_url, is_exposed};
pub(crate) use self::link::{Link, OwnRemoval, Stop};
pub(crate) use self::session::{
    Looked, Session, Shared, Store, keep_ciphertext, replace_ciphertext,
};
pub(crate) use self::trouble::{Trouble, TroubleKind};
