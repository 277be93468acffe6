//! Training FLOPs by the paper's rule (early-bird.md 6.3): three times the forward operations of an image (forward, data gradient, weight gradient), times images, times epochs.

/// Operations of training: `3 * forward * images * epochs`. `forward` counts a multiply-add as 2, as [`crate::graph::Graph::flops`] does.
pub fn training(forward: u64, images: u64, epochs: f64) -> f64 {
    3.0 * forward as f64 * images as f64 * epochs
}

/// As the paper's tables print it: `forward` rounded to 0.01 GFLOP first.
pub fn training_as_printed(forward: u64, images: u64, epochs: f64) -> f64 {
    let rounded = (forward as f64 / 1e7).round() * 1e7;
    3.0 * rounded * images as f64 * epochs
}

/// One of the paper's own trainings of an unpruned network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PaperSetting {
    /// Model and data, as the paper names them.
    pub name: &'static str,
    /// Model by the names of [`crate::nn`].
    pub model: &'static str,
    /// Side of an image, classes.
    pub input: (usize, usize),
    /// Training images.
    pub images: u64,
    /// Epochs.
    pub epochs: f64,
    /// What the table prints, and in which unit of FLOPs.
    pub printed: (f64, f64, &'static str),
}

/// The unpruned rows of the paper's tables 2 and 3.
pub const PAPER: [PaperSetting; 3] = [
    PaperSetting {
        name: "VGG16, CIFAR-10",
        model: "vgg16",
        input: (32, 10),
        images: 50_000,
        epochs: 160.0,
        printed: (302.4, 0.05e15, "x 0.05 P"),
    },
    PaperSetting {
        name: "ResNet-18, ImageNet",
        model: "resnet18",
        input: (224, 1000),
        images: 1_281_167,
        epochs: 90.0,
        printed: (1259.13, 1e15, "P"),
    },
    PaperSetting {
        name: "ResNet-50, ImageNet",
        model: "resnet50-official",
        input: (224, 1000),
        images: 1_281_167,
        epochs: 90.0,
        printed: (2839.96, 1e15, "P"),
    },
];
