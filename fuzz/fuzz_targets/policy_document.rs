#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| catenary_fuzz::policy_document(data));
