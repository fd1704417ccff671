//! The emulator over real HTTP.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod client;
mod control;
mod data_key;
mod fault;
mod life;
mod many;
mod metadata;
mod program;
mod secret;
mod signature;
mod sts;
mod tls;
