//! `alibabacloud-kms-agent`: hands applications their Alibaba Cloud KMS secrets over loopback HTTP.

mod backends;
mod cli;
mod client;
mod compose;
mod config;
mod exit;
// What systems do differently, with the same items for each.
#[cfg_attr(unix, path = "platform/unix.rs")]
#[cfg_attr(windows, path = "platform/windows.rs")]
mod platform;
mod process;
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
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
