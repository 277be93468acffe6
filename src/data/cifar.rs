//! `cifar-10-batches-bin` and `cifar-100-binary`: records of label bytes and 3,072 pixel bytes, red plane first.

use std::path::Path;

use super::{Dataset, ImageSet, Normalise, numbered};
use crate::{Error, Result};

/// Pixels of one image.
pub(super) const PIXELS: usize = 3072;

/// Whether `folder` holds the binary form of CIFAR-10.
pub fn is_cifar10(folder: &Path) -> bool {
    folder.join("data_batch_1.bin").is_file() || folder.join("test_batch.bin").is_file()
}

/// Whether `folder` holds the binary form of CIFAR-100.
pub fn is_cifar100(folder: &Path) -> bool {
    folder.join("train.bin").is_file() || folder.join("test.bin").is_file()
}

/// Reads CIFAR-10: `data_batch_1.bin` to `data_batch_5.bin`, `test_batch.bin`, and class names from `batches.meta.txt` where it exists.
pub fn load_cifar10(folder: &Path) -> Result<Dataset> {
    let mut train = empty();
    for number in 1..=5 {
        read(&folder.join(format!("data_batch_{number}.bin")), 1, 10, &mut train)?;
    }
    let mut test = empty();
    read(&folder.join("test_batch.bin"), 1, 10, &mut test)?;
    dataset("cifar-10", 10, names(&folder.join("batches.meta.txt"), 10), train, test).check(folder)
}

/// Reads CIFAR-100: `train.bin`, `test.bin`; a record has a coarse and a fine label, the fine one counts.
pub fn load_cifar100(folder: &Path) -> Result<Dataset> {
    let (mut train, mut test) = (empty(), empty());
    read(&folder.join("train.bin"), 2, 100, &mut train)?;
    read(&folder.join("test.bin"), 2, 100, &mut test)?;
    dataset("cifar-100", 100, names(&folder.join("fine_label_names.txt"), 100), train, test).check(folder)
}

pub(super) fn empty() -> ImageSet {
    ImageSet { images: Vec::new(), labels: Vec::new(), height: 32, width: 32, channels: 3 }
}

pub(super) fn dataset(
    name: &str,
    classes: usize,
    class_names: Vec<String>,
    train: ImageSet,
    test: ImageSet,
) -> Dataset {
    Dataset { name: name.into(), classes, class_names, train, test, normalise: Normalise::cifar(), flip: true }
}

/// Class names, one a line; numbers where the file is missing or has another count.
fn names(path: &Path, classes: usize) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect();
    if names.len() == classes { names } else { numbered(classes) }
}

fn read(path: &Path, labels: usize, classes: u32, set: &mut ImageSet) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let record = labels + PIXELS;
    let hint = "give an intact copy of the binary version of CIFAR";
    if bytes.is_empty() || bytes.len() % record != 0 {
        let whole = bytes.len() / record * record;
        let what = format!("holds {} bytes, no whole number of {record}-byte records: truncated?", bytes.len());
        return Err(Error::bad_file(path, Some(whole as u64), what, hint));
    }
    set.images.reserve(bytes.len() / record * PIXELS);
    for (i, record_bytes) in bytes.chunks_exact(record).enumerate() {
        let label = u32::from(record_bytes[labels - 1]);
        if label >= classes {
            let at = i * record + labels - 1;
            return Err(Error::bad_file(
                path,
                Some(at as u64),
                format!("label {label} of image {i} is not below {classes}"),
                hint,
            ));
        }
        set.labels.push(label);
        push_planar(&record_bytes[labels..], &mut set.images);
    }
    Ok(())
}

/// Appends a red-green-blue planar image as HWC.
pub(super) fn push_planar(planes: &[u8], images: &mut Vec<u8>) {
    let plane = planes.len() / 3;
    images.extend((0..plane).flat_map(|i| [planes[i], planes[plane + i], planes[2 * plane + i]]));
}
