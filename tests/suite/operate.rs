//! Operation: status and purge, readiness, metrics, log, systemd, troubleshooting.

mod files;
pub(crate) mod log;
mod logrotate;
mod observe;
mod operator_api;
mod readiness;
mod systemd;
mod trouble;
