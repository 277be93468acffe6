//! What stays of each layer, against the official rules written from their description (early-bird.md 3.2, 3.3) and against the rule of groups.

use std::collections::BTreeMap;

use earlybird::graph::{Graph, Op};
use earlybird::ticket::{Mask, Policy, Surgery, SurgeryOptions};

use super::support::{branched, mask, networks, operate, scales, state};

/// (in, out) channels of every convolution and linear layer.
fn widths(g: &Graph) -> BTreeMap<String, (usize, usize)> {
    let layers = g.ids().filter(|id| matches!(g.node(*id).op, Op::Conv2d(_) | Op::Linear(_)));
    layers.map(|id| (g.node(id).name.clone(), (g.shape(g.node(id).inputs[0]).c, g.shape(id).c))).collect()
}

fn kept_by_mask(g: &Graph, mask: &Mask) -> BTreeMap<String, Vec<u32>> {
    let mut first = 0;
    let mut all = BTreeMap::new();
    for layer in g.bn_layers() {
        let kept = (0..layer.channels).filter(|c| mask.kept(first + c)).map(|c| c as u32).collect();
        first += layer.channels;
        all.insert(layer.name, kept);
    }
    all
}

fn cut(g: &Graph, policy: Policy) -> (Surgery, BTreeMap<String, Vec<u32>>) {
    let (dense, mask) = (state(g, 1), mask(g, 0.5, 11));
    let kept = kept_by_mask(g, &mask);
    // Layers that the mask leaves empty are another rule's matter.
    assert!(kept.values().all(|kept| !kept.is_empty()), "choose another seed");
    (operate(g, &dense, &mask, SurgeryOptions { policy, ..Default::default() }), kept)
}

fn select<'g>(g: &'g Graph, name: &str) -> Option<&'g [u32]> {
    g.nodes().iter().find(|node| node.name == name).and_then(|node| match &node.op {
        Op::Select(attr) => Some(&attr.channels[..]),
        _ => None,
    })
}

#[test]
fn select_cuts_a_preresnet_as_the_official_code_does() {
    let g = networks().swap_remove(0);
    let (surgery, kept) = cut(&g, Policy::Select);
    let (before, after) = (widths(&g), widths(&surgery.graph));
    let n = |bn: &str| kept[bn].len();
    for (name, (input, output)) in &before {
        let want = match name.rsplit_once('.').filter(|_| name.contains("conv")) {
            Some((block, "conv1")) => (n(&format!("{block}.bn1")), n(&format!("{block}.bn2"))),
            Some((block, "conv2")) => (n(&format!("{block}.bn2")), n(&format!("{block}.bn3"))),
            Some((block, _)) => (n(&format!("{block}.bn3")), *output),
            None if name == "fc" => (n("bn"), *output),
            None => (*input, *output), // the stem and the down-sample convolutions
        };
        assert_eq!(after[name], want, "{name}");
    }
    for block in ["layer1.0.", "layer2.1.", ""] {
        let bn = if block.is_empty() { "bn".into() } else { format!("{block}bn1") };
        assert_eq!(select(&surgery.graph, &format!("{block}select")), Some(&kept[&bn][..]));
    }
    assert!(surgery.layers.iter().all(|layer| layer.obstacle.is_none() && layer.kept == kept[&layer.layer]));
}

#[test]
fn select_cuts_a_resnet18_as_the_official_code_does() {
    let g = networks().swap_remove(2);
    let (surgery, kept) = cut(&g, Policy::Select);
    let (before, after) = (widths(&g), widths(&surgery.graph));
    let mut previous = "bn1".to_string();
    for layer in 1..=4 {
        for block in 0..2 {
            let name = |part: &str| format!("layer{layer}.{block}.{part}");
            // conv1 reads what the block before keeps in its last norm; its own norm decides what it gives.
            let inner = kept[&name("bn1")].len();
            assert_eq!(after[&name("conv1")], (kept[&previous].len(), inner));
            assert_eq!(select(&surgery.graph, &name("select")), Some(&kept[&previous][..]));
            assert_eq!(after[&name("conv2")], (inner, before[&name("conv2")].1));
            previous = name("bn2");
        }
    }
    for whole in ["conv1", "layer2.0.downsample.0", "layer4.0.downsample.0", "fc"] {
        assert_eq!(after[whole], before[whole], "{whole}");
    }
    // Norms on the stream keep their width; what the mask prunes there is silenced, in the weights and in the momenta.
    let weights = surgery.cut(&state(&g, 1)).unwrap();
    for layer in surgery.layers.iter().filter(|l| !l.layer.starts_with("layer") || !l.layer.ends_with("bn1")) {
        assert_eq!(layer.kept.len(), layer.before);
        assert!(layer.obstacle.as_ref().is_some_and(|why| why.contains("stream")), "{layer:?}");
        for (c, gamma) in weights[&format!("{}.weight", layer.layer)].data.iter().enumerate() {
            assert_eq!(*gamma == 0.0, !kept[&layer.layer].contains(&(c as u32)), "{} {c}", layer.layer);
        }
    }
}

/// As many channels as the masks keep on average, those of the largest mean scale, in every norm of the stage and in everything that reads or writes it.
#[test]
fn group_narrows_the_stream_by_the_mean_scale() {
    let g = networks().swap_remove(2);
    let (surgery, kept) = cut(&g, Policy::Group);
    let dense = state(&g, 1);
    let stage = ["bn1", "layer1.0.bn2", "layer1.1.bn2"];
    let scale = |bn: &str, c: usize| f64::from(dense[&format!("{bn}.weight")].data[c].abs());
    let count = (stage.iter().map(|bn| kept[*bn].len()).sum::<usize>() as f64 / 3.0).round() as usize;
    let mut order: Vec<usize> = (0..6).collect();
    order.sort_by(|a, b| {
        let mean = |c: usize| stage.iter().map(|bn| scale(bn, c)).sum::<f64>();
        mean(*b).total_cmp(&mean(*a))
    });
    let mut want: Vec<u32> = order[..count].iter().map(|c| *c as u32).collect();
    want.sort_unstable();
    assert!(count > 0 && count < 6);
    for bn in stage {
        let plan = surgery.layers.iter().find(|layer| layer.layer == bn).unwrap();
        assert_eq!((&plan.kept, plan.tied.len(), plan.masked), (&want, 2, kept[bn].len()), "{bn}");
    }
    let after = widths(&surgery.graph);
    assert_eq!((after["conv1"].1, after["layer1.0.conv1"].0, after["layer1.1.conv2"].1), (count, count, count));
    assert_eq!((after["layer2.0.conv1"].0, after["layer2.0.downsample.0"].0), (count, count));
    assert_eq!(after["layer2.0.downsample.0"].1, after["fc"].0.min(after["layer2.1.conv2"].1));
    assert!(surgery.graph.nodes().iter().all(|node| node.op.stem() != "select"));
}

#[test]
fn a_hand_made_net_is_cut_in_every_branch() {
    let g = branched();
    for policy in [Policy::Select, Policy::Group] {
        let dense = state(&g, 1);
        let surgery = operate(&g, &dense, &mask(&g, 0.5, 3), SurgeryOptions { policy, ..Default::default() });
        let (before, after) = (widths(&g), widths(&surgery.graph));
        for branch in ["a.conv1", "b.conv1", "inner.conv1"] {
            assert!(after[branch].0 < before[branch].0 && after[branch].1 < before[branch].1, "{policy:?} {branch}");
        }
        let narrow = after["a.conv2"].1 < 12;
        assert_eq!(narrow, policy == Policy::Group);
        assert_eq!(after["a.conv2"].1, after["project"].1);
        assert_eq!(scales(&surgery.graph, &surgery.cut(&dense).unwrap()).len(), surgery.graph.bn_channels());
    }
}
