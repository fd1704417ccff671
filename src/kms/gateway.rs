//! Parts that the clients of KMS and STS share: signing, wire forms, errors, retries, clock skew.

mod credential;
pub(crate) mod error;
pub(crate) mod renewal;
pub(crate) mod retry;
pub(crate) mod sign;
pub(crate) mod skew;
pub(crate) mod wire;

pub(crate) use self::credential::{Credential, Part, QUOTED, UNSENDABLE};
