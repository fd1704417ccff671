//! Doubles and fixtures of the agent's tests: a manual clock, a scripted source, a faulty backend, and the real
//! binary with an HTTP client.

mod agent;
mod clock;
mod dice;
mod faulty;
pub mod http;
mod scripted;

pub use agent::{Setup, TOKEN, TestAgent};
pub use clock::ManualClock;
pub use dice::{Dice, times};
pub use faulty::FaultyBackend;
pub use scripted::{ScriptedSource, answer, secret_ref, throttled};
