//! Answers of STS: no bytes make the decoder panic, and credentials are complete or absent.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| kms_agent_kms::fuzzing::sts_answer(body));
