//! Key, record format, AES-256-GCM sealing and the bounded map of sealed records, shared by the backends that store
//! encrypted records.
//!
//! The only I/O in here is the key file. A backend keeps sealed records where it likes; a sealed record cannot be read
//! without the key.

#[cfg(fuzzing)]
pub mod fuzzing;
pub mod key;
pub mod map;
pub mod private;
pub mod record;
pub mod seal;
