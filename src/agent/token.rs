//! Token of the agent: its generation, its file, and the environment that names it.

pub(crate) mod file;
pub(crate) mod follow;
pub(crate) mod location;
pub(crate) mod source;
mod withdraw;

mod strength;

use std::fmt::Write;

use zeroize::Zeroizing;

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// Generates a token: 32 random bytes in lower-case hex.
pub(crate) fn draw() -> Result<Zeroizing<String>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
    getrandom::fill(&mut *bytes)?;
    let mut text = Zeroizing::new(String::with_capacity(2 * TOKEN_BYTES));
    for byte in *bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
