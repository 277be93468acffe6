//! `earlybird eval`: loss and accuracy of a saved model on a test set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::{DONE, Settings, device, say};
use crate::autograd::{Hyper, Session, StateDict, Tensor};
use crate::data::{Loader, LoaderOptions};
use crate::graph::Graph;
use crate::ops::Metrics;
use crate::train::checkpoint::Checkpoint;
use crate::train::{BatchOptions, Schedule, Trainer};
use crate::{Error, Result, data, nn};

/// Arguments of `eval`.
#[derive(Args)]
pub struct EvalArgs {
    /// A file with weights: model.safetensors, a pruned model, a ticket (its dense network), or a PyTorch state dict with --model
    file: PathBuf,
    /// Data set: `digits` or a directory
    #[arg(long, default_value = "digits")]
    data: String,
    /// Data are photographs of any size: evaluate on the middle N x N pixels
    #[arg(long, value_name = "N")]
    image_size: Option<usize>,
    /// With --image-size: shorter side before the middle is cut out [default: 256/224 of it]
    #[arg(long, value_name = "N")]
    resize: Option<usize>,
    /// Model of a state dict that carries no network
    #[arg(long)]
    model: Option<String>,
    /// Width of that model
    #[arg(long, default_value_t = 1.0)]
    width: f64,
    /// Device
    #[arg(long, default_value = "auto")]
    device: String,
    /// CPU threads [default: all]
    #[arg(long)]
    threads: Option<usize>,
    /// Images per batch
    #[arg(long, default_value_t = 256)]
    batch_size: usize,
    /// Also write the outputs for every test image to this safetensors file (`logits`, `labels`)
    #[arg(long, value_name = "FILE")]
    logits: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl EvalArgs {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        let backend = device::open(&self.device, self.threads)?;
        let settings = Settings {
            data: self.data.clone(),
            image_size: self.image_size,
            resize: self.resize,
            ..Default::default()
        };
        let data = Arc::new(settings.open_data()?);
        let file = Checkpoint::load(&self.file)?;
        let graph = match (file.graph(&self.file)?, &self.model) {
            (Some(graph), _) => graph,
            (None, Some(model)) => {
                let set = &data.train;
                let input = crate::ops::Shape::new(set.height, set.width, set.channels);
                nn::build(model, &nn::ModelOptions { classes: data.classes, input, width: self.width })?
            }
            (None, None) => {
                let hint = "say which model it is by --model and --width";
                return Err(Error::bad_file(&self.file, None, "carries no network", hint));
            }
        };
        let state = import(&graph, file, &self.file)?;
        let graph = Arc::new(graph);
        let mut session = Session::new(graph.clone(), backend, Hyper::default())?;
        session.load_state(&state)?;
        let batch = BatchOptions { size: self.batch_size, shuffle: false, augment: data::Augment::none(), seed: 0 };
        let schedule = Schedule { lr: 0.1, milestones: Vec::new(), gamma: 0.1 };
        let mut trainer = Trainer::new(session, &data, batch, schedule)?;
        let test: Metrics = trainer.evaluate()?;
        if let Some(path) = &self.logits {
            write_logits(trainer.session_mut(), &data, self.batch_size, path)?;
        }
        if self.json {
            say(serde_json::json!({
                "loss": test.loss(), "accuracy": test.accuracy(), "correct": test.top1, "images": test.count,
                "top5": test.top5_accuracy(), "parameters": graph.parameter_count(), "flops": graph.flops(),
            }));
        } else {
            let (percent, right, all) = (100.0 * test.accuracy(), test.top1, test.count);
            // Where there are no more than five classes, every answer is among the first five.
            let top5 = match data.classes {
                0..=5 => String::new(),
                _ => format!("top-5 {:.2}%, ", 100.0 * test.top5_accuracy()),
            };
            say(format_args!(
                "accuracy {percent:.2}% ({right} of {all}), {top5}loss {:.4}, on the test set of {}",
                test.loss(),
                data.name
            ));
        }
        Ok(DONE)
    }
}

/// The weights of `graph` in `file`, which was read from `path`; errors name the file.
pub fn import(graph: &Graph, file: Checkpoint, path: &Path) -> Result<StateDict> {
    nn::import(graph, file.tensors).map_err(|error| match error {
        Error::Graph { node, what, .. } => Error::bad_file(
            path,
            None,
            format!("tensor {node} {what}"),
            "give the weights of this very model and width",
        ),
        other => other,
    })
}

/// Writes the outputs for all test images: `logits`, `[images][classes]`, and `labels`.
fn write_logits(session: &mut Session, data: &Arc<data::Dataset>, batch_size: usize, path: &Path) -> Result<()> {
    let options = LoaderOptions { batch_size, shuffle: false, ..Default::default() };
    let loader = Loader::test(data, options)?;
    let (mut logits, mut labels) = (Vec::new(), Vec::new());
    for batch in loader.epoch(0, 0..loader.batches()) {
        let batch = batch?;
        logits.extend(session.logits(&batch.images)?);
        labels.extend(batch.labels.iter().map(|label| *label as f32));
    }
    let dims = vec![labels.len(), logits.len() / labels.len().max(1)];
    let tensors = [
        ("logits".to_string(), Tensor { dims, data: logits }),
        ("labels".into(), Tensor { dims: vec![labels.len()], data: labels }),
    ];
    Checkpoint { tensors: tensors.into_iter().collect(), metadata: Default::default() }.save(path)
}
