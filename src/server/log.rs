//! Log lines about requests.

pub(crate) mod access;
pub(crate) mod refusal;
