//! Folders of photographs of any size, decoded while they are trained on: what ImageNet needs.
//!
//! A [`Photos`] knows paths and labels only. Its own threads decode what a batch needs, crop and scale it (`crop`); the loader's queue bounds what is made ahead, and one
//! batch is in the making at a time, so memory does not grow with the data. Everything random is a function of (seed, epoch, index), as everywhere.
//!
//! A file that is no intact image is reported by path and skipped, up to a limit: in training the next intact image of the list stands in for it, with that one's label, so
//! that batches keep their size; in evaluation it is left out and not counted. Both depend on the files alone, never on threads or on where a run was resumed; only the
//! count towards the limit begins anew with each process.
//!
//! Not here: small images of one size, which fit into memory (`folder`).

mod cache;
mod crop;
mod picture;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use self::cache::{Cache, Key, Unusable};
use self::crop::Scaler;
use self::picture::Picture;
pub(super) use self::picture::has_jpeg_end;
use super::augment::write_image;
use super::input::read_whole;
use super::{Augment, Dataset, ImageSet, Normalise, folder};
use crate::quant::philox::Stream;
use crate::{Error, Result};

/// What is told to whoever opened the data: a line.
pub type Report = Arc<dyn Fn(&str) + Send + Sync>;

/// How photographs become inputs.
#[derive(Clone)]
pub struct PhotoOptions {
    /// Rows and columns of an input.
    pub size: usize,
    /// For evaluation, the shorter side before the middle is cut out; at least `size`. torchvision's 256 for 224.
    pub resize: usize,
    /// Threads that decode; 0 for as many as there are cores.
    pub threads: usize,
    /// Files that may turn out to be no image.
    pub max_skipped: usize,
    /// File with decoded pictures; it is made where it is missing.
    pub cache: Option<PathBuf>,
    /// Longest shorter side in the cache, 0 for whole pictures. Smaller pictures need less room; crops are then taken from them.
    pub cache_side: u32,
    /// Told of skipped files and of the cache.
    pub report: Report,
}

impl PhotoOptions {
    /// Inputs of `size` x `size`, evaluated at 256/224 of it; nothing is said and nothing skipped.
    pub fn new(size: usize) -> PhotoOptions {
        let resize = size * 256 / 224;
        PhotoOptions { size, resize, threads: 0, max_skipped: 0, cache: None, cache_side: 0, report: Arc::new(|_| {}) }
    }

    /// Checks the sizes.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for sizes outside 32..=1024 or a `resize` below `size`.
    pub fn check(&self) -> Result<()> {
        if !(32..=1024).contains(&self.size) {
            let what = format!("inputs of {0}x{0} pixels are too small or too large", self.size);
            return Err(Error::bad_setting("--image-size", what, "give 32 to 1024, such as 224"));
        }
        if !(self.size..=4096).contains(&self.resize) {
            let what = format!("{} is no shorter side to cut {1}x{1} pixels out of", self.resize, self.size);
            return Err(Error::bad_setting("--resize", what, format!("give {} to 4096", self.size)));
        }
        if self.threads > 1024 {
            return Err(Error::bad_setting(
                "--decode-threads",
                format!("{} is too many", self.threads),
                "give at most 1024",
            ));
        }
        Ok(())
    }
}

/// Part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Training images.
    Train,
    /// Test images.
    Test,
}

/// A folder of photographs.
pub struct Photos {
    /// Training images, then test images.
    files: Vec<File>,
    /// Training images.
    train: usize,
    options: PhotoOptions,
    cache: Option<Cache>,
    pool: rayon::ThreadPool,
    /// Files that turned out to be no image, by number: what was said of them.
    skipped: Mutex<BTreeMap<usize, String>>,
}

struct File {
    path: PathBuf,
    label: u32,
    length: u64,
}

impl std::fmt::Debug for Photos {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Photos").field("files", &self.files.len()).field("train", &self.train).finish_non_exhaustive()
    }
}

/// Opens `train/<class>/*.jpg|png` and `test/` or `val/` likewise.
///
/// # Errors
/// Where the folder has another form, an option is out of range, or the cache cannot be made.
pub fn open(spec: &Path, options: PhotoOptions) -> Result<Dataset> {
    options.check()?;
    let (class_names, train, test) = folder::files(spec)?;
    let count = train.len();
    let mut stamps = 0;
    let files = train.into_iter().chain(test).map(|(path, label)| {
        let about = std::fs::metadata(&path).map_err(|e| Error::io("read", &path, e))?;
        let changed = about.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        stamps = crc32c::crc32c_append(stamps, name_below(spec, &path).as_bytes());
        stamps = crc32c::crc32c_append(stamps, &about.len().to_le_bytes());
        stamps = crc32c::crc32c_append(stamps, &changed.map_or(0, |time| time.as_nanos()).to_le_bytes());
        Ok(File { path, label, length: about.len() })
    });
    let files = files.collect::<Result<Vec<File>>>()?;
    let builder = rayon::ThreadPoolBuilder::new().num_threads(options.threads).thread_name(|i| format!("decode {i}"));
    let pool = builder.build().map_err(|e| Error::io("start", "the decoding threads", std::io::Error::other(e)))?;
    let mut photos = Photos { files, train: count, cache: None, pool, skipped: Mutex::default(), options };
    photos.cache = photos.open_cache(stamps)?;
    let size = photos.options.size;
    let part = |files: &[File]| ImageSet {
        images: Vec::new(),
        labels: files.iter().map(|file| file.label).collect(),
        height: size,
        width: size,
        channels: 3,
    };
    let (train, test) = photos.files.split_at(count);
    Ok(Dataset {
        name: folder::name(&spec.canonicalize().unwrap_or_else(|_| spec.into())),
        classes: class_names.len(),
        class_names,
        train: part(train),
        test: part(test),
        normalise: Normalise::imagenet(),
        flip: true,
        photos: Some(Arc::new(photos)),
    })
}

/// The path within the data set, the same on every system.
fn name_below(folder: &Path, path: &Path) -> String {
    let below = path.strip_prefix(folder).unwrap_or(path);
    below.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// How one image is to be looked at.
#[derive(Clone, Copy)]
struct View {
    augment: Augment,
    seed: u64,
    epoch: usize,
}

/// What [`Photos::batch`] makes.
pub(super) struct Inputs {
    /// Normalised, NHWC.
    pub images: Vec<f32>,
    /// Labels.
    pub labels: Vec<u32>,
}

impl Photos {
    /// What the data are, without reading them: paths and lengths.
    pub(super) fn checksum(&self, sum: u32) -> u32 {
        let Photos { files, options, .. } = self;
        let sizes = [options.size as u64, options.resize as u64, u64::from(options.cache_side)];
        // Only a cache of smaller pictures changes what is trained on.
        let sizes = if options.cache.is_some() { &sizes[..] } else { &sizes[..2] };
        let sum = sizes.iter().fold(sum, |sum, size| crc32c::crc32c_append(sum, &size.to_le_bytes()));
        files.iter().fold(sum, |sum, file| {
            let name = folder::name(&file.path);
            let sum = crc32c::crc32c_append(sum, name.as_bytes());
            crc32c::crc32c_append(sum, &[file.length.to_le_bytes(), u64::from(file.label).to_le_bytes()].concat())
        })
    }

    /// Files skipped so far: path and reason.
    pub fn skipped(&self) -> Vec<(PathBuf, String)> {
        let skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        skipped.iter().map(|(number, why)| (self.files[*number].path.clone(), why.clone())).collect()
    }

    /// Makes the batch of images `indices` of `part`, with random crops and flips where `augment` has them.
    ///
    /// # Errors
    /// Where more files than may be skipped are no images, or the cache is damaged.
    pub(super) fn batch(
        &self,
        part: Part,
        indices: &[u32],
        augment: Augment,
        (seed, epoch): (u64, usize),
        table: &[[f32; 256]],
    ) -> Result<Inputs> {
        let view = View { augment, seed, epoch };
        let stride = self.options.size * self.options.size * 3;
        let mut images = vec![0.0; indices.len() * stride];
        let made: Vec<Result<Made>> = self.pool.install(|| {
            let jobs = images.par_chunks_exact_mut(stride).zip(indices);
            jobs.map_init(Worker::default, |worker, (out, index)| {
                self.input(part, *index as usize, view, table, worker, out)
            })
            .collect()
        });
        let (mut labels, mut kept) = (Vec::with_capacity(indices.len()), 0);
        for (i, made) in made.into_iter().enumerate() {
            let made = made?;
            self.skip(made.skipped)?;
            let Some(label) = made.label else { continue };
            // What was left out in front moves the rest up.
            images.copy_within(i * stride..(i + 1) * stride, kept * stride);
            labels.push(label);
            kept += 1;
        }
        images.truncate(kept * stride);
        if kept == 0 {
            let what = "no image of a whole batch can be read";
            return Err(Error::bad_file(
                &self.files[self.number(part, 0)].path,
                None,
                what,
                "see what was said of each",
            ));
        }
        Ok(Inputs { images, labels })
    }

    /// Number of image `index` of `part` among all.
    fn number(&self, part: Part, index: usize) -> usize {
        if part == Part::Test { self.train + index } else { index }
    }

    /// One input; of another image where this one cannot be read and it is for training.
    fn input(
        &self,
        part: Part,
        index: usize,
        view: View,
        table: &[[f32; 256]],
        worker: &mut Worker,
        out: &mut [f32],
    ) -> Result<Made> {
        let count = if part == Part::Train { self.train } else { 1 };
        let mut skipped = Vec::new();
        for turn in 0..count {
            let number = if part == Part::Train { (index + turn) % self.train } else { self.number(part, index) };
            match self.picture(number)? {
                Ok(picture) => {
                    let what = |e| Error::bad_file(&self.files[number].path, None, e, "a defect, please report it");
                    worker.write(&picture, &self.options, view, index, table, out).map_err(what)?;
                    return Ok(Made { label: Some(self.files[number].label), skipped });
                }
                Err(why) => skipped.push((number, why)),
            }
            if skipped.len() > self.options.max_skipped {
                break; // the limit is passed whoever is next
            }
        }
        Ok(Made { label: None, skipped })
    }

    /// Picture `number`, or why there is none.
    fn picture(&self, number: usize) -> Result<std::result::Result<Picture, String>> {
        match self.cache.as_ref().map(|cache| cache.picture(number)).transpose()?.flatten() {
            Some(picture) => Ok(Ok(picture)),
            None => Ok(self.decode(number)),
        }
    }

    /// Picture `number` from its file.
    fn decode(&self, number: usize) -> std::result::Result<Picture, String> {
        let path = &self.files[number].path;
        let bytes = read_whole(path, picture::MAX_FILE, "it is skipped").map_err(|error| match error {
            Error::BadFile { what, .. } => what,
            Error::Io { source, .. } => source.to_string(),
            other => other.to_string(),
        })?;
        picture::decode(&bytes)
    }

    /// Counts and tells of files that are no images.
    fn skip(&self, files: Vec<(usize, String)>) -> Result<()> {
        let mut skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, why) in files {
            if skipped.contains_key(&number) {
                continue;
            }
            let path = &self.files[number].path;
            (self.options.report)(&format!("skipped {}: {why}", path.display()));
            skipped.insert(number, why.clone());
            if skipped.len() > self.options.max_skipped {
                let what = format!("is no intact image ({why}); with it, {} files are skipped", skipped.len());
                let hint = format!(
                    "mend the files or take them away, or allow more by --max-skipped (now {})",
                    self.options.max_skipped
                );
                return Err(Error::bad_file(path, None, what, hint));
            }
        }
        Ok(())
    }

    /// The cache of the options, made anew where there is none that fits.
    fn open_cache(&self, source: u32) -> Result<Option<Cache>> {
        let Some(path) = &self.options.cache else { return Ok(None) };
        let key = Key { count: self.files.len() as u64, source, side: self.options.cache_side };
        let tell = |line: String| (self.options.report)(&line);
        match Cache::open(path, key) {
            Ok(cache) => return Ok(Some(cache)),
            Err(Unusable::Refused(error)) => return Err(error),
            Err(Unusable::Missing) => tell(format!("making the cache {}: {} pictures", path.display(), key.count)),
            Err(Unusable::Stale(why)) => tell(format!("making the cache {} anew: {why}", path.display())),
        }
        // As many at once as keep the threads busy, no more: pictures may be large.
        let numbers: Vec<usize> = (0..self.files.len()).collect();
        let pictures = numbers.chunks(2 * self.pool.current_num_threads()).flat_map(|chunk| {
            self.pool.install(|| {
                let shrink = |scaler: &mut Scaler, number: &usize| {
                    self.decode(*number).and_then(|picture| scaler.shrink(picture, key.side)).ok()
                };
                chunk.par_iter().map_init(Scaler::default, shrink).collect::<Vec<_>>()
            })
        });
        Cache::make(path, key, pictures)?;
        match Cache::open(path, key) {
            Ok(cache) => Ok(Some(cache)),
            Err(Unusable::Refused(error)) => Err(error),
            Err(Unusable::Missing | Unusable::Stale(_)) => {
                let what = "was just made and is not as it was written";
                Err(Error::bad_file(path, None, what, "is another process writing to it?"))
            }
        }
    }
}

/// One input that was tried.
struct Made {
    /// `None` where there is none.
    label: Option<u32>,
    /// Files on the way that are no images.
    skipped: Vec<(usize, String)>,
}

/// What a thread keeps from image to image.
#[derive(Default)]
struct Worker {
    scaler: Scaler,
    scaled: Vec<u8>,
}

impl Worker {
    /// Writes the normalised input of image `index`. Errors are defects.
    fn write(
        &mut self,
        picture: &Picture,
        options: &PhotoOptions,
        view: View,
        index: usize,
        table: &[[f32; 256]],
        out: &mut [f32],
    ) -> std::result::Result<(), String> {
        let side = options.size as u32;
        self.scaled.resize(options.size * options.size * 3, 0);
        let mut stream = Stream::new(view.seed ^ 0x1A6E_C209, (view.epoch as u64) << 32 | index as u64);
        let mirror = view.augment.flip && stream.word() >> 31 == 1;
        if view.augment.crop {
            let crop = crop::random(&mut stream, picture.width, picture.height);
            self.scaler.train(picture, crop, side, &mut self.scaled)?;
        } else {
            self.scaler.evaluate(picture, options.resize as u32, side, &mut self.scaled)?;
        }
        write_image(&self.scaled, options.size, 0, (0, 0, mirror), table, out);
        Ok(())
    }
}
