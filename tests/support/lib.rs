//! Doubles and harness of the agent's tests: a manual clock, scripted sources, a faulty backend.

mod clock;
mod faulty;
mod scripted;

pub use clock::ManualClock;
pub use faulty::FaultyBackend;
pub use scripted::{ScriptedSource, answer, secret_ref, throttled};
