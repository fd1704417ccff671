//! Random text. Only the seed comes from the operating system, so that later calls cannot fail.

use std::fmt::{self, Write};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A source of unpredictable text.
pub(crate) struct Draw {
    /// Key from the operating system.
    seeded: Hmac<Sha256>,
    drawn: AtomicU64,
}

impl Draw {
    /// Creates a source with a seed from the operating system.
    pub(crate) fn open() -> io::Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let seeded = Hmac::new_from_slice(&seed).map_err(io::Error::other)?;
        Ok(Self {
            seeded,
            drawn: AtomicU64::new(0),
        })
    }

    /// Returns 64 lower-case hex digits.
    pub(crate) fn hex64(&self) -> String {
        let mut mac = self.seeded.clone();
        mac.update(&self.drawn.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        hex(&mac.finalize().into_bytes())
    }

    /// Returns `length` lower-case hex digits, at most 64.
    pub(crate) fn hex(&self, length: usize) -> String {
        let mut text = self.hex64();
        text.truncate(length);
        text
    }

    /// Returns an id in the usual five groups.
    pub(crate) fn request_id(&self) -> String {
        let mut text = self.hex(32);
        for at in [20, 16, 12, 8] {
            text.insert(at, '-');
        }
        text
    }
}

impl fmt::Debug for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draw").finish_non_exhaustive()
    }
}

/// Returns `bytes` in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
