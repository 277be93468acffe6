//! The one settings table: every entry is a flag, a key of the settings file, and a line of the run folder's `config.toml`.
//!
//! Precedence: default < file (`--config`) < flag. [`Overrides`] holds what was given, [`Settings`] what results. In the table the type in brackets is what a user gives.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::autograd::{Hyper, Int8Options, Precision, Products};
use crate::data::{self, Augment, Dataset, PhotoOptions};
use crate::ticket::{Criterion, DetectorOptions, Policy, RunOptions, Start, SurgeryOptions, Task};
use crate::train::{BatchOptions, Schedule};
use crate::{Error, Result, fsio};

/// Writes [`Settings`] (resolved) and [`Overrides`] (given) from one table: name, type, default, help, and further clap attributes.
macro_rules! settings {
    ($($(#[$clap:meta])* $name:ident: $type:ty [$given:ty] = $default:expr, $help:literal;)*) => {
        // The help texts are for the command line: their `[..]` and `<..>` are no links and no tags.
        /// Resolved settings of a run.
        #[allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Settings {
            $(#[doc = $help] #[serde(skip_serializing_if = "is_unset")] pub $name: $type,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Settings { $($name: $default,)* }
            }
        }

        /// Settings as given by flags or a file; what was not given is `None`.
        #[allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]
        #[derive(Clone, Debug, Default, PartialEq, clap::Args, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Overrides {
            $(#[doc = $help] #[arg(long, help = $help)] $(#[$clap])* pub $name: Option<$given>,)*
        }

        impl Overrides {
            /// Puts what was given over `settings`.
            pub fn apply(self, settings: &mut Settings) {
                $(if let Some(value) = self.$name { settings.$name = value.into(); })*
            }

            /// Adds what `other` gives.
            fn add(&mut self, other: Overrides) {
                $(if other.$name.is_some() { self.$name = other.$name; })*
            }
        }
    };
}

/// `Option`s that are `None` have no line in TOML.
fn is_unset<T: Serialize>(value: &T) -> bool {
    serde_json::to_value(value).is_ok_and(|value| value.is_null())
}

/// A list in a settings file: a list, one number, or the text that a flag takes.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a list of numbers, a number, or numbers in a string with commas between them")]
enum Listed<T> {
    List(Vec<T>),
    One(T),
    Text(String),
}

impl<T> Listed<T> {
    /// The items; `parse` reads the text.
    fn items(self, parse: impl Fn(&str) -> std::result::Result<Vec<T>, String>) -> std::result::Result<Vec<T>, String> {
        match self {
            Listed::List(items) => Ok(items),
            Listed::One(item) => Ok(vec![item]),
            Listed::Text(text) => parse(&text),
        }
    }
}

/// Epochs at which the rate falls, comma-separated in text; `none` for an empty list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Listed<usize>")]
pub struct Milestones(pub Vec<usize>);

impl std::str::FromStr for Milestones {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "none" {
            return Ok(Milestones(Vec::new()));
        }
        let epoch =
            |part: &str| part.trim().parse().map_err(|_| format!("`{part}` is no epoch; give epochs such as 80,120"));
        text.split(',').map(epoch).collect::<std::result::Result<_, _>>().map(Milestones)
    }
}

impl TryFrom<Listed<usize>> for Milestones {
    type Error = String;

    fn try_from(listed: Listed<usize>) -> std::result::Result<Self, String> {
        listed.items(|text| text.parse::<Milestones>().map(|list| list.0)).map(Milestones)
    }
}

/// Ratios, comma-separated in text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Listed<f64>")]
pub struct Ratios(pub Vec<f64>);

impl std::str::FromStr for Ratios {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let ratio =
            |part: &str| part.trim().parse().map_err(|_| format!("`{part}` is no ratio; give ratios such as 0.3,0.5"));
        text.split(',').map(ratio).collect::<std::result::Result<_, _>>().map(Ratios)
    }
}

impl TryFrom<Listed<f64>> for Ratios {
    type Error = String;

    fn try_from(listed: Listed<f64>) -> std::result::Result<Self, String> {
        listed.items(|text| text.parse::<Ratios>().map(|list| list.0)).map(Ratios)
    }
}

settings! {
    data: String [String] = "digits".into(), "Data set: `digits` (embedded) or a directory whose form is recognised";
    image_size: Option<usize> [usize] = None, "Decode photographs of any size while training, ImageNet's way: random crops scaled to N x N, evaluation on the middle";
    resize: Option<usize> [usize] = None, "With --image-size: shorter side before the middle is cut out [default: 256/224 of it]";
    decode_threads: usize [usize] = 0, "With --image-size: threads that decode, 0 for one per core; results do not depend on it";
    max_skipped: usize [usize] = 10, "With --image-size: files that may turn out to be no intact image; each is reported by path and skipped";
    image_cache: Option<PathBuf> [PathBuf] = None, "With --image-size: file with the decoded pictures, made where it is missing or stale";
    cache_side: u32 [u32] = 0, "With --image-cache: longest shorter side of pictures in it, 0 for whole ones, which give the same bits as no cache";
    model: String [String] = "vgg16".into(), "Model: vgg11, 13, 16, 19; preresnet20, 56, 101, 164 (any 9n+2); resnet18, 34, 50, 101, resnet50-official";
    width: f64 [f64] = 1.0, "Factor on every layer's channels";
    device: String [String] = "auto".into(), "Device: auto, cpu, vgpu[:a100|:h100|:rtx4090], cuda[:N]";
    threads: Option<usize> [usize] = None, "CPU threads; results do not depend on it [default: all]";
    batch_size: usize [usize] = 256, "Images per batch";
    lr: f64 [f64] = 0.1, "Learning rate before the first milestone";
    momentum: f32 [f32] = 0.9, "Momentum of SGD";
    weight_decay: f32 [f32] = 1e-4, "Weight decay, on every parameter";
    l1: f32 [f32] = 1e-4, "L1 factor on BN scales";
    milestones: Option<Milestones> [Milestones] = None, "Epochs from which the rate is multiplied by --lr-factor, or `none` [default: 1/2 and 3/4 of --epochs]";
    lr_factor: f64 [f64] = 0.1, "Factor on the learning rate at each milestone";
    epochs: usize [usize] = 160, "Epochs in all, search included";
    search_epochs: Option<usize> [usize] = None, "The search gives up after this many epochs [default: --epochs]";
    #[arg(value_name = "P[,P]")]
    prune: Ratios [Ratios] = Ratios(vec![0.5]), "Shares of channels to prune, watched side by side; the first one's ticket is trained on";
    draws_per_epoch: usize [usize] = 1, "Mask draws per epoch; distances are taken across one epoch";
    criterion: Criterion [Criterion] = Criterion::Consecutive, "When a ticket has emerged: consecutive (the paper) or window (the official code)";
    eps: f64 [f64] = 0.1, "Largest mask distance that counts as settled";
    queue: usize [usize] = 5, "Length of the detector's queue";
    min_channels: usize [usize] = 1, "Channels that every layer keeps at least";
    round_to: usize [usize] = 1, "Widen layers to a multiple of this";
    surgery: Policy [Policy] = Policy::Select, "Where adds tie channels: select (the stream keeps its width, gathers feed the blocks) or group (tied channels go together)";
    start: Start [Start] = Start::Inherit, "What the ticket starts from: inherit, reinit or rewind";
    search_precision: String [String] = "f32".into(), "Precision of the search: f32, eb8, int8";
    train_precision: String [String] = "f32".into(), "Precision after the ticket: f32, eb8, int8";
    #[arg(value_name = "PRODUCT[,PRODUCT]")]
    f32_products: Products [Products] = Products::default(), "Products of int8 convolutions kept in f32, to see what a rounding costs: forward, dgrad, wgrad, or none";
    master_weights: Kept [Kept] = Kept::Int8, "Weights that the optimiser of int8 keeps: int8 (rounded after every step) or f32 (only their copies for the products are)";
    scales: Kept [Kept] = Kept::F32, "BN scales, shifts and biases that the optimiser of int8 keeps: f32, or int8 (each of 7 significant bits, as in the official code; ties delay tickets)";
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    wgrad16: bool [bool] = false, "Weight gradients of int8 from output gradients of 16 bits: nearer to f32's, at twice the products";
    init: Option<PathBuf> [PathBuf] = None, "Start from a safetensors state dict with PyTorch names";
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_augment: bool [bool] = false, "No random crops and flips";
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_shuffle: bool [bool] = false, "Every epoch in the order of the file";
    swa_start: Option<usize> [usize] = None, "Average the weights after each epoch of training from this one on, counted from 0 [default: never]";
    steps: Option<u64> [u64] = None, "Stop after this many optimiser steps, save what stands, exit 0";
    seed: u64 [u64] = 1, "Seed of weights, order and augmentation";
    out: Option<PathBuf> [PathBuf] = None, "Run folder; must not exist or be empty [default: runs/<time>-<model>-<seed>]";
}

/// As what the optimiser of `int8` keeps parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// Numbers of the 8-bit grid.
    Int8,
    /// f32.
    F32,
}

impl Settings {
    /// Defaults, then the file, then the flags.
    ///
    /// # Errors
    /// [`Error::BadFile`] for an unreadable file or an unknown key, naming line and key.
    pub fn resolve(file: Option<&Path>, flags: Overrides) -> Result<Settings> {
        let mut settings = Settings::default();
        if let Some(path) = file {
            read_overrides(path)?.apply(&mut settings);
        }
        flags.apply(&mut settings);
        settings.fill();
        Ok(settings)
    }

    /// Replaces defaults that depend on other settings.
    fn fill(&mut self) {
        let epochs = self.epochs;
        self.milestones.get_or_insert_with(|| Milestones(vec![epochs / 2, epochs - epochs.div_ceil(4)]));
        self.search_epochs.get_or_insert(epochs);
    }

    /// Writes `config.toml`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self)
            .map_err(|e| Error::bad_file(path, None, e.to_string(), "this is a defect, please report it"))?;
        fsio::write_atomic(path, text.as_bytes())
    }

    /// Reads `config.toml` of a run folder.
    pub fn load(path: &Path) -> Result<Settings> {
        Settings::resolve(Some(path), Overrides::default())
    }

    /// Precisions of search and training.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for an unknown name, or options that exclude each other.
    pub fn precisions(&self) -> Result<[Precision; 2]> {
        if self.wgrad16 && self.f32_products.wgrad {
            let what = "a weight gradient in f32 has no output gradient of 16 bits";
            return Err(Error::bad_setting("--wgrad16, --f32-products", what, "give one of them for wgrad"));
        }
        if self.scales == Kept::Int8 && self.master_weights == Kept::F32 {
            let what = "scales have no 8-bit copies beside f32 ones";
            return Err(Error::bad_setting(
                "--scales, --master-weights",
                what,
                "give int8 for both, or f32 for scales",
            ));
        }
        let options = Int8Options {
            f32_products: self.f32_products,
            master_f32: self.master_weights == Kept::F32,
            wgrad16: self.wgrad16,
            scales_int8: self.scales == Kept::Int8,
        };
        let named = |flag: &str, name: &str| match Precision::named(name, options) {
            Some(precision) => Ok(precision),
            None => {
                let what = format!("there is no precision `{name}`");
                Err(Error::bad_setting(flag, what, format!("choose one of {}", Precision::NAMES.join(", "))))
            }
        };
        Ok([named("--search-precision", &self.search_precision)?, named("--train-precision", &self.train_precision)?])
    }

    /// Opens the data set. What is to be said of photographs (skipped files, the cache) goes to standard error.
    ///
    /// # Errors
    /// Those of the readers, and settings of photographs without `--image-size`.
    pub fn open_data(&self) -> Result<Dataset> {
        let Some(size) = self.image_size else {
            if self.resize.is_some() || self.image_cache.is_some() {
                let what = "is of use with photographs only";
                return Err(Error::bad_setting("--resize, --image-cache", what, "give --image-size, such as 224"));
            }
            return data::open(&self.data);
        };
        let defaults = PhotoOptions::new(size);
        let options = PhotoOptions {
            resize: self.resize.unwrap_or(defaults.resize),
            threads: self.decode_threads,
            max_skipped: self.max_skipped,
            cache: self.image_cache.clone(),
            cache_side: self.cache_side,
            report: Arc::new(|line| eprintln!("{line}")),
            ..defaults
        };
        data::photos::open(Path::new(&self.data), options)
    }

    /// How channels are removed.
    pub fn surgery_options(&self) -> SurgeryOptions {
        SurgeryOptions { min_channels: self.min_channels, round_to: self.round_to, policy: self.surgery }
    }

    /// Options of the run that these settings describe. `flip` says whether mirrored images are still of their class.
    pub fn run_options(&self, task: Task, flip: bool) -> Result<RunOptions> {
        let [search_precision, train_precision] = self.precisions()?;
        if i64::try_from(self.seed).is_err() {
            let what = format!("{} is too large for a settings file", self.seed);
            return Err(Error::bad_setting("--seed", what, "give at most 9223372036854775807"));
        }
        let augment = match (self.no_augment, flip) {
            (true, _) => Augment::none(),
            (false, true) => Augment::cifar(),
            (false, false) => Augment::digits(),
        };
        let options = RunOptions {
            task,
            ratios: self.prune.0.clone(),
            detector: DetectorOptions {
                criterion: self.criterion,
                eps: self.eps,
                queue: self.queue,
                draws_per_epoch: self.draws_per_epoch,
            },
            search_epochs: self.search_epochs.unwrap_or(self.epochs),
            epochs: self.epochs,
            schedule: Schedule {
                lr: self.lr,
                milestones: self.milestones.clone().map_or_else(Vec::new, |m| m.0),
                gamma: self.lr_factor,
            },
            hyper: Hyper { momentum: self.momentum, weight_decay: self.weight_decay, l1: self.l1 },
            batch: BatchOptions { size: self.batch_size, shuffle: !self.no_shuffle, augment, seed: self.seed },
            surgery: self.surgery_options(),
            start: self.start,
            steps: self.steps,
            search_precision,
            train_precision,
            swa_start: self.swa_start,
        };
        options.check()?;
        Ok(options)
    }
}

/// Reads a settings file; `-` and `_` are the same in keys, so that flags can be copied.
fn read_overrides(path: &Path) -> Result<Overrides> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read the settings file", path, e))?;
    let hint = "see `earlybird train --help` for the settings; keys are the flags' names without the dashes";
    let bad = |what: String| Error::bad_file(path, None, what, hint);
    let given: toml::Table = toml::from_str(&text).map_err(|e| bad(e.to_string().trim_end().to_string()))?;
    let line = |key: &str| {
        let named = |line: &str| line.split('=').next().is_some_and(|left| left.trim().trim_matches('"') == key);
        text.lines().position(named).map_or(String::new(), |i| format!("line {}: ", i + 1))
    };
    let mut all = Overrides::default();
    let mut seen = std::collections::BTreeMap::new();
    for (key, value) in given {
        let name = key.replace('-', "_");
        if let Some(first) = seen.insert(name.clone(), key.clone()) {
            return Err(bad(format!("{}`{key}` is given twice, once as `{first}`", line(&key))));
        }
        // One setting at a time, so that whatever is wrong can be told with its line.
        let one: toml::Table = std::iter::once((name, value)).collect();
        let one: Overrides = toml::Value::Table(one).try_into().map_err(|e: toml::de::Error| {
            let what = e.message().split(", expected one of").next().unwrap_or_default();
            bad(format!("{}`{key}`: {what}", line(&key)))
        })?;
        all.add(one);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = file("lr = 0.5\nbatch-size = 32\nprune = [0.3, 0.7]\nmilestones = []\n");
        let flags = Overrides { lr: Some(0.25), ..Default::default() };
        let settings = Settings::resolve(Some(file.path()), flags).unwrap();
        assert_eq!((settings.lr, settings.batch_size, settings.epochs), (0.25, 32, 160));
        assert_eq!((settings.prune, settings.milestones), (Ratios(vec![0.3, 0.7]), Some(Milestones(vec![]))));
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let mut settings = Settings { steps: Some(3), out: Some("runs/x".into()), ..Default::default() };
        settings.fill();
        let file = file("");
        settings.save(file.path()).unwrap();
        assert_eq!(Settings::load(file.path()).unwrap(), settings);
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_named() {
        for (text, words) in [
            ("lr = 1\nlearning_rate = 1\n", ["line 2", "unknown field `learning_rate`"]),
            ("epochs = \"many\"\n", ["line 1: `epochs`", "\"many\""]),
            ("\n\n batch-size = -4", ["line 3: `batch-size`", "-4"]),
            ("batch-size = 4\nbatch_size = 4", ["line 2", "twice"]),
            ("lr = 0.1\n= 3", ["line 2", "key"]),
            ("prune = [0.5, \"x\"]", ["line 1: `prune`", "a list of numbers"]),
            ("milestones = \"80,x\"", ["`milestones`", "`x` is no epoch"]),
        ] {
            let file = file(text);
            let error = Settings::resolve(Some(file.path()), Overrides::default()).unwrap_err();
            assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn lists_may_be_written_in_three_ways() {
        for (text, ratios, milestones) in [
            ("prune = 0.5\nmilestones = 3", vec![0.5], vec![3]),
            ("prune = \"0.3, 0.5\"\nmilestones = \"none\"", vec![0.3, 0.5], vec![]),
            ("prune = [0.3, 0.5]\nmilestones = [3, 4]", vec![0.3, 0.5], vec![3, 4]),
        ] {
            let settings = Settings::resolve(Some(file(text).path()), Overrides::default()).unwrap();
            assert_eq!((settings.prune.0, settings.milestones), (ratios, Some(Milestones(milestones))));
        }
    }
}
