//! The same bits for any number of threads, and for both of the fused instruction sets.

use std::sync::Arc;

use earlybird::autograd::{Hyper, Session, StateDict};
use earlybird::backend::cpu::{Cpu, Path};
use earlybird::graph::Graph;
use earlybird::nn::{ModelOptions, build};

use crate::random::{batch, network, state};

/// State, momenta and logits after some steps, with a pool of `threads`.
fn train(g: &Arc<Graph>, path: Path, threads: usize, n: usize, steps: u64) -> (StateDict, StateDict, Vec<f32>) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let mut session = Session::new(g.clone(), Cpu::with_path(path).unwrap(), Hyper::default()).unwrap();
        session.load_state(&state(g, 1)).unwrap();
        for step in 0..steps {
            let (images, labels) = batch(g, n, step);
            session.step(&images, &labels, 0.05).unwrap();
        }
        let logits = session.logits(&batch(g, n + 1, 99).0).unwrap();
        assert!(session.take_metrics().unwrap().loss().is_finite() && logits.iter().all(|v| v.is_finite()));
        (session.state_dict().unwrap(), session.momenta().unwrap(), logits)
    })
}

fn nets() -> Vec<(Arc<Graph>, usize)> {
    // Large enough for several splits, chunks and tasks in every operator; and residual ones.
    let vgg = build("vgg11", &ModelOptions { width: 0.17, ..Default::default() }).unwrap();
    vec![(Arc::new(vgg), 6), (Arc::new(network(3, 20)), 5), (Arc::new(network(8, 20)), 5)]
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for path in [Path::Portable, Path::Avx2, Path::Avx512].into_iter().filter(|path| path.available()) {
        for (g, n) in nets() {
            let one = train(&g, path, 1, n, 3);
            for threads in [2, 3, 7] {
                assert!(train(&g, path, threads, n, 3) == one, "{path:?}, {threads} threads, {}", g.name());
            }
        }
    }
}

/// Each element is one chain of operations whatever the width of a vector. (The portable path rounds products before it adds them and agrees within f32
/// rounding only, see `tests/ops`.)
#[test]
fn avx2_and_avx512_compute_the_same_bits() {
    if !Path::Avx512.available() {
        println!("skipped: this machine has no AVX-512");
        return;
    }
    for (g, n) in nets() {
        assert!(train(&g, Path::Avx2, 2, n, 3) == train(&g, Path::Avx512, 2, n, 3), "{}", g.name());
    }
}

/// Two threads outside the pool that share one backend take turns and neither waits for ever.
#[test]
fn two_sessions_on_one_backend_take_turns() {
    let backend = Cpu::new();
    let g = Arc::new(network(3, 12));
    let run = || {
        let mut session = Session::new(g.clone(), backend.clone(), Hyper::default()).unwrap();
        session.load_state(&state(&g, 1)).unwrap();
        for step in 0..20 {
            let (images, labels) = batch(&g, 3, step);
            session.step(&images, &labels, 0.05).unwrap();
        }
        session.state_dict().unwrap()
    };
    let both = std::thread::scope(|scope| [scope.spawn(run), scope.spawn(run)].map(|handle| handle.join().unwrap()));
    assert_eq!(both[0], both[1]);
}
