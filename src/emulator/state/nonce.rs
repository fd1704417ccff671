//! Used signature nonces.

use std::collections::{HashSet, VecDeque};

/// Most nonces that are kept. The gateway keeps them for a quarter of an hour; for an emulator a bounded count is
/// enough.
const REMEMBERED: usize = 65_536;

/// Used nonces.
#[derive(Debug, Default)]
pub(crate) struct Nonces {
    used: HashSet<String>,
    order: VecDeque<String>,
}

impl Nonces {
    /// Records a nonce; returns false if it was used before.
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
