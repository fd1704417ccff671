//! Profile files: no text makes a parser panic, cycles end, and no message repeats a key.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // The first line names the profile.
    let (wanted, rest) = text.split_once('\n').unwrap_or(("", text));
    let wanted = Some(wanted).filter(|name| !name.is_empty());
    kms_agent_kms::fuzzing::profile(rest, wanted);
});
