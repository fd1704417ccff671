//! Warnings that are logged once a process.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Whether `warning` was not passed to this function before. Files are judged at each look; the log needs each
/// warning once.
pub fn is_new_warning(warning: &str) -> bool {
    TOLD.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(warning.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_new_once() {
        assert!(is_new_warning("a warning of this test"));
        assert!(!is_new_warning("a warning of this test"));
        assert!(is_new_warning("another warning of this test"));
    }
}
