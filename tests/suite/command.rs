//! Commands of the program other than `agent`.

mod check;
mod cli;
mod dev;
mod exec;
#[cfg(target_os = "linux")]
mod supervise;
