//! Failures to follow secrets, each printed when it begins.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::say;

/// Failures that last, each with the number of requests that it affects.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<BTreeMap<String, usize>>);

impl Complaints {
    /// Replaces the failure of one request by `text`, and prints that if it is new.
    pub(super) fn replace(&self, own: &mut Option<String>, text: String) {
        if own.as_ref() == Some(&text) {
            return;
        }
        let count = {
            let mut lasting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let count = lasting.entry(text.clone()).or_default();
            *count += 1;
            *count
        };
        if count == 1 {
            say(&format!("{text}; retrying"));
        }
        self.withdraw(own.replace(text));
    }

    /// Ends the failure of one request, and prints when none is left.
    pub(super) fn withdraw(&self, own: Option<String>) {
        let Some(text) = own else { return };
        let mut lasting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = lasting.get_mut(&text) {
            *count -= 1;
            if *count == 0 {
                lasting.remove(&text);
            }
        }
        let is_over = lasting.is_empty();
        drop(lasting);
        if is_over {
            say("changes are followed again");
        }
    }
}
