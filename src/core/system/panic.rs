//! Panics that the agent expects and turns into errors.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// Whether this thread is in a call whose panic becomes an error.
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Calls a library that may panic; the caller turns the payload into an error of its own. The payload may hold
/// anything that the library has seen.
pub fn contained<T>(call: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    let before = IS_CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    IS_CONTAINED.set(before);
    result
}

/// Whether a panic of this thread is expected, for the process's panic hook: the caller reports it.
pub fn is_contained() -> bool {
    IS_CONTAINED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_call_itself_is_contained() {
        assert!(!is_contained());
        assert!(matches!(contained(is_contained), Ok(true)));
        assert!(contained(|| panic!("expected")).is_err());
        assert!(!is_contained());
    }
}
