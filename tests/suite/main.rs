//! Tests of the real binary by HTTP, command line, files and signals, against the emulator.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics"
)]

mod client;
mod command;
mod config;
mod credential;
mod docs;
mod guard;
mod harness;
mod operate;
#[cfg(target_os = "linux")]
mod process;
mod project;
mod read;
mod store;
mod upstream;
