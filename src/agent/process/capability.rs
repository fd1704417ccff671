//! Capabilities: the rights of root, in parts. The agent needs none of them once its port is open.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

const NOTHING: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

/// Gives up every capability of this thread and of later threads. Returns the reason for a failure.
pub(super) fn give_up() -> Result<(), Errno> {
    let held = capabilities(None)?;
    // Systems without ambient capabilities refuse this; the last call below empties the set anyway.
    let _ = clear_ambient_capability_set();
    let bounded = if held.effective.contains(CapabilitySet::SETPCAP) {
        empty_bounding_set()
    } else {
        Ok(())
    };
    // Filters of system calls often forbid the last call to a process that has nothing to give up.
    if held != NOTHING {
        set_capabilities(None, NOTHING)?;
    }
    bounded
}

/// Limits the capabilities of a program that replaces this one. `no_new_privs` does the same for a process that may not
/// do this.
fn empty_bounding_set() -> Result<(), Errno> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The previous one was the last one of this kernel.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
