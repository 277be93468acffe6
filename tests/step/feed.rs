//! Steps on batches that the device makes: the same bits as steps on the host's batches, and nothing that crosses to the device for them.

use std::sync::Arc;

use earlybird::autograd::{Feed, Resident, Session, Take};
use earlybird::backend::Backend;
use earlybird::data::{Augment as Change, Batch, Dataset, Loader, LoaderOptions, Normalise, synthetic};
use earlybird::ops::Metrics;
use earlybird::ops::augment::Augment;
use earlybird::quant::philox::key;

use crate::common::have_kernels;
use crate::device::{Counted, bits, session};

const CHANGE: Change = Change { pad: 2, crop: true, flip: true };
const SEED: u64 = 11;
/// Images of an epoch: two batches of 4 and one of 3.
const IMAGES: usize = 11;

fn data() -> Arc<Dataset> {
    Arc::new(synthetic(IMAGES, 8, 8, 3, 4, 3))
}

fn loader(data: &Arc<Dataset>) -> Loader {
    let options = LoaderOptions { batch_size: 4, shuffle: true, augment: CHANGE, seed: SEED, prefetch: 1 };
    Loader::train(data, options).unwrap()
}

fn resident(backend: &dyn Backend, data: &Dataset) -> Resident {
    let p = Augment {
        seed: key(Change::key(SEED)),
        n: 0,
        h: 8,
        w: 8,
        c: 3,
        count: IMAGES as u32,
        order: 0,
        pad: 2,
        crop: 1,
        flip: 1,
    };
    let Normalise { mean, std } = &data.normalise;
    Resident::new(backend, p, &data.train.images, &data.train.labels, mean, std).unwrap()
}

fn take(epoch: usize, batch: &Batch) -> Take {
    Take { epoch: epoch as u32, first: 4 * batch.number as u32, images: batch.labels.len() }
}

/// Three epochs with an evaluation and a step on the host's batch in each, and another rate in the last: state and log.
fn train(backend: &Arc<dyn Backend>, fed: bool) -> (Vec<(String, Vec<u32>)>, Vec<Metrics>) {
    let (data, mut now, mut log) = (data(), session(backend), Vec::new());
    let loader = loader(&data);
    let images = resident(&**backend, &data);
    let feed = now.attach(&images).unwrap();
    for epoch in 0..3 {
        let lr = if epoch < 2 { 0.05 } else { 0.01 };
        images.set_order(&**backend, &loader.order(epoch)).unwrap();
        let batches: Vec<Batch> = loader.epoch(epoch, 0..3).map(Result::unwrap).collect();
        for batch in &batches {
            match fed {
                true => now.step_from(feed, take(epoch, batch), lr).unwrap(),
                false => now.step(&batch.images, &batch.labels, lr).unwrap(),
            }
        }
        now.step(&batches[1].images, &batches[1].labels, lr).unwrap();
        log.extend(now.take_log().unwrap());
        for batch in &batches {
            match fed {
                true => now.evaluate_from(feed, take(epoch, batch)).unwrap(),
                false => now.evaluate(&batch.images, &batch.labels).unwrap(),
            }
        }
        log.push(now.take_metrics().unwrap());
    }
    assert_eq!(now.steps(), 12);
    (bits(&now), log)
}

#[test]
fn batches_of_the_device_train_as_the_hosts_bit_for_bit() {
    let cpu = earlybird::backend::cpu::Cpu::new();
    assert_eq!(train(&cpu, true), train(&cpu, false));
    if !have_kernels("batches of the device") {
        return;
    }
    let open = |name: &str| Counted::open(name).backend;
    let (state, log) = train(&open("vgpu,check"), false);
    assert!(log.iter().all(|sums| sums.loss_sum.is_finite() && sums.count > 0));
    for name in ["vgpu,check", "vgpu,workers=2", "vgpu,schedule=reverse"] {
        let fed = train(&open(name), true);
        assert_eq!((&fed.0, &fed.1), (&state, &log), "{name}");
    }
}

#[test]
fn a_step_on_a_batch_of_the_device_is_one_launch_and_no_upload() {
    if !have_kernels("calls of a step on a batch of the device") {
        return;
    }
    let device = Counted::open("vgpu");
    let (mut session, data) = (session(&device.backend), data());
    let images = resident(&*device.backend, &data);
    images.set_order(&*device.backend, &loader(&data).order(0)).unwrap();
    let feed = session.attach(&images).unwrap();
    let step = |session: &mut Session, epoch: u32, number: u32, lr: f32| {
        let take = Take { epoch, first: 4 * number, images: 4 };
        device.count(|| session.step_from(feed, take, lr).unwrap())
    };
    let first = step(&mut session, 0, 0, 0.1);
    let kernels = first.launches();
    assert!(kernels > 20 && first.of("cuMemcpyHtoD") == 1, "the state: {first:?}");
    let second = step(&mut session, 0, 1, 0.1);
    let calls = ["cuMemcpyHtoD", "cuStreamBeginCapture", "cuGraphLaunch"].map(|call| second.of(call));
    assert_eq!((second.launches(), calls), (kernels, [0, 1, 1]));
    // A new epoch and a new rate change the state once; what follows asks for nothing.
    for (epoch, number, lr, uploads) in [(1, 0, 0.1, 1), (1, 1, 0.1, 0), (2, 0, 0.01, 1), (2, 1, 0.01, 0)] {
        let next = step(&mut session, epoch, number, lr);
        assert_eq!((next.launches(), next.of("cuGraphLaunch"), next.allocations()), (0, 1, 0), "{next:?}");
        assert_eq!((next.of("cuMemcpyHtoD"), next.of("cuMemcpyDtoH")), (uploads, 0), "{next:?}");
    }
    let evaluate = |session: &mut Session, number: u32| {
        let take = Take { epoch: 0, first: 4 * number, images: 4 };
        device.count(|| session.evaluate_from(feed, take).unwrap())
    };
    evaluate(&mut session, 0);
    let second = evaluate(&mut session, 1);
    assert_eq!((second.of("cuMemcpyHtoD"), second.of("cuGraphLaunch")), (0, 1), "{second:?}");
}

#[test]
fn images_that_do_not_fit_are_refused() {
    let cpu = earlybird::backend::cpu::Cpu::new();
    let (mut now, data) = (session(&cpu), data());
    let images = resident(&*cpu, &data);
    let feed: Feed = now.attach(&images).unwrap();
    let refused = |result: earlybird::Result<()>| assert_eq!(result.unwrap_err().exit_code(), 2);
    for (first, n) in [(0, 12), (8, 4), (11, 1), (u32::MAX, 1), (0, 0)] {
        refused(now.step_from(feed, Take { epoch: 0, first, images: n }, 0.1));
        refused(now.evaluate_from(feed, Take { epoch: 0, first, images: n }));
    }
    refused(images.set_order(&*cpu, &[0; IMAGES - 1]));
    refused(images.set_order(&*cpu, &[IMAGES as u32; IMAGES]));
    let p = Augment { seed: [0; 2], n: 0, h: 8, w: 8, c: 3, count: 1, order: 0, pad: 0, crop: 0, flip: 0 };
    let make =
        |p: Augment, bytes: usize, label: u32| Resident::new(&*cpu, p, &vec![0; bytes], &[label], &[0.5; 3], &[0.5; 3]);
    refused(make(p, 191, 0).map(|_| ()));
    refused(now.attach(&make(p, 192, 4).unwrap()).map(|_| ())); // the network has 4 classes
    let other = Augment { h: 4, w: 16, ..p };
    refused(now.attach(&make(other, 192, 0).unwrap()).map(|_| ()));
    assert!(now.attach(&make(p, 192, 3).unwrap()).is_ok());
}
