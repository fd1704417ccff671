//! Secrets as files, for applications that read a file and cannot send a request.
//!
//! [`format`](mod@format) and [`template`] turn values into bytes, [`target`] replaces a file atomically.

pub mod format;
pub mod target;
pub mod template;

pub use format::{Format, RenderError};
pub use target::{Target, TargetError, WriteOutcome};
