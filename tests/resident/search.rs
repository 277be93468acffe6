//! Runs whose masks the device draws against runs whose masks the host draws: the same cuts, distances and tickets.

use std::sync::Arc;

use earlybird::Result;
use earlybird::autograd::{Hyper, Precision};
use earlybird::backend::Backend;
use earlybird::backend::cpu::Cpu;
use earlybird::backend::cuda::Cuda;
use earlybird::data::{Augment, synthetic};
use earlybird::driver::vgpu::{Vgpu, parse};
use earlybird::nn::init;
use earlybird::ticket::{
    Criterion, DetectorOptions, DrawReport, Mask, Observer, Quiet, Run, RunOptions, Snapshot, Start, SurgeryOptions,
    Task,
};
use earlybird::train::{BatchOptions, Schedule};

use crate::common::have_kernels;
use crate::network;

/// Ratios that one launch of the kernel can draw, and one more than that.
const RATIOS: [f64; 9] = [0.3, 0.5, 0.7, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9];

fn options(ratios: &[f64], detector: DetectorOptions) -> RunOptions {
    RunOptions {
        task: Task::Search,
        ratios: ratios.to_vec(),
        detector,
        search_epochs: 5,
        epochs: 5,
        schedule: Schedule { lr: 0.2, milestones: vec![3], gamma: 0.1 },
        hyper: Hyper { l1: 1e-2, ..Hyper::default() },
        batch: BatchOptions { size: 8, shuffle: true, augment: Augment::none(), seed: 3 },
        surgery: SurgeryOptions::default(),
        start: Start::Inherit,
        steps: None,
        swa_start: None,
        search_precision: Precision::F32,
        train_precision: Precision::F32,
    }
}

fn run(backend: &Arc<dyn Backend>, options: RunOptions) -> Run {
    let graph = network();
    let state = init(&graph, 5);
    Run::new(options, graph, &state, backend.clone(), Arc::new(synthetic(40, 6, 6, 3, 4, 3))).unwrap()
}

/// Cuts of every draw, for the first ratios.
#[derive(Default)]
struct Cuts(usize, Vec<Vec<(Mask, u32)>>);

impl Observer for Cuts {
    fn draw(&mut self, report: &DrawReport) -> Result<()> {
        let cuts = report.cuts[..self.0].iter().map(|cut| (cut.mask.clone(), cut.threshold.to_bits()));
        self.1.push(cuts.collect());
        Ok(())
    }
}

/// What a search saw of the first ratios: cuts, then (in the order of the ratios) last distances, and epoch, distances and threshold of the ticket.
type Seen = (Vec<Vec<(Mask, u32)>>, Vec<(Vec<f64>, Option<(f64, Vec<f64>, f32)>)>, Vec<Vec<Option<f64>>>);

fn seen(cuts: Cuts, run: &Run) -> Seen {
    let progress = run.progress();
    let watched = progress.watched[..cuts.0].iter().map(|watched| {
        let ticket = watched.ticket.as_ref().map(|t| (t.epoch, t.distances.clone(), t.threshold));
        (watched.last.clone(), ticket)
    });
    let rows = progress.history.iter().map(|row| row.distances[..cuts.0].to_vec());
    (cuts.1, watched.collect(), rows.collect())
}

/// A search to its end, resumed from its state after each of `stops` steps.
fn search(backend: &Arc<dyn Backend>, ratios: &[f64], detector: DetectorOptions, count: usize, stops: &[u64]) -> Seen {
    let mut cuts = Cuts(count, Vec::new());
    let mut now = run(backend, RunOptions { steps: stops.first().copied(), ..options(ratios, detector) });
    for stop in stops.iter().skip(1).copied().map(Some).chain(stops.first().map(|_| None)) {
        now.run(&mut cuts).unwrap();
        let snapshot: Snapshot = now.snapshot().unwrap();
        let tickets = now.tickets().values().cloned().collect();
        let options = RunOptions { steps: stop, ..options(ratios, detector) };
        now = Run::resume(options, snapshot, tickets, None, backend.clone(), now.data().clone()).unwrap();
    }
    now.run(&mut cuts).unwrap();
    seen(cuts, &now)
}

fn devices() -> Vec<Arc<dyn Backend>> {
    let mut all = vec![Cpu::new()];
    if have_kernels("masks of the device") {
        all.push(Arc::new(Cuda::new(Arc::new(Vgpu::new(parse("vgpu").unwrap()))).unwrap()));
    }
    all
}

/// Nine ratios are more than the kernel draws at once: the host draws. Eight of them decide the same when the device draws.
#[test]
fn masks_of_the_device_decide_as_those_of_the_host() {
    for backend in devices() {
        for (criterion, queue, draws_per_epoch) in
            [(Criterion::Consecutive, 3, 2), (Criterion::Window, 3, 1), (Criterion::Consecutive, 2, 1)]
        {
            let detector = DetectorOptions { criterion, eps: 0.12, queue, draws_per_epoch };
            let host = search(&backend, &RATIOS, detector, 8, &[]);
            // The search with fewer ratios may end earlier, when all have their tickets.
            let device = search(&backend, &RATIOS[..8], detector, 8, &[]);
            let draws = device.0.len();
            assert!(draws > queue && device.0 == host.0[..draws], "{}: cuts", backend.name());
            let rows = device.2.len() - 1; // the last may be that of a part of an epoch
            assert_eq!(device.2[..rows], host.2[..rows], "{}: distances", backend.name());
            let tickets = |seen: &Seen| seen.1.iter().map(|(_, ticket)| ticket.clone()).collect::<Vec<_>>();
            assert_eq!(tickets(&device), tickets(&host), "{}: tickets", backend.name());
            assert!(tickets(&device).iter().any(Option::is_some), "{:?}", device.1);
        }
    }
}

/// What the ring holds is stored with the run: a resumed search decides as one that went through, wherever it was stopped.
#[test]
fn a_resumed_search_fills_its_ring_again() {
    for backend in devices() {
        for (criterion, draws_per_epoch) in [(Criterion::Consecutive, 2), (Criterion::Window, 2)] {
            let detector = DetectorOptions { criterion, eps: 0.02, queue: 3, draws_per_epoch };
            let whole = search(&backend, &RATIOS[..3], detector, 3, &[]);
            assert_eq!(search(&backend, &RATIOS[..3], detector, 3, &[4, 7, 16]), whole, "{}", backend.name());
        }
    }
}

/// More earlier masks than the kernel compares with: the host draws, to the same cuts.
#[test]
fn more_than_the_kernel_can_do_is_the_hosts_work() {
    let cpu: Arc<dyn Backend> = Cpu::new();
    let deep = DetectorOptions { criterion: Criterion::Window, eps: 0.001, queue: 40, draws_per_epoch: 1 };
    let shallow = DetectorOptions { queue: 4, ..deep };
    let (deep, shallow) = (search(&cpu, &RATIOS[..2], deep, 2, &[]), search(&cpu, &RATIOS[..2], shallow, 2, &[]));
    assert_eq!(deep.0[..shallow.0.len()], shallow.0[..]);
    assert!(deep.1[0].0.len() > 3, "it compares with all that it has: {:?}", deep.1);
}

/// A scale that is no number ends the search with the step, wherever masks are drawn.
#[test]
fn a_scale_that_is_no_number_is_told() {
    for backend in devices() {
        for ratios in [&RATIOS[..1], &RATIOS[..]] {
            let graph = network();
            let mut state = init(&graph, 5);
            state.get_mut("bn.weight").unwrap().data[4] = f32::NAN;
            let options = options(ratios, DetectorOptions::default());
            let data = Arc::new(synthetic(40, 6, 6, 3, 4, 3));
            let error = Run::new(options, graph, &state, backend.clone(), data).unwrap().run(&mut Quiet).unwrap_err();
            assert!(error.to_string().contains("BN scale"), "{}: {error}", backend.name());
        }
    }
}
