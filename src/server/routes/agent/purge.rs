//! `POST /agent/purge`

use std::sync::Arc;

use axum::extract::State;
use http::Uri;
use kms_agent_core::{SecretRef, VersionSelector};
use serde::Serialize;

use crate::app::App;
use crate::caller::Caller;
use crate::error::{ApiError, Reject};
use crate::format::ResponseType;
use crate::query::{PurgeOrder, parse_purge};
use crate::response::{self, FullResponse};

#[derive(Serialize)]
struct PurgeCount {
    purged: usize,
}

/// Removes entries. While KMS is failing, all entries are removed only with `force`, since nothing could refill the
/// cache.
pub(crate) async fn purge(State(app): State<Arc<App>>, caller: Caller, uri: Uri) -> FullResponse {
    match carry_out(&app, &caller, uri.query().unwrap_or_default()).await {
        Ok(purged) => response::json(response::encode(&PurgeCount { purged })),
        Err(error) => ResponseType::KMS.error(&error),
    }
}

async fn carry_out(app: &App, caller: &Caller, query: &str) -> Result<usize, ApiError> {
    let result = match parse_purge(query)? {
        PurgeOrder::Secret(id) => {
            let secret = SecretRef {
                id,
                selector: VersionSelector::CURRENT,
            };
            // An entry that is gone may not come back for as long as KMS is failing.
            if caller.is_admin() || app.service.upstream().failing.is_some() {
                app.access.require_admin(caller)?;
            } else {
                app.access.decide(caller, &secret)?;
            }
            app.service.purge(&secret.id).await
        }
        PurgeOrder::All { force } => {
            app.access.require_admin(caller)?;
            if let Some(code) = app.service.upstream().failing.filter(|_| !force) {
                return Err(Reject::InvalidParameter.because(format!(
                    "KMS is failing ({code}), so nothing could be fetched again; add force=true to purge all the same."
                )));
            }
            app.service.purge_all().await
        }
    };
    match result {
        Ok(purged) => Ok(purged),
        Err(_) => Err(Reject::StoreUnavailable.because(store_failed(app).await)),
    }
}

/// Returns the remedy for a purge that the store failed to carry out.
async fn store_failed(app: &App) -> String {
    let stats = app.service.backend_stats().await.ok();
    let trouble = stats.and_then(|stats| stats.store?.trouble);
    match trouble {
        Some(trouble) if trouble.starts_with("key_") => format!(
            "The store is not in use ({trouble}), so its entries cannot be purged, and another try will fail too. Give \
             the agent the store's key and restart it, or stop it and remove the store."
        ),
        Some(trouble) => format!(
            "The store failed ({trouble}), so not everything is purged; the log says why. Try again when it works."
        ),
        None => {
            "The store failed, so not everything is purged; the log says why. Try again.".to_owned()
        }
    }
}
