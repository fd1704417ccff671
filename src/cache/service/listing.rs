//! The entries held, as operators see them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use kms_agent_core::backend::ScanItem;
use kms_agent_core::secret::{Scope, SecretRef};

use super::SecretService;

/// The most entries that a list has.
const MOST_ENTRIES: usize = 1000;

/// Number of entries looked at before other tasks have their turn.
pub(super) const SCAN_PAGE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(127);

/// The first entries by name.
#[derive(Debug, Default)]
pub struct Listing {
    /// The entries, by the id as asked and the version.
    pub items: Vec<ScanItem>,
    /// Whether there are more.
    pub truncated: bool,
}

impl SecretService {
    /// The entries held, the first thousand by name, without their values. They are listed once for all callers
    /// that ask meanwhile.
    pub async fn listing(&self) -> Arc<Listing> {
        self.listing.join(|| self.list()).await
    }

    async fn list(&self) -> Listing {
        let mut first: BTreeMap<(SecretRef, Arc<Scope>), ScanItem> = BTreeMap::new();
        let mut truncated = false;
        let mut from = None;
        // A page that cannot be read ends the list: the store is in trouble, and its state says so.
        while let Ok(page) = self.backend.scan(from, SCAN_PAGE).await {
            for item in page.items {
                let is_beyond = first.len() == MOST_ENTRIES
                    && first
                        .last_key_value()
                        .is_some_and(|((last, _), _)| *last < item.key.secret);
                if is_beyond {
                    truncated = true;
                    continue;
                }
                let key = (item.key.secret.clone(), Arc::clone(&item.key.scope));
                first.insert(key, item);
                if first.len() > MOST_ENTRIES {
                    first.pop_last();
                    truncated = true;
                }
            }
            from = page.next;
            if from.is_none() {
                break;
            }
            tokio::task::yield_now().await;
        }
        Listing {
            items: first.into_values().collect(),
            truncated,
        }
    }
}
