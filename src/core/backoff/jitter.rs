//! Randomness that spreads work out. It guards nothing.

use std::time::Duration;

/// A number in `[0, 1)`.
fn fraction() -> f64 {
    // The 53 high bits are what a double holds exactly.
    let bits = getrandom::u64().unwrap_or(1 << 63) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

/// A duration in `[0, limit)`.
pub fn up_to(limit: Duration) -> Duration {
    limit.mul_f64(fraction())
}
