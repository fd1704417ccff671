//! Answers of the metadata service and of credentials URIs: credentials are complete or absent, and only a
//! valid region becomes part of a host name.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| kms_agent_kms::fuzzing::metadata_answer(body));
