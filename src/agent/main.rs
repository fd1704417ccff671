//! `alibabacloud-kms-agent`: hands applications their Alibaba Cloud KMS secrets over loopback HTTP.

mod backends;
mod cli;
mod client;
mod compose;
mod config;
mod crash;
mod exit;
mod listen;
// What systems do differently, with the same items for each.
#[cfg_attr(unix, path = "platform/unix.rs")]
#[cfg_attr(windows, path = "platform/windows.rs")]
mod platform;
mod port_holder;
mod process;
mod reload;
mod shown;
mod telemetry;
mod token;

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// Overwrites every block of memory as it is freed, whichever library held a secret in it.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    crash::install_hook();
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
