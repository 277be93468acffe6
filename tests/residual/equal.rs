//! In eval mode the pruned network answers as the masked dense one, for random masks, every model, both policies.

use earlybird::graph::Graph;
use earlybird::ticket::{SurgeryOptions, masked_state};

use super::support::{POLICIES, branched, images, logits, mask, networks, operate, state};

fn assert_same(what: &str, got: &[f32], want: &[f32]) {
    // The same terms but for zeros, in another order, through up to a hundred layers.
    let size = want.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= 1e-4 * size, "{what}: {got} for {want}, the largest is {size}");
    }
}

#[test]
fn pruned_nets_answer_as_the_masked_dense_nets() {
    for (number, g) in networks().iter().enumerate() {
        let seed = number as u64;
        let dense = state(g, seed);
        let pixels = images(g, 2, seed);
        for policy in POLICIES {
            for (case, share) in [0.0, 0.2, 0.5, 0.9].into_iter().enumerate() {
                let options =
                    SurgeryOptions { min_channels: 1 + case % 2, round_to: if case == 2 { 4 } else { 1 }, policy };
                let surgery = operate(g, &dense, &mask(g, share, seed + case as u64), options);
                let what = format!("{} {policy:?} {share}", g.name());
                assert_eq!(surgery.graph.bn_channels(), surgery.kept_channels().0, "{what}");
                assert!(surgery.graph.parameter_count() < g.parameter_count(), "{what}: nothing was removed");
                let cut = surgery.cut(&dense).unwrap();
                assert_eq!(cut.keys().collect::<Vec<_>>(), dense.keys().collect::<Vec<_>>(), "{what}");
                let want = logits(g, &masked_state(&surgery, &dense), &pixels);
                assert_same(&what, &logits(&surgery.graph, &cut, &pixels), &want);
                let read: Graph = serde_json::from_str(&serde_json::to_string(&surgery.graph).unwrap()).unwrap();
                assert_eq!(read, surgery.graph, "{what}");
            }
        }
    }
}

#[test]
fn masks_that_keep_everything_leave_the_network_as_it_is() {
    for g in networks() {
        let dense = state(&g, 3);
        for policy in POLICIES {
            let surgery = operate(&g, &dense, &mask(&g, 1.1, 1), SurgeryOptions { policy, ..Default::default() });
            assert_eq!(surgery.graph, g);
            assert_eq!(surgery.cut(&dense).unwrap(), dense);
        }
    }
}

/// A ticket drawn from a pruned net: its gathers get narrower under `select`, and stand in the way under `group`.
#[test]
fn a_pruned_net_is_pruned_again() {
    for g in [networks().swap_remove(0), networks().swap_remove(2), branched()] {
        let dense = state(&g, 5);
        for (first, second) in POLICIES.into_iter().flat_map(|a| POLICIES.map(|b| (a, b))) {
            let once = operate(&g, &dense, &mask(&g, 0.6, 2), SurgeryOptions { policy: first, ..Default::default() });
            let (small, weights) = (&once.graph, once.cut(&dense).unwrap());
            let options = SurgeryOptions { policy: second, ..Default::default() };
            let twice = operate(small, &weights, &mask(small, 0.6, 9), options);
            let pixels = images(&g, 2, 4);
            let want = logits(small, &masked_state(&twice, &weights), &pixels);
            let got = logits(&twice.graph, &twice.cut(&weights).unwrap(), &pixels);
            assert_same(&format!("{} {first:?} then {second:?}", g.name()), &got, &want);
            assert!(twice.graph.parameter_count() < small.parameter_count());
            let gathers = |g: &earlybird::graph::Graph| g.nodes().iter().filter(|n| n.op.stem() == "select").count();
            assert!(gathers(&twice.graph) >= gathers(small));
        }
    }
}
