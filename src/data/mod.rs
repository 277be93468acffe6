//! Data sets, readers, augmentation and the prefetching loader.
//!
//! A [`Dataset`] is u8 images in memory with labels; [`open()`] finds the reader. Photographs of any size are decoded while they are trained on ([`photos`]). Everything random is a function of (seed, epoch, index in the data set), so that an
//! epoch can be repeated, resumed in the middle, or made by any number of threads. Not here: training ([`crate::train`]).
//!
//! What readers read is nobody's word: sizes are bounded before memory is asked for, nothing in a file is executed, every message has the file and, where there is one,
//! the byte.

mod augment;
mod cifar;
mod cifar_py;
mod digits;
mod folder;
mod frame;
mod idx;
mod input;
mod loader;
mod open;
pub mod photos;
mod pickle;
mod synthetic;

pub use augment::{Augment, Normalise};
pub use loader::{Batch, Loader, LoaderOptions};
pub use open::open;
pub use photos::{PhotoOptions, Photos};
pub use synthetic::{noise, synthetic};

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// u8 images NHWC with labels, in memory; of photographs only labels and the size of inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSet {
    /// `n * height * width * channels` bytes.
    pub images: Vec<u8>,
    /// One label per image.
    pub labels: Vec<u32>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl ImageSet {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes per image.
    pub fn stride(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Image `i`, HWC.
    pub fn image(&self, i: usize) -> &[u8] {
        &self.images[i * self.stride()..][..self.stride()]
    }
}

/// A data set, ready to train on.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// As shown to users.
    pub name: String,
    /// Number of classes.
    pub classes: usize,
    /// Their names; numbers where the data set has none.
    pub class_names: Vec<String>,
    /// Training images.
    pub train: ImageSet,
    /// Test images.
    pub test: ImageSet,
    /// Mean and deviation per channel.
    pub normalise: Normalise,
    /// Whether a mirrored image is still of its class: photographs yes, digits no.
    pub flip: bool,
    /// Where images come from that are decoded while they are trained on; `None` where they lie in memory.
    pub photos: Option<Arc<Photos>>,
}

/// What a data set is, for files that depend on it: a run can only go on with the very images it began with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetInfo {
    /// As shown to users.
    pub name: String,
    /// Names of the classes, by label.
    pub class_names: Vec<String>,
    /// Training images.
    pub train: usize,
    /// Test images.
    pub test: usize,
    /// CRC-32C of all sizes, labels and pixels; of photographs, of names and lengths of files instead of pixels.
    pub checksum: u32,
}

impl std::fmt::Display for DatasetInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let DatasetInfo { name, class_names, train, test, checksum } = self;
        let classes = class_names.len();
        write!(f, "{name}, {classes} classes, {train} training and {test} test images, checksum {checksum:08x}")
    }
}

impl Dataset {
    /// What it is. The checksum covers what training depends on, not names.
    pub fn info(&self) -> DatasetInfo {
        let checksum = [&self.train, &self.test].iter().fold(0, |sum, set| {
            let sizes = [set.len(), set.height, set.width, set.channels, self.classes];
            let sum = sizes.iter().fold(sum, |sum, size| crc32c::crc32c_append(sum, &(*size as u64).to_le_bytes()));
            let sum = set.labels.iter().fold(sum, |sum, label| crc32c::crc32c_append(sum, &label.to_le_bytes()));
            crc32c::crc32c_append(sum, &set.images)
        });
        let checksum = self.photos.as_ref().map_or(checksum, |photos| photos.checksum(checksum));
        DatasetInfo {
            name: self.name.clone(),
            class_names: self.class_names.clone(),
            train: self.train.len(),
            test: self.test.len(),
            checksum,
        }
    }

    /// Checks what every reader must guarantee: both parts have images of one shape, and labels below `classes`. `path` is for messages.
    pub(crate) fn check(self, path: &Path) -> Result<Dataset> {
        for (part, set) in [("training", &self.train), ("test", &self.test)] {
            let hint = "give an intact copy of the data set";
            if set.is_empty() || set.images.len() != set.len() * set.stride() {
                return Err(Error::bad_file(path, None, format!("has no {part} images"), hint));
            }
            if let Some(i) = set.labels.iter().position(|label| *label as usize >= self.classes) {
                let what = format!("{part} image {i} has label {}, there are {} classes", set.labels[i], self.classes);
                return Err(Error::bad_file(path, None, what, hint));
            }
        }
        let shape = |set: &ImageSet| (set.height, set.width, set.channels);
        if shape(&self.train) != shape(&self.test) {
            let what = format!("training images are {:?}, test images {:?}", shape(&self.train), shape(&self.test));
            return Err(Error::bad_file(path, None, what, "both parts must have images of one size"));
        }
        Ok(self)
    }
}

/// `0`, `1`, .. as class names.
pub(crate) fn numbered(classes: usize) -> Vec<String> {
    (0..classes).map(|class| class.to_string()).collect()
}
