//! Calls to KMS: readers of one key share one, there is a limit on them, and failures and refusals are remembered.

pub(crate) mod call_limit;
pub(crate) mod negative;
pub(crate) mod outage;
pub(crate) mod single_flight;
