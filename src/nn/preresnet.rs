//! Pre-activation ResNet for CIFAR with bottleneck blocks, as in the official code's `models/preresnet.py` (early-bird.md section 8): depth 9n+2, three stages of n
//! blocks, BN before each convolution, the sum of a block without a ReLU behind it. Names are the official ones; its `select` layers come with surgery only.
//!
//! Not here: what surgery makes of the residual stream ([`crate::ticket`]).

use super::ModelOptions;
use crate::Result;
use crate::graph::{Graph, NodeId};
use crate::ops::conv2d::Conv2dAttr;

/// Channels out of a block per channel of its 3x3 convolution.
const EXPANSION: usize = 4;

/// Blocks per stage of `preresnetD` with D = 9n+2; `None` for other names.
pub fn blocks(model: &str) -> Option<usize> {
    let digits = model.strip_prefix("preresnet").filter(|digits| !digits.starts_with('0'))?;
    let depth: usize = digits.parse().ok().filter(|depth| *depth <= 2000)?;
    (depth >= 11 && (depth - 2).is_multiple_of(9)).then_some((depth - 2) / 9)
}

/// Builds `preresnet20`, `preresnet56`, `preresnet101`, `preresnet164` or another of depth 9n+2. Any image size will do; the official one is 32x32.
pub fn build(model: &str, options: &ModelOptions) -> Result<Graph> {
    let mut g = Graph::new(model);
    let x = g.input(options.input);
    let mut x = g.conv2d(x, "conv1", Conv2dAttr::square(options.channels(16), 3, 1, 1))?;
    for (stage, planes) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..blocks(model).unwrap_or(1) {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = bottleneck(&mut g, x, &format!("layer{}.{block}", stage + 1), planes, stride, options)?;
        }
    }
    let x = g.batchnorm(x, "bn")?;
    let x = g.relu(x, "relu")?;
    let x = g.global_avgpool(x, "avgpool")?;
    g.linear(x, "fc", options.classes)?;
    Ok(g)
}

/// BN, ReLU, 1x1; BN, ReLU, 3x3; BN, ReLU, 1x1; plus the block's raw input, through a 1x1 convolution where the shapes differ.
fn bottleneck(
    g: &mut Graph,
    x: NodeId,
    name: &str,
    planes: usize,
    stride: usize,
    options: &ModelOptions,
) -> Result<NodeId> {
    let (inner, outer) = (options.channels(planes), options.channels(planes * EXPANSION));
    let convs = [
        Conv2dAttr::square(inner, 1, 1, 0),
        Conv2dAttr::square(inner, 3, stride, 1),
        Conv2dAttr::square(outer, 1, 1, 0),
    ];
    let mut y = x;
    for (i, conv) in convs.into_iter().enumerate() {
        y = g.batchnorm(y, &format!("{name}.bn{}", i + 1))?;
        y = g.relu(y, &format!("{name}.relu{}", i + 1))?;
        y = g.conv2d(y, &format!("{name}.conv{}", i + 1), conv)?;
    }
    // The official code has the convolution in the first block of every stage, whether the widths differ or not.
    let shortcut = match name.ends_with(".0") {
        true => g.conv2d(x, &format!("{name}.downsample.0"), Conv2dAttr::square(outer, 1, stride, 0))?,
        false => x,
    };
    g.add(y, shortcut, &format!("{name}.add"))
}

#[cfg(test)]
mod tests {
    use crate::nn::{ModelOptions, build};

    /// early-bird.md section 8.
    #[test]
    fn counts_equal_the_official_table() {
        for (model, classes, parameters, layers, channels, flops) in [
            ("preresnet101", 10, 1_054_106, 100, 7408, 313_959_434),
            ("preresnet101", 100, 1_077_236, 100, 7408, 314_005_604),
            ("preresnet20", 10, 219_482, 19, 1360, 68_666_378),
        ] {
            let g = build(model, &ModelOptions { classes, ..Default::default() }).unwrap();
            assert_eq!((g.parameter_count(), g.bn_layers().len(), g.bn_channels()), (parameters, layers, channels));
            assert_eq!(g.flops(), flops, "{model}");
        }
        let g = build("preresnet164", &ModelOptions::default()).unwrap();
        assert_eq!((g.parameter_count(), g.bn_layers().len(), g.bn_channels()), (1_703_258, 163, 12112));
        assert!((g.flops() as f64 / 1e6 - 504.74).abs() < 0.005, "{}", g.flops());
        assert_eq!(build("preresnet56", &ModelOptions::default()).unwrap().bn_layers().len(), 3 * 18 + 1);
    }

    #[test]
    fn masks_run_block_by_block_and_end_with_the_final_norm() {
        let g = build("preresnet20", &ModelOptions::default()).unwrap();
        let layers: Vec<(String, usize)> = g.bn_layers().into_iter().map(|l| (l.name, l.channels)).collect();
        let first = [("layer1.0.bn1", 16), ("layer1.0.bn2", 16), ("layer1.0.bn3", 16), ("layer1.1.bn1", 64)];
        assert!(layers.iter().zip(first).all(|((name, c), want)| (name.as_str(), *c) == want), "{layers:?}");
        assert_eq!(layers.last(), Some(&("bn".into(), 256)));
    }

    #[test]
    fn other_depths_are_refused() {
        for model in ["preresnet", "preresnet2", "preresnet21", "preresnet020", "preresnet99999", "preresnet-7"] {
            let error = build(model, &ModelOptions::default()).unwrap_err().to_string();
            assert!(error.contains("there is no model"), "{error}");
        }
    }
}
