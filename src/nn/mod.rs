//! Models as graph builders, and their initial weights.
//!
//! A model is a name, a few options and a function that builds a [`Graph`]; everything else (parameters, FLOPs, masks, surgery) is read off the graph.

mod import;
mod init;
mod preresnet;
mod resnet;
mod vgg;

pub use import::import;
pub use init::{init, init_like};

use crate::graph::Graph;
use crate::ops::Shape;
use crate::{Error, Result};

/// What all models share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelOptions {
    /// Classes.
    pub classes: usize,
    /// Shape of an image.
    pub input: Shape,
    /// Factor on every layer's channels; each becomes `max(1, round(width * channels))`.
    pub width: f64,
}

impl Default for ModelOptions {
    fn default() -> Self {
        ModelOptions { classes: 10, input: Shape::new(32, 32, 3), width: 1.0 }
    }
}

impl ModelOptions {
    /// A layer's channels at this width.
    pub fn channels(&self, full: usize) -> usize {
        ((full as f64 * self.width).round() as usize).max(1)
    }
}

/// Names of all models. PreResNets of any depth 9n+2 are built as well.
pub const MODELS: [&str; 13] = [
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "preresnet20",
    "preresnet56",
    "preresnet101",
    "preresnet164",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    resnet::OFFICIAL50,
];

/// Builds a model by name.
///
/// # Errors
/// [`Error::BadSetting`] for an unknown name, no or too many classes, or a width outside (0, 16]; [`Error::Graph`] where the image is too small.
pub fn build(model: &str, options: &ModelOptions) -> Result<Graph> {
    if !(options.width > 0.0 && options.width <= 16.0) {
        let what = format!("{} is no usable width multiplier", options.width);
        return Err(Error::bad_setting("width", what, "give a number above 0 and at most 16, such as 0.25"));
    }
    if !(2..=1 << 20).contains(&options.classes) {
        let what = format!("{} classes cannot be told apart", options.classes);
        return Err(Error::bad_setting("classes", what, "give at least 2"));
    }
    match model {
        "vgg11" | "vgg13" | "vgg16" | "vgg19" => vgg::build(model, options),
        _ if preresnet::blocks(model).is_some() => preresnet::build(model, options),
        _ if resnet::layers(model).is_some() => resnet::build(model, options),
        _ => Err(Error::bad_setting(
            "model",
            format!("there is no model `{model}`"),
            format!("choose one of {}", MODELS.join(", ")),
        )),
    }
}
