//! From `--device` to a backend. `auto` is the first GPU, once it has passed the self-test with this build, else the CPU.

use std::path::Path;
use std::sync::Arc;

use super::warn;
use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::backend::cuda::Cuda;
use crate::driver::{self, Driver};
use crate::selftest::trust;
use crate::{Error, Result};

/// The setting that leaves the choice to [`open`].
pub const AUTO: &str = "auto";

/// Opens the device called `name`. `threads` sizes the CPU's thread pool, once per process.
///
/// # Errors
/// [`Error::BadSetting`] for an unknown name, [`Error::DeviceUnavailable`] for a device that is not here or a build without kernels.
pub fn open(name: &str, threads: Option<usize>) -> Result<Arc<dyn Backend>> {
    if let Some(threads) = threads {
        if !(1..=4096).contains(&threads) {
            let what = format!("{threads} threads are too few or too many");
            return Err(Error::bad_setting("--threads", what, "give 1 to 4096, or leave it out to use all cores"));
        }
        // A pool that exists already (an embedder's) is left as it is.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
    match name.split([':', ',']).next() {
        Some("cpu") if !name.contains([':', ',']) => Ok(Cpu::new()),
        Some(AUTO) if !name.contains([':', ',']) => {
            automatic(driver::first_gpu(), trust::folder().as_deref(), &mut |line| warn(line))
        }
        Some("vgpu" | "cuda") => Ok(Arc::new(Cuda::new(driver::open(name)?)?)),
        _ => Err(Error::bad_setting(
            "--device",
            format!("there is no device `{name}`"),
            "choose auto, cpu, vgpu, vgpu:a100, vgpu:h100, vgpu:rtx4090, cuda or cuda:N",
        )),
    }
}

/// The GPU if it can be trusted, else the CPU; `tell` gets a line about the choice wherever there was one. `folder`: where passed self-tests are remembered.
fn automatic(
    gpu: Result<Option<Arc<dyn Driver>>>,
    folder: Option<&Path>,
    tell: &mut dyn FnMut(String),
) -> Result<Arc<dyn Backend>> {
    let why = match gpu {
        Ok(None) => return Ok(Cpu::new()),
        Ok(Some(driver)) => {
            let device = driver.props().device.clone();
            match trust::trusted(Arc::clone(&driver), folder, tell).map_err(|e| e.to_string()).and_then(|trust| trust) {
                Ok(()) => return Ok(Arc::new(Cuda::new(driver)?)),
                Err(why) => format!(
                    "{device} did not pass its self-test: {why}; `earlybird doctor --device {device}` tells more"
                ),
            }
        }
        Err(error) => error.to_string(),
    };
    tell(format!("--device auto: using the CPU, because {why}"));
    Ok(Cpu::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::observe::{Call, Observed, Observer};
    use crate::driver::vgpu::{Vgpu, parse};
    use crate::driver::{DeviceProps, DriverError, Image, codes, kernels};

    /// A virtual GPU under another driver's name, one module of which may be loaded from other PTX.
    struct Gpu {
        version: &'static str,
        swap: Option<(&'static str, String)>,
    }

    impl Observer for Gpu {
        fn before(&self, _: Call) -> driver::Result<()> {
            Ok(())
        }

        fn props(&self, props: DeviceProps) -> DeviceProps {
            DeviceProps { driver: self.version.into(), device: "cuda:0".into(), ..props }
        }

        fn replacement(&self, image: &Image<'_>) -> Option<String> {
            self.swap.as_ref().filter(|(name, _)| *name == image.name).map(|(_, ptx)| ptx.clone())
        }
    }

    fn gpu(version: &'static str, swap: Option<(&'static str, String)>) -> Result<Option<Arc<dyn Driver>>> {
        let inner = Arc::new(Vgpu::new(parse("vgpu")?));
        Ok(Some(Arc::new(Observed::new(inner, Gpu { version, swap }))))
    }

    /// Name of the backend that was chosen, and what was told.
    fn choose(gpu: Result<Option<Arc<dyn Driver>>>, folder: Option<&Path>) -> (String, String) {
        let mut told = Vec::new();
        let backend = automatic(gpu, folder, &mut |line| told.push(line)).unwrap();
        (backend.name().into(), told.join("\n"))
    }

    #[test]
    fn without_a_gpu_it_is_the_cpu_and_nothing_is_said() {
        assert_eq!(choose(Ok(None), None), ("cpu".into(), String::new()));
    }

    #[test]
    fn a_gpu_that_does_not_open_is_told_and_left() {
        let broken = Error::Driver(DriverError::new("cuInit", codes::INVALID_DEVICE, "broken"));
        let (name, told) = choose(Err(broken), None);
        assert!(name == "cpu" && told.contains("using the CPU") && told.contains("broken"), "{told}");
    }

    #[test]
    fn a_gpu_is_taken_once_it_has_passed_and_the_pass_is_remembered() {
        if kernels::MODULES.is_empty() {
            assert!(std::env::var("REQUIRE_NVRTC").as_deref() != Ok("1"), "no kernels");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("cache");
        let (name, told) = choose(gpu("1", None), Some(&folder));
        assert!(name == "cuda:0" && told.contains("new to this build") && told.contains("kernels passed"), "{told}");
        assert_eq!(choose(gpu("1", None), Some(&folder)), ("cuda:0".into(), String::new()), "remembered");
        let files = || std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        let [file] = &files()[..] else { panic!("{:?}", files()) };

        // Another driver is another device; a wrong kernel, found by the same test, leaves the CPU.
        let module = kernels::module("add").unwrap();
        let wrong = module.ptx.replace("add.f32", "sub.f32").replace("add.rn.f32", "sub.rn.f32");
        assert_ne!(wrong, module.ptx);
        let (name, told) = choose(gpu("2", Some(("add", wrong))), Some(&folder));
        assert_eq!(name, "cpu");
        for words in ["did not pass", "add_fwd_f32", "1 failed", "doctor --device cuda:0"] {
            assert!(told.contains(words), "{words}: {told}");
        }
        assert_eq!(files().len(), 1, "a failure is not remembered as a pass");

        // A damaged record is told, and costs a test; a cache that cannot be written, too.
        std::fs::write(file, "{").unwrap();
        let (name, told) = choose(gpu("1", None), Some(&folder));
        assert!(name == "cuda:0" && told.contains("no record of a passed self-test"), "{told}");
        assert_eq!(choose(gpu("1", None), Some(&folder)).1, "", "written anew");
        let (name, told) = choose(gpu("1", None), Some(&file.join("inside a file")));
        assert!(name == "cuda:0" && told.contains("not remembered"), "{told}");
    }
}
