//! ResNet in torchvision's layout and with its names: 7x7 stem, overlapping max-pool, four stages of basic (18, 34) or bottleneck (50, 101) blocks with the stride on
//! the 3x3. `resnet50-official` has biased down-sample convolutions, as the official Early-Bird code's ResNet-50 (early-bird.md section 8).
//!
//! Not here: the official code's `select` layers, which come with surgery only ([`crate::ticket`]).

use super::ModelOptions;
use crate::Result;
use crate::graph::{Graph, NodeId, Op};
use crate::ops::conv2d::Conv2dAttr;
use crate::ops::pool::{GlobalAvgPoolAttr, Window};

/// ResNet-50 with biased down-sample convolutions.
pub const OFFICIAL50: &str = "resnet50-official";

/// Blocks per stage and whether they are bottlenecks; `None` for other names.
pub fn layers(model: &str) -> Option<([usize; 4], bool)> {
    match model {
        "resnet18" => Some(([2, 2, 2, 2], false)),
        "resnet34" => Some(([3, 4, 6, 3], false)),
        "resnet50" | OFFICIAL50 => Some(([3, 4, 6, 3], true)),
        "resnet101" => Some(([3, 4, 23, 3], true)),
        _ => None,
    }
}

/// Builds a model of [`layers`]. Any image size will do; the official one is 224x224.
pub fn build(model: &str, options: &ModelOptions) -> Result<Graph> {
    let (blocks, bottleneck) = layers(model).unwrap_or(([1; 4], false));
    let mut g = Graph::new(model);
    let x = g.input(options.input);
    let x = norm(&mut g, x, "", "conv1", "bn1", Conv2dAttr::square(options.channels(64), 7, 2, 3))?;
    let x = g.relu(x, "relu")?;
    let mut x = g.maxpool(x, "maxpool", Window { kernel: 3, stride: 2, padding: 1 })?;
    // What the block before gives out at full width: whether a shortcut needs a convolution must not depend on rounding.
    let mut before = 64;
    for (stage, planes) in [64, 128, 256, 512].into_iter().enumerate() {
        for block in 0..blocks[stage] {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let out = if bottleneck { 4 * planes } else { planes };
            let (inner, outer) = (options.channels(planes), options.channels(out));
            let name = format!("layer{}.{block}.", stage + 1);
            let convs = match bottleneck {
                false => vec![Conv2dAttr::square(inner, 3, stride, 1), Conv2dAttr::square(outer, 3, 1, 1)],
                true => vec![
                    Conv2dAttr::square(inner, 1, 1, 0),
                    Conv2dAttr::square(inner, 3, stride, 1),
                    Conv2dAttr::square(outer, 1, 1, 0),
                ],
            };
            let (mut y, last) = (x, convs.len());
            for (i, conv) in convs.into_iter().enumerate() {
                let i = i + 1;
                y = norm(&mut g, y, &name, &format!("conv{i}"), &format!("bn{i}"), conv)?;
                if i < last {
                    y = g.relu(y, &format!("{name}relu{i}"))?;
                }
            }
            if stride != 1 || before != out {
                let conv = Conv2dAttr { bias: model == OFFICIAL50, ..Conv2dAttr::square(outer, 1, stride, 0) };
                x = norm(&mut g, x, &name, "downsample.0", "downsample.1", conv)?;
            }
            x = g.add(y, x, &format!("{name}add"))?;
            x = g.relu(x, &format!("{name}relu{last}"))?;
            before = out;
        }
    }
    let x = g.add_node("avgpool", Op::GlobalAvgPool(GlobalAvgPoolAttr { counted: true }), &[x])?;
    g.linear(x, "fc", options.classes)?;
    Ok(g)
}

/// Convolution and batchnorm, named `prefix` + `conv` and `prefix` + `bn`.
fn norm(g: &mut Graph, x: NodeId, prefix: &str, conv: &str, bn: &str, attr: Conv2dAttr) -> Result<NodeId> {
    let x = g.conv2d(x, &format!("{prefix}{conv}"), attr)?;
    g.batchnorm(x, &format!("{prefix}{bn}"))
}

#[cfg(test)]
mod tests {
    use crate::nn::{ModelOptions, build};
    use crate::ops::Shape;

    fn imagenet() -> ModelOptions {
        ModelOptions { classes: 1000, input: Shape::new(224, 224, 3), width: 1.0 }
    }

    /// early-bird.md section 8; torchvision's documented parameter counts.
    #[test]
    fn counts_equal_the_official_table() {
        for (model, parameters, layers, channels, flops) in [
            ("resnet18", 11_689_512, 20, 4800, 3_637_254_632),
            ("resnet50-official", 25_560_872, 53, 26560, 8_213_618_152),
        ] {
            let g = build(model, &imagenet()).unwrap();
            let counts = (g.parameter_count(), g.bn_layers().len(), g.bn_channels(), g.flops());
            assert_eq!(counts, (parameters, layers, channels, flops), "{model}");
        }
        for (model, parameters) in [("resnet34", 21_797_672), ("resnet50", 25_557_032), ("resnet101", 44_549_160)] {
            assert_eq!(build(model, &imagenet()).unwrap().parameter_count(), parameters, "{model}");
        }
    }

    #[test]
    fn masks_run_in_the_official_order() {
        let g = build("resnet18", &imagenet()).unwrap();
        let names: Vec<String> = g.bn_layers().into_iter().map(|l| l.name).collect();
        assert_eq!(names[..5], ["bn1", "layer1.0.bn1", "layer1.0.bn2", "layer1.1.bn1", "layer1.1.bn2"]);
        // Down-sample norms are numbers 8, 13, 18 and (ResNet-50) 5, 15, 28, 47, counted from 1 (early-bird.md 3.3, 3.4).
        for (model, numbers) in [("resnet18", vec![8, 13, 18]), ("resnet50", vec![5, 15, 28, 47])] {
            let g = build(model, &imagenet()).unwrap();
            let layers = g.bn_layers();
            let found: Vec<usize> =
                (0..layers.len()).filter(|i| layers[*i].name.contains("downsample")).map(|i| i + 1).collect();
            assert_eq!(found, numbers, "{model}");
        }
    }

    #[test]
    fn narrow_nets_keep_their_shortcuts_and_small_images_fit() {
        let tiny = ModelOptions { classes: 5, input: Shape::new(20, 33, 3), width: 0.01 };
        for model in ["resnet18", "resnet50"] {
            let (narrow, full) = (build(model, &tiny).unwrap(), build(model, &imagenet()).unwrap());
            let names = |g: &crate::graph::Graph| g.nodes().iter().map(|n| n.name.clone()).collect::<Vec<_>>();
            assert_eq!(names(&narrow), names(&full));
        }
    }
}
