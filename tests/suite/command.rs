//! Commands of the program other than `agent`.

mod check;
mod cli;
mod dev;
mod exec;
