//! The driver seam over the virtual GPU: streams, events, graphs, handles, errors; and the decorators around it.

use std::sync::Arc;

use earlybird::backend::cuda::fill::fill_u32;
use earlybird::backend::cuda::launch::Kernels;
use earlybird::driver::vgpu::{Vgpu, parse};
use earlybird::driver::{self, DevPtr, Dims, Driver, Fill, Image, StreamId, codes, fault::fault, trace::trace};

use crate::common::have_kernels;
use crate::device::{Gpu, STREAM};

#[test]
fn devices_open_by_name() {
    if !have_kernels("vgpu by name") {
        return;
    }
    for (name, cc) in [("vgpu", (8, 0)), ("vgpu:h100", (9, 0)), ("vgpu:rtx4090,check", (8, 9))] {
        let device = driver::open(name).unwrap();
        assert_eq!(device.props().cc, cc);
        assert_eq!(device.props().clock, driver::Clock::Simulated);
    }
    let error = driver::open("vgpu:v100").err().unwrap();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("vgpu:h100"), "{error}");
}

#[test]
fn a_graph_records_and_replays() {
    if !have_kernels("graph capture") {
        return;
    }
    let gpu = Gpu::checked("converge");
    let stream = gpu.driver.stream_create().unwrap();
    let x = gpu.upload(&[0u32; 64]);
    let y = gpu.upload(&[0u32; 64]);
    gpu.driver.capture_begin(stream).unwrap();
    fill_u32(&gpu.kernels, stream, x, 64, 5).unwrap();
    gpu.driver.copy_dtod(y, x, 256, stream).unwrap();
    let waits = gpu.driver.stream_sync(stream).unwrap_err();
    assert_eq!(waits.code, codes::CAPTURE_UNSUPPORTED);
    let graph = gpu.driver.capture_end(stream).unwrap();
    assert_eq!(gpu.download::<u32>(y, 64), [0; 64], "recording runs nothing");
    gpu.driver.graph_launch(graph, stream).unwrap();
    assert_eq!(gpu.download::<u32>(y, 64), [5; 64]);
    gpu.driver.fill(y, Fill::U32(1), 64, STREAM).unwrap();
    gpu.driver.graph_launch(graph, stream).unwrap();
    assert_eq!(gpu.download::<u32>(y, 64), [5; 64], "and again");
    gpu.driver.graph_destroy(graph).unwrap();
    assert_eq!(gpu.driver.graph_launch(graph, stream).unwrap_err().code, codes::INVALID_HANDLE);
    assert_eq!(gpu.driver.capture_begin(STREAM).unwrap_err().code, codes::CAPTURE_UNSUPPORTED);
}

#[test]
fn events_keep_time_and_foreign_handles_are_refused() {
    let gpu = Vgpu::new(parse("vgpu").unwrap());
    let (a, b) = (gpu.event_create().unwrap(), gpu.event_create().unwrap());
    assert_eq!(gpu.event_elapsed(a, b).unwrap_err().code, codes::INVALID_HANDLE, "never recorded");
    gpu.event_record(a, STREAM).unwrap();
    gpu.event_record(b, STREAM).unwrap();
    assert!(gpu.event_elapsed(a, b).unwrap() >= 0.0);
    assert!(gpu.event_query(a).unwrap());
    gpu.event_destroy(a).unwrap();
    assert_eq!(gpu.event_record(a, STREAM).unwrap_err().code, codes::INVALID_HANDLE);
    assert_eq!(gpu.stream_sync(StreamId(99)).unwrap_err().code, codes::INVALID_HANDLE);
    assert_eq!(gpu.mem_free(DevPtr(16)).unwrap_err().code, codes::INVALID_VALUE);
    let x = gpu.mem_alloc(64).unwrap();
    let error = gpu.mem_free(x.offset(4)).unwrap_err();
    assert!(error.detail.contains("not its start"), "{error}");
    gpu.mem_free(x).unwrap();
    assert!(gpu.mem_free(x).unwrap_err().detail.contains("freed before"));
    assert!(gpu.copy_htod(x, &[0; 4], STREAM).unwrap_err().detail.contains("freed"));
    let (free, total) = gpu.mem_info().unwrap();
    assert_eq!((free, gpu.mem_alloc(total as usize + 1).unwrap_err().code), (total, codes::OUT_OF_MEMORY));
}

#[test]
fn a_bad_module_is_an_error_with_its_line() {
    let gpu = Vgpu::new(parse("vgpu").unwrap());
    let load = |ptx: &str| gpu.module_load(&Image { name: "bad", ptx }).unwrap_err();
    let head = ".version 8.4\n.target sm_80\n.address_size 64\n";
    let error =
        load(&format!("{head}.visible .entry k()\n{{\n  .reg .b32 %r<2>;\n  frobnicate.u32 %r0, %r1;\n  ret;\n}}\n"));
    assert_eq!(error.code, codes::NOT_SUPPORTED);
    assert!(error.detail.contains("line 7") && error.detail.contains("frobnicate"), "{error}");
    let error = load(&format!("{head}.visible .entry k( {{ ret; }}"));
    assert_eq!(error.code, codes::INVALID_PTX);
    assert!(error.detail.contains("line 4"), "{error}");
}

#[test]
fn a_wild_store_breaks_the_device_for_good() {
    if !have_kernels("sticky errors") {
        return;
    }
    let gpu = Gpu::open("vgpu");
    let x = gpu.alloc::<u32>(4);
    let error = fill_u32(&gpu.kernels, STREAM, x, 5, 1).unwrap_err();
    assert_eq!(error.code, codes::ILLEGAL_ADDRESS);
    assert!(error.detail.contains("fill.cu") && error.detail.contains("out-of-bounds"), "{error}");
    let after = gpu.driver.mem_alloc(4).unwrap_err();
    assert_eq!((after.call, after.code), ("cuMemAlloc", codes::ILLEGAL_ADDRESS));
}

#[test]
fn limits_of_the_gpu_are_those_of_the_launch() {
    if !have_kernels("launch limits") {
        return;
    }
    let gpu = Gpu::open("vgpu");
    let x = gpu.alloc::<u32>(4);
    for dims in
        [Dims::linear(0, 256), Dims::linear(1, 1025), Dims::linear(1, 257), Dims::linear(1, 256).with_shared(1 << 20)]
    {
        let error = gpu.kernels.fill_u32(dims, STREAM, x, 4, 1).unwrap_err();
        assert_eq!(error.code, codes::LAUNCH_OUT_OF_RESOURCES, "{dims:?}");
    }
    fill_u32(&gpu.kernels, STREAM, x, 4, 1).unwrap();
    assert_eq!(gpu.download::<u32>(x, 4), [1; 4], "a refused launch breaks nothing");
}

#[test]
fn decorators_count_and_fail_calls_of_a_virtual_device() {
    if !have_kernels("decorators") {
        return;
    }
    let traced = Arc::new(trace(Arc::new(Vgpu::new(parse("vgpu").unwrap()))));
    let kernels = Kernels::new(traced.clone()).unwrap();
    let x = traced.mem_alloc(64).unwrap();
    fill_u32(&kernels, STREAM, x, 16, 3).unwrap();
    let counts = traced.observer().counts();
    assert_eq!((counts.launches(), counts.allocations()), (1, 1));
    let broken = Arc::new(fault(traced, Some("cuLaunchKernel"), 2, codes::LAUNCH_FAILED, false));
    let kernels = Kernels::new(broken).unwrap();
    fill_u32(&kernels, STREAM, x, 16, 4).unwrap();
    assert_eq!(fill_u32(&kernels, STREAM, x, 16, 5).unwrap_err().code, codes::LAUNCH_FAILED);
    fill_u32(&kernels, STREAM, x, 16, 6).unwrap();
}
