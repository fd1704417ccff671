//! HTTP layer of `alibabacloud-kms-agent`: two loopback listeners, a guard that admits only applications on this
//! machine, and the routes of the API.
//!
//! It knows neither the cache backend nor KMS: it passes a query to [`kms_agent_cache::SecretService`] and writes the
//! answer in the format that the operator has chosen.

mod app;
pub mod caller;
pub mod config;
mod error;
mod format;
mod guard;
mod log;
mod monitor;
mod query;
mod response;
mod routes;
pub mod serve;

use kms_agent_core::member;

pub use self::app::{App, FileCounts, FileReport, FileStatus};
pub use self::caller::token::{self, Token, TokenStore};
pub use self::config::ServerSettings;
pub use self::format::{
    KMS_MEDIA_TYPE, ReadError, ResponseType, SecretBytes, read_error, read_value,
};
pub use self::monitor::HttpMetrics;
pub use self::serve::{BindError, Listeners, serve};
