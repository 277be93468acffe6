//! The driver seam on a machine without a GPU: everything builds, starts and answers errors; nothing panics.

mod common;

use std::process::Command;

use earlybird::driver::nvidia::Nvidia;
use earlybird::driver::{self, codes};

#[test]
fn the_binary_starts_without_cuda() {
    let out = common::earlybird(&["--version"]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
}

#[test]
fn opening_a_gpu_gives_a_device_or_a_clean_error() {
    match Nvidia::open(0) {
        Ok(gpu) => assert!(driver::Driver::props(&gpu).cc >= (5, 0)),
        Err(e) => {
            assert!([codes::NO_LIBRARY, codes::NO_DEVICE, codes::SYMBOL_NOT_FOUND].contains(&e.code), "{e}");
            assert!(format!("{e:?} {e}").contains("cu"), "printing it calls no driver");
            let again = Nvidia::open(7).err().expect("no eighth device here");
            assert_eq!(again.code, e.code, "the second attempt answers the same");
            let error = driver::open("cuda:0").err().expect("no device");
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("cuda:0"), "{error}");
        }
    }
}

#[test]
fn a_device_name_that_means_nothing_is_refused() {
    for name in ["cuda:", "cuda:x", "cuda:-1", "rocm", "", "cuda:0:1"] {
        let error = driver::open(name).err();
        if name == "cuda:" {
            continue; // the same as `cuda`
        }
        assert!(matches!(error, Some(earlybird::Error::BadSetting { .. })), "{name:?}: {error:?}");
    }
}

/// Something else under the library's name must not make cudarc panic. The child process finds such a library first.
#[test]
#[cfg(target_os = "linux")]
fn a_library_without_the_functions_is_an_error() {
    const CHILD: &str = "EARLYBIRD_TEST_FAKE_LIBCUDA";
    if std::env::var_os(CHILD).is_some() {
        let error = Nvidia::open(0).err().expect("a library of another kind was taken for the driver");
        assert_eq!(error.code, codes::SYMBOL_NOT_FOUND, "{error}");
        return;
    }
    // Any shared library will do; the test program itself uses this one.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let Some(library) = maps.lines().filter_map(|l| l.split_whitespace().nth(5)).find(|p| p.contains("libgcc_s.so"))
    else {
        println!("skipped: no libgcc_s.so to pose as libcuda");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(library, folder.path().join("libcuda.so")).unwrap();
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_library_without_the_functions_is_an_error", "--nocapture"])
        .env(CHILD, "1")
        .env("LD_LIBRARY_PATH", folder.path())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
