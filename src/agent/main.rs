//! Daemon that serves Alibaba Cloud KMS secrets to local applications over loopback HTTP.
//!
//! This crate is the composition root: command line, configuration, log and process. It is the only one that names the
//! adapters.
//!
//! | crate | responsibility |
//! |---|---|
//! | [`kms_agent_core`] | vocabulary and ports: `CacheBackend`, `SecretSource`, `Clock` |
//! | [`kms_agent_cache`] | the read path: freshness, single-flight, outages, purges |
//! | [`kms_agent_kms`] | a `SecretSource` over HTTPS: signing, credentials, retries |
//! | [`kms_agent_server`] | the HTTP layer: listeners, guard, routes, response formats |
//! | [`kms_agent_trust`] | the rule for files that decide something |
//! | [`kms_agent_emulator`] | KMS, STS and the metadata service on loopback |
//! | `kms_agent_backend_memory`, `kms_agent_backend_redb` | the cache backends |
//!
//! `ARCHITECTURE.md` follows each path through these crates.

mod backends;
mod cli;
mod client;
mod compose;
mod config;
mod exit;
// Differences between systems, with the same items for each.
#[cfg_attr(unix, path = "platform/unix.rs")]
#[cfg_attr(windows, path = "platform/windows.rs")]
mod platform;
mod process;
#[cfg(unix)]
mod supervise;
mod telemetry;
mod terminal;
mod token;

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// Overwrites every block of memory as it is freed, whichever library held a secret in it.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    exit::panic_hook::install();
    match process::stack::check_limit().and_then(|()| cli::run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
