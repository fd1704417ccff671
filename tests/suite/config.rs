//! Configuration: environment variables, warnings, reload.

mod reload;
mod variable;
mod warning;
