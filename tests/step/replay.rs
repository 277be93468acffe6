//! Steps on batches of the host's.

use earlybird::data::noise;
use earlybird::ops::Metrics;

use crate::common::{gpu, gpu_name, have_kernels};
use crate::device::{Counted, bits, session};

/// Batch sizes of the steps: two sizes by turns, a third once, and one that is larger than all before, for which memory grows.
const BATCHES: [usize; 9] = [4, 4, 3, 4, 3, 3, 6, 4, 6];

fn batch(number: usize, size: usize) -> (Vec<f32>, Vec<u32>) {
    let labels = (0..size).map(|i| ((number + i * i) % 4) as u32).collect();
    (noise(size * 192, number as u64), labels)
}

/// Steps on [`BATCHES`] with an evaluation between, all checks on; a new session for each step's series would never record.
fn train(name: &str, record: bool) -> (Vec<(String, Vec<u32>)>, Vec<Metrics>) {
    let device = Counted::open(name);
    let mut now = session(&device.backend);
    let mut log = Vec::new();
    for (number, size) in BATCHES.into_iter().enumerate() {
        let (images, labels) = batch(number, size);
        if !record && number > 0 {
            // The same place in the same training, in a session that has recorded nothing.
            let mut next = session(&device.backend);
            next.load_state(&now.state_dict().unwrap()).unwrap();
            next.load_momenta(&now.momenta().unwrap()).unwrap();
            next.set_steps(now.steps());
            now = next;
        }
        now.step(&images, &labels, if number < 5 { 0.1 } else { 0.01 }).unwrap();
        log.extend(now.take_log().unwrap());
        let before = bits(&now);
        now.evaluate(&images, &labels).unwrap();
        log.push(now.take_metrics().unwrap());
        assert_eq!(bits(&now), before, "an evaluation moves nothing");
    }
    assert_eq!(now.steps(), BATCHES.len() as u64);
    (bits(&now), log)
}

#[test]
fn recorded_steps_are_the_steps_call_by_call_bit_for_bit_under_every_schedule() {
    if !have_kernels("recorded steps") {
        return;
    }
    let (state, log) = train("vgpu,check", false);
    assert!(log.iter().all(|sums| sums.loss_sum.is_finite() && sums.count > 0));
    for name in ["vgpu,check", "vgpu,workers=1", "vgpu,workers=2", "vgpu,schedule=reverse", "vgpu,schedule=random:3"] {
        assert_eq!((&state, &log), (&train(name, true).0, &train(name, true).1), "{name}");
    }
}

#[test]
fn a_recorded_step_is_one_launch_and_uploads_its_batch_only() {
    if have_kernels("calls of a recorded step") {
        one_launch("vgpu");
    }
}

mod cuda {
    use super::*;

    #[test]
    fn recorded_steps_are_the_steps_call_by_call_bit_for_bit() {
        if gpu().is_some() {
            assert_eq!(train(&gpu_name(), false), train(&gpu_name(), true));
        }
    }

    #[test]
    fn a_recorded_step_is_one_launch_and_uploads_its_batch_only() {
        if gpu().is_some() {
            one_launch(&gpu_name());
        }
    }
}

fn one_launch(device: &str) {
    let device = Counted::open(device);
    let mut session = session(&device.backend);
    let (images, labels) = batch(0, 4);
    let batch_bytes = (images.len() + labels.len()) as u64 * 4;
    let mut step = |lr: f32| device.count(|| session.step(&images, &labels, lr).unwrap());
    let first = step(0.1);
    let kernels = first.launches();
    assert!(kernels > 20 && first.of("cuGraphLaunch") == 0, "{first:?}");
    let second = step(0.1);
    assert_eq!((second.launches(), second.of("cuStreamBeginCapture"), second.of("cuGraphLaunch")), (kernels, 1, 1));
    for _ in 0..3 {
        let next = step(0.1);
        assert_eq!((next.launches(), next.of("cuGraphLaunch"), next.allocations()), (0, 1, 0), "{next:?}");
        assert_eq!((next.of("cuMemcpyHtoD"), next.bytes["cuMemcpyHtoD"], next.of("cuMemcpyDtoH")), (2, batch_bytes, 0));
    }
    let changed = step(0.01);
    assert_eq!((changed.of("cuMemcpyHtoD"), changed.bytes["cuMemcpyHtoD"]), (3, batch_bytes + 24), "a new rate");
    let read = device.count(|| assert_eq!(session.take_log().unwrap().len(), 6));
    assert_eq!((read.of("cuMemcpyDtoH"), read.bytes["cuMemcpyDtoH"]), (1, 6 * 32));
}

/// A log that is not read in time loses the steps, not their sums; and one that goes round its end is read in order.
#[test]
fn no_sum_is_lost_where_the_log_is_longer_than_its_place() {
    let steps = earlybird::autograd::Session::LOG + 30;
    let cpu = earlybird::backend::cpu::Cpu::new();
    let (mut every, mut seldom) = (session(&cpu), session(&cpu));
    let mut expected = Vec::new();
    for number in 0..steps {
        let (images, labels) = batch(number, 2);
        every.step(&images, &labels, 0.01).unwrap();
        seldom.step(&images, &labels, 0.01).unwrap();
        expected.extend(every.take_log().unwrap());
    }
    assert_eq!(expected.len(), steps);
    assert_eq!(seldom.take_log().unwrap(), expected[steps - 30..]);
    let rest = seldom.take_metrics().unwrap();
    let mut sums = Metrics::default();
    expected[..steps - 30].iter().for_each(|step| sums.merge(step));
    assert_eq!(rest, sums);
    for number in 0..40 {
        let (images, labels) = batch(number, 2);
        every.step(&images, &labels, 0.01).unwrap();
        seldom.step(&images, &labels, 0.01).unwrap();
        expected.extend(every.take_log().unwrap());
    }
    assert_eq!(seldom.take_log().unwrap(), expected[steps..], "round the end");
    assert_eq!(seldom.take_metrics().unwrap(), Metrics::default());
}
