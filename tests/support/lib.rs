//! Doubles and harness of the agent's tests: a manual clock, scripted sources, a faulty backend, the real
//! binary and a client for it.

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
