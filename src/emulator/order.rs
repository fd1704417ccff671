//! Orders to the emulator that make no sense.

use std::fmt;

/// Why an order was not carried out. Names members, never the value of one that may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidOrder(String);

impl InvalidOrder {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for InvalidOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidOrder {}
