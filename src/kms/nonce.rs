//! Numbers that are used once.

/// 32 hexadecimal digits that are never used again; `None` without randomness.
pub(crate) fn nonce() -> Option<String> {
    let (high, low) = (getrandom::u64().ok()?, getrandom::u64().ok()?);
    Some(format!("{high:016x}{low:016x}"))
}
