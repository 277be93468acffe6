//! Averaged weights (SWA: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018), as the official low-precision training has them
//! (early-bird.md 5.5).
//!
//! From a chosen epoch on, the weights after each epoch go into a mean in f32, whatever precision trains: `mean = mean*(1-a) + w*a` with `a = 1/(n+1)` after `n` epochs. The
//! averaged network has no running statistics of its own, so they are estimated over one pass of the training data: the mean of the batches' means and unbiased variances, each
//! batch counted by its images. Not here: when to average ([`crate::ticket::Run`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Trainer;
use crate::Result;
use crate::autograd::{Hyper, Session, StateDict};
use crate::graph::Graph;
use crate::ops::Metrics;

/// A running mean of weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Average {
    /// Epochs in it.
    pub epochs: usize,
    /// Trained parameters; the running statistics too once they were estimated.
    pub state: StateDict,
}

impl Average {
    /// Takes in the weights of `state`, a state of `graph`.
    pub fn add(&mut self, graph: &Graph, mut state: StateDict) {
        let share = 1.0 / (self.epochs as f64 + 1.0);
        let (kept, taken) = ((1.0 - share) as f32, share as f32);
        for parameter in graph.parameters().iter().filter(|p| p.kind.trained()) {
            let Some(now) = state.remove(&parameter.name) else { continue };
            match self.state.get_mut(&parameter.name) {
                Some(mean) => mean.data.iter_mut().zip(&now.data).for_each(|(m, w)| *m = *m * kept + w * taken),
                None => _ = self.state.insert(parameter.name.clone(), now),
            }
        }
        self.epochs += 1;
    }
}

impl Trainer {
    /// Estimates the running statistics of an averaged network over the training data of the epoch that the trainer is in, and evaluates it, in f32. Leaves its own network alone.
    ///
    /// # Errors
    /// What the device says.
    pub fn settle(&self, average: &mut Average) -> Result<Metrics> {
        // With a momentum of 1 the running statistics are those of the last batch.
        let graph = Arc::new(self.session.graph().with_bn_momentum(1.0));
        let mut session = Session::new(graph, self.session.backend().clone(), Hyper::default())?;
        let mut state = self.session.state_dict()?;
        state.extend(average.state.clone());
        session.load_state(&state)?;
        let (mut sums, mut images) = (BTreeMap::<String, Vec<f64>>::new(), 0);
        let (train, test) = self.loaders();
        for batch in train.epoch(self.position.epoch, 0..train.batches()) {
            let batch = batch?;
            session.estimate(&batch.images, &batch.labels)?;
            for (name, tensor) in session.running_statistics()? {
                let sum = sums.entry(name).or_insert_with(|| vec![0.0; tensor.data.len()]);
                sum.iter_mut().zip(&tensor.data).for_each(|(s, v)| *s += f64::from(*v) * batch.labels.len() as f64);
            }
            images += batch.labels.len();
        }
        for (name, sum) in sums {
            if let Some(tensor) = state.get_mut(&name) {
                tensor.data = sum.iter().map(|s| (s / images as f64) as f32).collect();
            }
        }
        session.load_state(&state)?;
        average.state = state;
        super::trainer::evaluation(test, &mut session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::Tensor;
    use crate::backend::cpu::Cpu;
    use crate::data::Augment;
    use crate::nn::{ModelOptions, build, init};
    use crate::ops::ParameterKind;
    use crate::train::{BatchOptions, Schedule};

    #[test]
    fn the_mean_is_that_of_all_states_and_leaves_statistics_out() {
        let graph = build("vgg11", &ModelOptions { width: 0.0625, ..Default::default() }).unwrap();
        let states: Vec<StateDict> = (0..5).map(|seed| init(&graph, seed)).collect();
        let mut average = Average::default();
        states.iter().for_each(|state| average.add(&graph, state.clone()));
        assert_eq!(average.epochs, 5);
        let trained: Vec<_> = graph.parameters().into_iter().filter(|p| p.kind.trained()).collect();
        assert_eq!(average.state.len(), trained.len());
        for p in trained {
            for (i, mean) in average.state[&p.name].data.iter().enumerate() {
                let all: Vec<f64> = states.iter().map(|s| f64::from(s[&p.name].data[i])).collect();
                let (want, size) = (all.iter().sum::<f64>() / 5.0, all.iter().fold(0.0, |a: f64, b| a.max(b.abs())));
                assert!((f64::from(*mean) - want).abs() <= 1e-6 * size, "{}: {mean} for {want}", p.name);
            }
        }
    }

    /// Against sums over each batch's own statistics, which a network of momentum 1 shows one by one; the batches differ in size.
    #[test]
    fn statistics_are_the_mean_over_the_images_and_the_network_stays() {
        let data = crate::data::open("digits").unwrap();
        let options = ModelOptions {
            width: 0.0625,
            input: crate::ops::Shape::new(data.train.height, data.train.width, data.train.channels),
            classes: data.classes,
        };
        let (graph, data) = (Arc::new(build("vgg11", &options).unwrap()), Arc::new(data));
        let state = init(&graph, 3);
        let mut session = Session::new(graph.clone(), Cpu::new(), Hyper::default()).unwrap();
        session.load_state(&state).unwrap();
        let batch = BatchOptions { size: 500, shuffle: true, augment: Augment::digits(), seed: 5 };
        let schedule = Schedule { lr: 0.1, milestones: Vec::new(), gamma: 0.1 };
        let trainer = Trainer::new(session, &data, batch, schedule).unwrap();
        assert_ne!(data.train.len() % 500, 0, "the last batch is smaller");
        let mut average = Average::default();
        average.add(&graph, state.clone());
        let test = trainer.settle(&mut average).unwrap();
        assert_eq!(trainer.session().state_dict().unwrap(), state, "the trained network is not touched");
        assert_eq!(test.count as usize, data.test.len());

        // A batchnorm's first statistics from the batches themselves: those of the first layer do not depend on any other.
        let name = graph.bn_layers()[0].name.clone();
        let mut one = Session::new(Arc::new(graph.with_bn_momentum(1.0)), Cpu::new(), Hyper::default()).unwrap();
        one.load_state(&state).unwrap();
        let (mut sum, mut images) = (vec![0.0; average.state[&format!("{name}.running_mean")].data.len()], 0.0);
        let (train, _) = trainer.loaders();
        for batch in train.epoch(0, 0..train.batches()) {
            let batch = batch.unwrap();
            one.differentiate(&batch.images, &batch.labels).unwrap(); // moves running statistics, too
            let seen: Tensor = one.state_dict().unwrap().remove(&format!("{name}.running_mean")).unwrap();
            sum.iter_mut().zip(&seen.data).for_each(|(s, v)| *s += f64::from(*v) * batch.labels.len() as f64);
            images += batch.labels.len() as f64;
        }
        for (got, sum) in average.state[&format!("{name}.running_mean")].data.iter().zip(&sum) {
            assert!((f64::from(*got) - sum / images).abs() < 1e-6, "{got} for {}", sum / images);
        }
        let statistics = graph.parameters().into_iter().filter(|p| p.kind == ParameterKind::RunningVar);
        assert!(statistics.into_iter().all(|p| average.state[&p.name] != state[&p.name]));
    }
}
