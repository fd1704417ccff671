//! Secrets as files, for applications that read a file and cannot send a request.
//!
//! [`Files`] keeps each file equal to its secret. [`format`](mod@format) and [`template`] turn values into bytes,
//! [`target`] replaces a file atomically.

pub mod format;
pub mod service;
pub mod settings;
pub mod target;
pub mod template;

pub use format::{Format, RenderError};
pub use service::{FileCounts, FileStatus, Files};
pub use settings::{FileSettings, FileSpec};
pub use target::{Target, TargetError, WriteOutcome};
