//! Answers of KMS: no bytes make the decoder panic, and it keeps the answer unchanged.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (status, body) = input;
    kms_agent_kms::fuzzing::kms_answer(status, body);
});
