//! The project's kernels against the definition computed here: on the virtual GPU with every check on, under all schedules, and on a real GPU where there is one. One file per
//! kernel. `driver` and the counters of `operators` and `int8` are about the virtual GPU itself.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

/// Stamps each body, a function of a reference to what `$vgpu()` and `$cuda()` give, as `vgpu::body` and `cuda::body`; where they give none, the case is skipped aloud.
macro_rules! for_each_gpu {
    ($vgpu:path, $cuda:path; $($body:ident),* $(,)?) => {
        for_each_gpu!(@stamp vgpu $vgpu; $($body)*);
        for_each_gpu!(@stamp cuda $cuda; $($body)*);
    };
    (@stamp $device:ident $open:path; $($body:ident)*) => {
        mod $device {
            $(#[test]
            fn $body() {
                if let Some(on) = $open() {
                    super::$body(&on);
                }
            })*
        }
    };
}

mod cast;
mod copy;
mod device;
mod driver;
mod int8;
mod limits;
mod mask;
mod matmul;
mod operators;
mod residual;
