//! The trainer on both feeds.

use std::sync::Arc;

use earlybird::Error;
use earlybird::autograd::{Int8Options, Precision};
use earlybird::backend::Backend;
use earlybird::backend::cpu::Cpu;
use earlybird::backend::cuda::Cuda;
use earlybird::data::{Augment, Dataset, synthetic};
use earlybird::driver::observe::Observed;
use earlybird::driver::trace::{Counts, Trace, trace};
use earlybird::driver::vgpu::Vgpu;
use earlybird::ops::Metrics;
use earlybird::train::{BatchEvent, BatchOptions, Feed, Position, Schedule, Trainer};
use earlybird::vgpu::device::Options;
use earlybird::vgpu::limits::{A100, Limits};

use crate::common::have_kernels;
use crate::{bits, session};

/// 22 batches of 4 and one of 2.
fn data() -> Arc<Dataset> {
    Arc::new(synthetic(90, 6, 6, 3, 4, 3))
}

fn trainer(backend: &Arc<dyn Backend>, data: &Arc<Dataset>, feed: Feed) -> Trainer {
    trainer_in(backend, data, Precision::F32, feed)
}

fn trainer_in(backend: &Arc<dyn Backend>, data: &Arc<Dataset>, precision: Precision, feed: Feed) -> Trainer {
    let batch = BatchOptions { size: 4, shuffle: true, augment: Augment { pad: 1, crop: true, flip: true }, seed: 7 };
    let schedule = Schedule { lr: 0.05, milestones: vec![1], gamma: 0.1 };
    let mut trainer = Trainer::new(session(backend, precision), data, batch, schedule).unwrap();
    trainer.set_feed(feed);
    trainer
}

/// What a batch told: place, images, sums so far as bits.
type Told = (Position, usize, usize, u64, Metrics);

fn told(event: &BatchEvent) -> Told {
    (event.position, event.batches, event.images, event.metrics.loss_sum.to_bits(), event.metrics)
}

/// Events, sums over test sets, final state.
type Trained = (Vec<Told>, Vec<Metrics>, Vec<(String, Vec<u32>)>);

/// Two epochs, stopped after each number of steps in `stops` and taken up by a new trainer.
fn train(backend: &Arc<dyn Backend>, feed: Feed, stops: &[u64]) -> Trained {
    train_in(backend, Precision::F32, feed, stops)
}

fn train_in(backend: &Arc<dyn Backend>, precision: Precision, feed: Feed, stops: &[u64]) -> Trained {
    let data = data();
    let mut now = trainer_in(backend, &data, precision, feed);
    let (mut events, mut tests) = (Vec::new(), Vec::new());
    for stop in stops.iter().copied().chain([u64::MAX]) {
        now.limit_steps(Some(stop));
        while now.position().epoch < 2 && !now.exhausted() {
            now.advance(usize::MAX, &mut |event| {
                events.push(told(event));
                Ok(())
            })
            .unwrap();
            if now.epoch_done() {
                tests.push(now.evaluate().unwrap());
                now.next_epoch();
            }
        }
        let mut next = trainer_in(backend, &data, precision, feed);
        next.session_mut().load_state(&now.session().state_dict().unwrap()).unwrap();
        next.session_mut().load_momenta(&now.session().momenta().unwrap()).unwrap();
        next.session_mut().set_steps(now.session().steps());
        next.seek(now.position(), now.metrics());
        now = next;
    }
    assert_eq!((now.session().steps(), events.len(), tests.len()), (46, 46, 2));
    let mut state = bits(&now.session().state_dict().unwrap());
    state.extend(bits(&now.session().momenta().unwrap()));
    (events, tests, state)
}

/// A virtual GPU with so much memory, and its driver, which counts.
fn vgpu(memory: u64) -> (Arc<dyn Backend>, Arc<Observed<Trace>>) {
    let options = Options { limits: Limits { memory, ..A100 }, ..Options::default() };
    let driver = Arc::new(trace(Arc::new(Vgpu::new(options))));
    (Arc::new(Cuda::new(driver.clone()).unwrap()), driver)
}

#[test]
fn both_feeds_train_to_the_same_bits_and_tell_the_same_whenever_they_are_stopped() {
    let cpu = Cpu::new();
    let host = train(&cpu, Feed::Host, &[]);
    assert_eq!(train(&cpu, Feed::Device, &[]), host);
    assert_eq!(train(&cpu, Feed::Device, &[1, 9, 23, 30]), host);
    assert_eq!(train(&cpu, Feed::Auto, &[5]), host);
    if !have_kernels("both feeds") {
        return;
    }
    let (gpu, _) = vgpu(1 << 30);
    let host = train(&gpu, Feed::Host, &[]);
    assert_eq!(train(&gpu, Feed::Auto, &[3, 26]), host);
}

/// 8-bit weights are packed before the first step, whoever makes the batch.
#[test]
fn both_feeds_train_to_the_same_bits_in_8_bits() {
    let mut devices = vec![Cpu::new()];
    if have_kernels("both feeds, 8 bits") {
        devices.push(vgpu(1 << 30).0);
    }
    for backend in devices {
        let run = |feed, stops: &[u64]| train_in(&backend, Precision::Int8(Int8Options::default()), feed, stops);
        let host = run(Feed::Host, &[]);
        assert!(host.0.iter().all(|told| told.4.loss().is_finite()));
        assert_eq!(run(Feed::Device, &[9]), host, "{}", backend.name());
    }
}

/// What the driver is asked for by training a whole epoch whose batches have all been seen.
fn epoch(driver: &Observed<Trace>, trainer: &mut Trainer) -> Counts {
    for warm in [true, true, false] {
        driver.observer().reset();
        trainer.advance(22, &mut |_| Ok(())).unwrap();
        if warm {
            trainer.advance(usize::MAX, &mut |_| Ok(())).unwrap();
            trainer.next_epoch();
        }
    }
    driver.observer().counts()
}

#[test]
fn an_epoch_uploads_its_order_and_reads_sums_every_few_steps() {
    if !have_kernels("calls of an epoch") {
        return;
    }
    let data = data();
    let (gpu, driver) = vgpu(1 << 30);
    let counts = epoch(&driver, &mut trainer(&gpu, &data, Feed::Auto));
    // Order and state; 22 steps, their sums 8 at a time, the last of them around the end of the log.
    let calls = ["cuGraphLaunch", "cuMemcpyHtoD", "cuMemcpyDtoH"].map(|call| counts.of(call));
    assert_eq!((calls, counts.launches(), counts.allocations()), ([22, 2, 4], 0, 0), "{counts:?}");
    assert_eq!(counts.bytes["cuMemcpyHtoD"], 90 * 4 + 24);
}

/// A device with little memory takes batches from the host: half of what is free beside the session must do for the images.
#[test]
fn images_that_leave_no_room_stay_with_the_host() {
    if !have_kernels("images without room") {
        return;
    }
    let data = data();
    let (gpu, _) = vgpu(1 << 30);
    let mut roomy = trainer(&gpu, &data, Feed::Auto);
    roomy.advance(1, &mut |_| Ok(())).unwrap();
    let images = 90 * (6 * 6 * 3 + 8) + 3 * 8;
    let used = (1 << 30) - gpu.room().unwrap().unwrap() - images;
    let uploads = |memory: u64| {
        let (gpu, driver) = vgpu(memory);
        let counts = epoch(&driver, &mut trainer(&gpu, &data, Feed::Auto));
        (counts.of("cuMemcpyHtoD"), counts.of("cuGraphLaunch"))
    };
    // What is allocated is rounded up to pages: some on both sides of the limit.
    assert_eq!(uploads(used + 2 * images + (1 << 16)), (2, 22));
    assert_eq!(uploads(used + images + (1 << 12)), (44, 22), "images and labels of each batch");
}

/// The step that is named is the one whose loss is no number, however far the device has gone on; all before are told.
#[test]
fn a_loss_that_is_no_number_is_found_at_its_step() {
    let mut devices = vec![Cpu::new()];
    if have_kernels("a loss that is no number") {
        devices.push(vgpu(1 << 30).0);
    }
    for backend in devices {
        for feed in [Feed::Host, Feed::Device] {
            let mut trainer = trainer(&backend, &data(), feed);
            let mut events = Vec::new();
            let mut note = |event: &BatchEvent| {
                events.push(event.position.batch);
                Ok(())
            };
            trainer.advance(3, &mut note).unwrap();
            // Weights of no use from here on: the fourth loss is no number.
            let mut state = trainer.session().state_dict().unwrap();
            state.get_mut("head.weight").unwrap().data.fill(f32::NAN);
            trainer.session_mut().load_state(&state).unwrap();
            let error = trainer.advance(usize::MAX, &mut note).unwrap_err();
            assert!(matches!(error, Error::NotFinite { step: 4, epoch: 1, .. }), "{}: {error}", backend.name());
            assert_eq!((events, trainer.position().batch), (vec![1, 2, 3], 3));
        }
    }
}

/// Where somebody who is told of batches stops the run, place and weights still belong together.
#[test]
fn a_trainer_that_is_stopped_by_an_error_is_where_its_weights_are() {
    let mut devices = vec![Cpu::new()];
    if have_kernels("a trainer that is stopped") {
        devices.push(vgpu(1 << 30).0);
    }
    for backend in devices {
        let data = data();
        let mut now = trainer(&backend, &data, Feed::Device);
        let mut heard = Vec::new();
        let stopped = now.advance(usize::MAX, &mut |event| {
            heard.push(event.position.batch);
            if heard.len() == 5 { Err(Error::bad_setting("a test", "enough", "go on")) } else { Ok(()) }
        });
        assert_eq!((stopped.unwrap_err().exit_code(), heard), (2, vec![1, 2, 3, 4, 5]));
        assert_eq!(now.position().batch as u64, now.session().steps());
        now.advance(usize::MAX, &mut |_| Ok(())).unwrap();
        let mut whole = trainer(&backend, &data, Feed::Device);
        whole.advance(usize::MAX, &mut |_| Ok(())).unwrap();
        assert_eq!(now.metrics(), whole.metrics());
        assert_eq!(bits(&now.session().state_dict().unwrap()), bits(&whole.session().state_dict().unwrap()));
    }
}
