#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tcpcopy_fuzz::plugin_redis::run(input));
