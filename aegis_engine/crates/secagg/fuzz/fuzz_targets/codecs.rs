#![no_main]

use bounded as _;

libfuzzer_sys::fuzz_target!(|data: &[u8]| aegis_secagg::fuzzing::codecs(data));
