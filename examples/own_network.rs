//! A network of one's own, built as a graph, searched and cut by the library: `cargo run --release --example own_network`.

use std::sync::Arc;

use earlybird::autograd::{Hyper, Precision};
use earlybird::backend::cpu::Cpu;
use earlybird::data::{self, Augment};
use earlybird::graph::Graph;
use earlybird::ops::conv2d::Conv2dAttr;
use earlybird::ops::pool::Window;
use earlybird::ops::{Metrics, Shape};
use earlybird::ticket::{
    DetectorOptions, EpochReport, LayerPlan, Observer, Outcome, Run, RunOptions, Start, SurgeryOptions, Task, Ticket,
};
use earlybird::train::{BatchOptions, Schedule};
use earlybird::{Result, nn};

/// Three convolutions, each halving the image.
fn network(input: Shape, classes: usize) -> Result<Graph> {
    let mut g = Graph::new("own");
    let mut x = g.input(input);
    for (i, channels) in [16, 32, 64].into_iter().enumerate() {
        x = g.conv2d(x, &format!("block{i}.conv"), Conv2dAttr::square(channels, 3, 1, 1))?;
        x = g.batchnorm(x, &format!("block{i}.bn"))?;
        x = g.relu(x, &format!("block{i}.relu"))?;
        x = g.maxpool(x, &format!("block{i}.pool"), Window { kernel: 2, stride: 2, padding: 0 })?;
    }
    x = g.global_avgpool(x, "pool")?;
    g.linear(x, "classifier", classes)?;
    Ok(g)
}

/// Prints what happens; a real program would store `run.snapshot()` in `checkpoint`.
struct Printer;

impl Observer for Printer {
    fn ticket(&mut self, ticket: &Ticket) -> Result<()> {
        println!("ticket after {} epochs, distances {:.3?}", ticket.info.epoch, ticket.info.distances);
        Ok(())
    }

    fn surgery(&mut self, plan: &[LayerPlan], before: &Graph, after: &Graph, _test: &Metrics) -> Result<()> {
        plan.iter().for_each(|layer| println!("  {}: {} -> {}", layer.layer, layer.before, layer.kept.len()));
        println!("  {} -> {} FLOPs per image", before.flops(), after.flops());
        Ok(())
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        println!("epoch {:>4}: test accuracy {:.2}%", report.epoch, 100.0 * report.test.accuracy());
        Ok(())
    }
}

fn main() -> Result<()> {
    let data = Arc::new(data::open("digits")?);
    let input = Shape::new(data.train.height, data.train.width, data.train.channels);
    let graph = network(input, data.classes)?;
    let options = RunOptions {
        task: Task::Train,
        ratios: vec![0.3],
        detector: DetectorOptions::default(),
        search_epochs: 16,
        epochs: 16,
        schedule: Schedule { lr: 0.05, milestones: vec![10, 14], gamma: 0.1 },
        hyper: Hyper { momentum: 0.9, weight_decay: 1e-4, l1: 1e-4 },
        batch: BatchOptions { size: 32, shuffle: true, augment: Augment::digits(), seed: 1 },
        surgery: SurgeryOptions::default(),
        start: Start::Inherit,
        steps: None,
        swa_start: None,
        search_precision: Precision::F32,
        train_precision: Precision::F32,
    };
    let state = nn::init(&graph, 1);
    let mut run = Run::new(options, Arc::new(graph), &state, Cpu::new(), data)?;
    match run.run(&mut Printer)? {
        Outcome::NoTicket(missing) => println!("no ticket emerged: {missing:.3?}"),
        outcome => println!("{outcome:?}: {} parameters", run.trainer().session().graph().parameter_count()),
    }
    Ok(())
}
