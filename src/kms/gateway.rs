//! What KMS and STS share as services of the OpenAPI gateway: signing, wire forms, errors, retries, clock skew.

mod credential;
pub(crate) mod error;
pub(crate) mod retry;
pub(crate) mod sign;
pub(crate) mod skew;
pub(crate) mod wire;

pub(crate) use self::credential::{Credential, Part, QUOTED, UNSENDABLE};
