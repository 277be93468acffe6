//! `earlybird eval`: loss and accuracy of a saved model on a test set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::{DONE, device, say};
use crate::autograd::{Hyper, Session, StateDict, check_state};
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
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl EvalArgs {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        let backend = device::open(&self.device, self.threads)?;
        let data = Arc::new(data::open(&self.data)?);
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
        let mut session = Session::new(Arc::new(graph), backend, Hyper::default())?;
        load(&mut session, &file, &self.file)?;
        let graph: Arc<Graph> = session.graph().clone();
        let batch = BatchOptions { size: self.batch_size, shuffle: false, augment: data::Augment::none(), seed: 0 };
        let schedule = Schedule { lr: 0.1, milestones: Vec::new(), gamma: 0.1 };
        let test: Metrics = Trainer::new(session, &data, batch, schedule)?.evaluate()?;
        if self.json {
            say(serde_json::json!({
                "loss": test.loss(), "accuracy": test.accuracy(), "correct": test.top1, "images": test.count,
                "top5": test.top5 as f64 / test.count as f64, "parameters": graph.parameter_count(), "flops": graph.flops(),
            }));
        } else {
            let (percent, right, all) = (100.0 * test.accuracy(), test.top1, test.count);
            say(format_args!(
                "accuracy {percent:.2}% ({right} of {all}), loss {:.4}, on the test set of {}",
                test.loss(),
                data.name
            ));
        }
        Ok(DONE)
    }
}

/// Loads a file's tensors into a session; errors name the file.
pub fn load(session: &mut Session, file: &Checkpoint, path: &Path) -> Result<()> {
    check(&session.graph().clone(), &file.tensors, path)?;
    session.load_state(&file.tensors)
}

/// Checks that `tensors`, read from `path`, are the weights of `graph`: every parameter is there, in its shape.
pub fn check(graph: &Graph, tensors: &StateDict, path: &Path) -> Result<()> {
    check_state(graph, tensors).map_err(|error| match error {
        Error::Graph { node, what, .. } => Error::bad_file(
            path,
            None,
            format!("tensor {node} {what}"),
            "give the weights of this very model and width",
        ),
        other => other,
    })
}
