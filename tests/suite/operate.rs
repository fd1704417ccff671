//! Operation: status and purge, readiness, metrics, log, systemd, troubleshooting.

pub(crate) mod log;
mod logrotate;
mod observe;
mod operator_api;
mod readiness;
mod systemd;
mod trouble;
