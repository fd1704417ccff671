//! Callers: how the agent knows them, and which secrets each may use.
//!
//! A caller is known by a token or by the credentials of its end of the Unix socket. [`Access`] holds the rules and
//! makes a caller of a request; `decide` is the only function that allows a caller to use a secret.

mod access;
mod client;
mod peer;
pub mod token;

pub use self::access::{Access, AccessRules};
pub(crate) use self::access::{Allowed, Caller};
pub use self::client::{Client, ClientSettings};
pub(crate) use self::client::{MAX_PATTERNS, PATTERNS, parse_pattern};
pub use self::peer::{GroupLookup, Peer, PeerUser, UnmappedIds};

#[cfg(test)]
mod tests;
