//! The fetcher against the emulator, which checks signatures with code of its own.
#![expect(clippy::expect_used, reason = "a test that cannot go on panics")]

mod agent;
mod batch;
mod call;
mod data_key;
mod identity;
