//! How many kernels the recorded 8-bit step of a whole VGG16 has, batch of 256: all that a device is asked to start for a step.
//!
//! Shapes are the true ones; of each launch the virtual GPU interprets one block, for nothing that is computed matters here.

use std::sync::Arc;

use earlybird::autograd::{Hyper, Int8Options, Precision, Resident, Session, Take};
use earlybird::backend::Backend;
use earlybird::backend::cuda::Cuda;
use earlybird::driver::trace::trace;
use earlybird::driver::vgpu::Vgpu;
use earlybird::measure::step::model;
use earlybird::nn::{ModelOptions, build, init};
use earlybird::ops::augment::Augment;
use earlybird::vgpu::device::Options;
use earlybird::vgpu::prof::arch::A100;

use crate::common::have_kernels;

const BATCH: usize = 256;

#[test]
fn an_8_bit_step_of_vgg16_has_at_most_80_nodes() {
    if !have_kernels("nodes of a recorded step") {
        return;
    }
    let options = || Options { profile: true, sample: Some(1), ..Options::default() };
    let graph = Arc::new(build("vgg16", &ModelOptions::default()).unwrap());
    for (more, most) in
        [(Int8Options::default(), 80), (Int8Options { wgrad16: true, scales_int8: true, ..Default::default() }, 80)]
    {
        let precision = Precision::Int8(more);
        let driver = Arc::new(trace(Arc::new(Vgpu::new(options()))));
        let backend: Arc<dyn Backend> = Arc::new(Cuda::new(driver.clone()).unwrap());
        let mut session =
            Session::with_precision(graph.clone(), backend.clone(), Hyper::default(), precision, 1).unwrap();
        session.load_state(&init(&graph, 1)).unwrap();
        let p = Augment { seed: [1, 2], n: 0, h: 32, w: 32, c: 3, count: 256, order: 0, pad: 4, crop: 1, flip: 1 };
        let (images, labels) = (vec![7; BATCH * 3072], vec![3; BATCH]);
        let resident = Resident::new(&*backend, p, &images, &labels, &[0.5; 3], &[0.25; 3]).unwrap();
        resident.set_order(&*backend, &(0..256).collect::<Vec<u32>>()).unwrap();
        let feed = session.attach(&resident).unwrap();
        let mut step = || {
            driver.observer().reset();
            session.step_from(feed, Take { epoch: 0, first: 0, images: BATCH }, 0.01).unwrap();
            driver.observer().counts()
        };
        step();
        let recorded = step();
        assert_eq!((recorded.of("cuStreamBeginCapture"), recorded.of("cuGraphLaunch")), (1, 1));
        let nodes = recorded.launches();
        println!("{nodes} nodes, {more:?}");
        assert!((70..=most).contains(&nodes), "{nodes} nodes, {more:?}");
        // Whatever else a recording could hold; what is uploaded is the new learning rate, before it.
        let other: Vec<_> =
            recorded.calls.keys().filter(|api| api.contains("Memset") || api.contains("DtoD")).collect();
        assert!(other.is_empty(), "{other:?}");
        assert_eq!(step().launches(), 0);
        // The modelled step has the same launches.
        if more == Int8Options::default() {
            let rows = model(&graph, BATCH, precision, options(), &A100).unwrap();
            assert_eq!(rows.len() as u64, nodes);
            let symbols: Vec<&str> = rows.iter().map(|row| row.symbol.as_str()).collect();
            assert_eq!((symbols[0], symbols[symbols.len() - 1]), ("augment_fwd_f32", "advance_step_u64"));
        }
    }
}
