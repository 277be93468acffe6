//! `earlybird bench loader`: images per second that come out of the loader of photographs, beside the training step that they feed, and whether memory stays flat. Measured.
//!
//! Three rates: the loader alone, the step alone on inputs that lie ready, and both together. Where both share cores, together they cannot be faster than
//! `1 / (1 / loader + 1 / step)` by much; where the step runs elsewhere, together should be the slower of the two.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use super::bench::resident_bytes;
use super::{DONE, Settings, device, say};
use crate::autograd::{Hyper, Session};
use crate::data::{Augment, Batch, Loader, LoaderOptions};
use crate::quant::philox::Stream;
use crate::{Error, Result, nn, ops};

/// Arguments of `bench loader`.
#[derive(Args)]
pub struct LoaderArgs {
    /// Folder of photographs [default: 96 made-up JPEG pictures of 500x375]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Rows and columns of an input
    #[arg(long, default_value_t = 224)]
    image_size: usize,
    /// Threads that decode, 0 for one per core
    #[arg(long, default_value_t = 0)]
    decode_threads: usize,
    /// File with decoded pictures, made where it is missing
    #[arg(long)]
    image_cache: Option<PathBuf>,
    /// Model that is fed
    #[arg(long, default_value = "resnet18")]
    model: String,
    /// Factor on every layer's channels
    #[arg(long, default_value_t = 1.0)]
    width: f64,
    /// Device of the step
    #[arg(long, default_value = "auto")]
    device: String,
    /// CPU threads of the step [default: all]
    #[arg(long)]
    threads: Option<usize>,
    /// Images per batch
    #[arg(long, default_value_t = 16)]
    batch_size: usize,
    /// Batches to measure of each kind, after one epoch to warm up
    #[arg(long, default_value_t = 24)]
    batches: usize,
    /// End with one JSON line
    #[arg(long)]
    json: bool,
}

/// Pictures that are made where none are given.
const MADE: usize = 96;

impl LoaderArgs {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        if self.batch_size == 0 || self.batches == 0 {
            return Err(Error::bad_setting("--batch-size, --batches", "0 measures nothing", "give at least 1"));
        }
        let backend = device::open(&self.device, self.threads)?;
        let made = self.data.is_none().then(make_pictures).transpose()?;
        let folder = self.data.clone().or_else(|| made.as_ref().map(|made| made.path().into())).unwrap_or_default();
        let settings = Settings {
            data: folder.to_string_lossy().into_owned(),
            image_size: Some(self.image_size),
            decode_threads: self.decode_threads,
            image_cache: self.image_cache.clone(),
            ..Default::default()
        };
        let data = Arc::new(settings.open_data()?);
        let options = LoaderOptions { batch_size: self.batch_size, augment: Augment::cifar(), ..Default::default() };
        let loader = Loader::train(&data, options)?;
        let input = ops::Shape::new(self.image_size, self.image_size, 3);
        let model = nn::ModelOptions { classes: data.classes, input, width: self.width };
        let graph = nn::build(&self.model, &model)?;
        let mut session = Session::new(Arc::new(graph.clone()), backend.clone(), Hyper::default())?;
        session.load_state(&nn::init(&graph, 1))?;

        let mut ready = None;
        // Epoch after epoch as training has them; the first one warms up and is not counted. Images per second, and memory after each epoch.
        let supply = |take: &mut dyn FnMut(Batch) -> Result<()>| -> Result<(f64, Vec<u64>)> {
            let (mut seen, mut images, mut seconds, mut memory) = (0, 0, 0.0, Vec::new());
            for epoch in 0.. {
                let start = Instant::now();
                let mut counted = 0;
                for batch in loader.epoch(epoch, 0..loader.batches()) {
                    let batch = batch?;
                    counted += batch.labels.len();
                    seen += 1;
                    take(batch)?;
                }
                if epoch > 0 {
                    images += counted;
                    seconds += start.elapsed().as_secs_f64();
                }
                memory.extend(resident_bytes());
                if epoch > 0 && seen >= self.batches {
                    break;
                }
            }
            Ok((images as f64 / seconds, memory))
        };
        let (alone, _) = supply(&mut |batch| {
            ready = Some(batch);
            Ok(())
        })?;
        // The step's own memory is there after its first epoch: from then on it has to stay flat.
        let (fed, memory) = supply(&mut |batch| {
            session.step(&batch.images, &batch.labels, 0.01)?;
            backend.synchronize()
        })?;
        let batch = ready.ok_or_else(|| Error::bad_setting("--data", "there are no batches", "give more images"))?;
        let start = Instant::now();
        for _ in 0..self.batches {
            session.step(&batch.images, &batch.labels, 0.01)?;
        }
        backend.synchronize()?;
        let step = (self.batches * batch.labels.len()) as f64 / start.elapsed().as_secs_f64();

        let threads = if self.decode_threads == 0 { rayon::current_num_threads() } else { self.decode_threads };
        say(format_args!(
            "loader alone {alone:.1} images/s ({threads} threads, {0}x{0}{1}), step alone {step:.1} ({2} width {3}, batch {4}, {5}), together {fed:.1}",
            self.image_size,
            if self.image_cache.is_some() { ", from the cache" } else { "" },
            self.model,
            self.width,
            self.batch_size,
            backend.name(),
        ));
        let (first, last) = (memory.first().copied(), memory.last().copied());
        if let (Some(first), Some(last)) = (first, last) {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            say(format_args!(
                "memory {:.1} MiB after the first epoch of training, {:.1} MiB after the last of {}",
                mib(first),
                mib(last),
                memory.len()
            ));
        }
        if self.json {
            say(serde_json::json!({
                "loader_images_per_second": alone, "step_images_per_second": step, "fed_images_per_second": fed, "decode_threads": threads,
                "image_size": self.image_size, "model": self.model, "width": self.width, "batch_size": self.batch_size, "device": backend.name(),
                "cache": self.image_cache.is_some(), "resident_bytes_first": first, "resident_bytes_last": last, "epochs": memory.len(),
            }));
        }
        Ok(DONE)
    }
}

/// A folder of made-up photographs of ImageNet's usual size: smooth colours, edges and noise, so that they cost about as much to decode.
fn make_pictures() -> Result<tempfile::TempDir> {
    let temp = tempfile::tempdir().map_err(|e| Error::io("make a folder for", "made-up pictures", e))?;
    for i in 0..MADE {
        let folder =
            temp.path().join(if i % 6 == 5 { "val" } else { "train" }).join(if i % 2 == 0 { "even" } else { "odd" });
        std::fs::create_dir_all(&folder).map_err(|e| Error::io("create the folder", &folder, e))?;
        picture(&folder.join(format!("{i:03}.jpg")), i)?;
    }
    // Both parts need both classes: 5, 11, 17 .. are all odd.
    let even = temp.path().join("val/even");
    std::fs::create_dir_all(&even).map_err(|e| Error::io("create the folder", &even, e))?;
    picture(&even.join("000.jpg"), MADE)?;
    Ok(temp)
}

fn picture(path: &Path, seed: usize) -> Result<()> {
    let mut stream = Stream::new(seed as u64, 0x9107);
    let wave: [f64; 6] = std::array::from_fn(|_| 0.01 + 0.08 * stream.unit());
    let image = image::RgbImage::from_fn(500, 375, |x, y| {
        let (x, y) = (f64::from(x), f64::from(y));
        let noise = stream.unit() * 12.0;
        let edge = if (x + 2.0 * y) % 97.0 < 40.0 { 35.0 } else { 0.0 };
        image::Rgb(std::array::from_fn(|c| {
            (110.0 + 80.0 * (wave[c] * x).sin() * (wave[c + 3] * y).cos() + edge + noise) as u8
        }))
    });
    let error = |e: image::ImageError| Error::io("write", path, std::io::Error::other(e));
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).map_err(|e| Error::io("write", path, e))?);
    image.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 90)).map_err(error)
}
