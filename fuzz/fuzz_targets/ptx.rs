//! `cargo +nightly fuzz run ptx fuzz/corpus/ptx tests/vgpu_ptx/corpus/clang`: any text parses or is refused; what parses prints and parses to the same tree.
#![no_main]

use earlybird::vgpu::ptx::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if let Ok(module) = parse(&text) {
        let printed = module.to_string();
        match parse(&printed) {
            Ok(again) => assert_eq!(again.to_string(), printed),
            Err(e) => panic!("printed text is refused: {e}"),
        }
    }
});
