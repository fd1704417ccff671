//! The product as people meet it: the real binary over HTTP, its command line, files and signals, against the
//! emulator.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics"
)]

mod check;
mod cli;
mod clients;
mod cloud;
mod credentials;
mod dev;
mod document;
mod exec;
mod formats;
mod guide;
mod hostile;
mod layering;
mod log;
mod logrotate;
mod main_job;
mod names;
mod namespace;
mod network;
mod observe;
mod openapi;
mod operate;
mod outage;
mod persistent;
#[cfg(target_os = "linux")]
mod port;
#[cfg(target_os = "linux")]
mod process;
mod promises;
mod readiness;
mod reload;
mod sample;
mod sdk;
mod security;
mod silence;
mod supply;
mod systemd;
mod token;
mod trouble;
mod trust;
mod upstream;
mod variable;
mod wiping;
