//! The signature nonces that were used.

use std::collections::{HashSet, VecDeque};

/// How many are remembered. The gateway remembers them for a quarter of an hour; a count is as good for an
/// emulator and has a bound.
const REMEMBERED: usize = 65_536;

/// Used nonces.
#[derive(Debug, Default)]
pub(crate) struct Nonces {
    used: HashSet<String>,
    order: VecDeque<String>,
}

impl Nonces {
    /// Notes a nonce; false when it was used before.
    pub(crate) fn take(&mut self, nonce: &str) -> bool {
        if !self.used.insert(nonce.to_owned()) {
            return false;
        }
        self.order.push_back(nonce.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.used.remove(&oldest);
        }
        true
    }
}
