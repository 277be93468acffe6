//! `earlybird info`: parameters, BN channels and FLOPs of a model or of a model file.

use std::path::PathBuf;

use clap::Args;

use super::train::DATA_KEY;
use super::{DONE, say};
use crate::data::DatasetInfo;
use crate::graph::Graph;
use crate::ops::Shape;
use crate::train::checkpoint::Checkpoint;
use crate::{Error, Result, nn};

/// Arguments of `info`.
#[derive(Args)]
pub struct InfoArgs {
    /// Model by name
    #[arg(long, default_value = "vgg16", conflicts_with = "file")]
    model: String,
    /// Classes
    #[arg(long, default_value_t = 10)]
    classes: usize,
    /// Factor on every layer's channels
    #[arg(long, default_value_t = 1.0)]
    width: f64,
    /// Image as HxWxC
    #[arg(long, default_value = "32x32x3")]
    input: String,
    /// A file that carries its network (model, ticket, state) instead of a model by name
    #[arg(long)]
    file: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// The shape that `--input` names.
pub(super) fn shape(text: &str) -> Result<Shape> {
    let sides: Option<Vec<usize>> = text.split('x').map(|side| side.parse().ok().filter(|side| *side > 0)).collect();
    match sides.as_deref() {
        Some(&[h, w, c]) => Ok(Shape::new(h, w, c)),
        _ => Err(Error::bad_setting("--input", format!("`{text}` is no image shape"), "give HxWxC, such as 32x32x3")),
    }
}

impl InfoArgs {
    /// The network, and the data it was trained on where the file says so.
    fn graph(&self) -> Result<(Graph, Option<DatasetInfo>)> {
        match &self.file {
            Some(path) => {
                let file = Checkpoint::load(path)?;
                let hint = "give a file that earlybird wrote, or use --model";
                let graph = file.graph(path)?.ok_or_else(|| Error::bad_file(path, None, "carries no network", hint))?;
                let data = file.metadata.contains_key(DATA_KEY).then(|| file.get(DATA_KEY, path)).transpose()?;
                Ok((graph, data))
            }
            None => {
                let options = nn::ModelOptions { classes: self.classes, input: shape(&self.input)?, width: self.width };
                Ok((nn::build(&self.model, &options)?, None))
            }
        }
    }

    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        let (graph, data) = self.graph()?;
        let layers: Vec<usize> = graph.bn_layers().iter().map(|layer| layer.channels).collect();
        if self.json {
            say(serde_json::json!({
                "model": graph.name(), "classes": graph.classes(), "input": graph.input_shape(), "parameters": graph.parameter_count(),
                "bn_layers": layers.len(), "bn_channels": graph.bn_channels(), "flops": graph.flops(), "channels": layers,
                "data": data,
            }));
        } else {
            say(format_args!(
                "model        {} for {} images, {} classes",
                graph.name(),
                graph.input_shape(),
                graph.classes()
            ));
            say(format_args!("parameters   {}", graph.parameter_count()));
            say(format_args!("BN channels  {} in {} layers", graph.bn_channels(), layers.len()));
            say(format_args!("FLOPs        {} forward, per image (a multiply-add is 2)", graph.flops()));
            if let Some(data) = data {
                say(format_args!("data         {data}"));
                say(format_args!("classes      {}", data.class_names.join(", ")));
            }
        }
        Ok(DONE)
    }
}
