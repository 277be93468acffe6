//! VGG for CIFAR as in the official code's `models/vgg.py` (early-bird.md section 8): conv 3x3 pad 1 without bias, BN, ReLU; four max-pools 2x2; a
//! 2x2 mean before one linear classifier. Nodes are numbered as PyTorch's `nn.Sequential` numbers them, so names are the official ones.

use super::ModelOptions;
use crate::Result;
use crate::graph::Graph;
use crate::ops::conv2d::Conv2dAttr;
use crate::ops::pool::Window;

/// Channels of each convolution, stage by stage; a max-pool stands between stages.
fn stages(model: &str) -> [&'static [usize]; 5] {
    match model {
        "vgg11" => [&[64], &[128], &[256; 2], &[512; 2], &[512; 2]],
        "vgg13" => [&[64; 2], &[128; 2], &[256; 2], &[512; 2], &[512; 2]],
        "vgg16" => [&[64; 2], &[128; 2], &[256; 3], &[512; 3], &[512; 3]],
        _ => [&[64; 2], &[128; 2], &[256; 4], &[512; 4], &[512; 4]],
    }
}

/// Builds `vgg11`, `vgg13`, `vgg16` or `vgg19`. The image must have at least 32x32 pixels, so that 2x2 are left for the mean.
pub fn build(model: &str, options: &ModelOptions) -> Result<Graph> {
    let half = Window { kernel: 2, stride: 2, padding: 0 };
    let mut graph = Graph::new(model);
    let mut x = graph.input(options.input);
    let mut index = 0;
    let mut name = || {
        index += 1;
        format!("feature.{}", index - 1)
    };
    for (stage, widths) in stages(model).iter().enumerate() {
        if stage > 0 {
            x = graph.maxpool(x, &name(), half)?;
        }
        for full in *widths {
            x = graph.conv2d(x, &name(), Conv2dAttr::square(options.channels(*full), 3, 1, 1))?;
            x = graph.batchnorm(x, &name())?;
            x = graph.relu(x, &name())?;
        }
    }
    x = graph.avgpool(x, "avgpool", half)?;
    graph.linear(x, "classifier", options.classes)?;
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use crate::nn::{ModelOptions, build};

    /// early-bird.md section 8.
    #[test]
    fn counts_equal_the_official_table() {
        for (model, classes, parameters, channels, flops) in
            [("vgg16", 10, 14_724_042, 4224, 627_355_658), ("vgg16", 100, 14_770_212, 4224, 627_447_908)]
        {
            let graph = build(model, &ModelOptions { classes, ..Default::default() }).unwrap();
            assert_eq!((graph.parameter_count(), graph.bn_channels(), graph.flops()), (parameters, channels, flops));
        }
        for (model, parameters, channels, mflops) in
            [("vgg11", 9_228_362, 2752, 306.1), ("vgg13", 9_413_066, 2944, 457.4), ("vgg19", 20_035_018, 5504, 797.3)]
        {
            let graph = build(model, &ModelOptions::default()).unwrap();
            assert_eq!((graph.parameter_count(), graph.bn_channels()), (parameters, channels));
            assert!((graph.flops() as f64 / 1e6 - mflops).abs() < 0.05, "{model}: {}", graph.flops());
        }
    }

    #[test]
    fn names_are_those_of_the_official_sequential() {
        let graph = build("vgg16", &ModelOptions::default()).unwrap();
        let names: Vec<String> = graph.parameters().into_iter().map(|p| p.name).collect();
        for name in
            ["feature.0.weight", "feature.1.running_var", "feature.7.weight", "feature.40.weight", "feature.41.bias"]
        {
            assert!(names.iter().any(|n| n == name), "{name}");
        }
        assert_eq!(names[names.len() - 2..], ["classifier.weight", "classifier.bias"]);
    }
}
