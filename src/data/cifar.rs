//! `cifar-10-batches-bin` and `cifar-100-binary`: records of label bytes and 3,072 pixel bytes, red plane first.
//!
//! Subsets are read: any whole number of records, but the five training files of CIFAR-10 must hold equally many, so that a truncated one is noticed. Not here: the
//! Python versions (`cifar_py`).

use std::path::Path;

use super::input::{Input, read_whole};
use super::{Dataset, ImageSet, Normalise, numbered};
use crate::{Error, Result};

/// Pixels of one image, all channels.
pub(super) const PIXELS: usize = 3072;

const HINT: &str = "give an intact copy of the binary version of CIFAR";

/// Whether `folder` holds the binary form of CIFAR-10.
pub fn is_cifar10(folder: &Path) -> bool {
    let train = (1..=5).any(|number| folder.join(format!("data_batch_{number}.bin")).is_file());
    train || folder.join("test_batch.bin").is_file()
}

/// Whether `folder` holds the binary form of CIFAR-100.
pub fn is_cifar100(folder: &Path) -> bool {
    folder.join("train.bin").is_file() || folder.join("test.bin").is_file()
}

/// Reads CIFAR-10: `data_batch_1.bin` to `data_batch_5.bin`, `test_batch.bin`, and class names from `batches.meta.txt` where it exists.
pub fn load_cifar10(folder: &Path) -> Result<Dataset> {
    let (mut train, mut test, mut first) = (empty(), empty(), 0);
    for number in 1..=5 {
        let path = folder.join(format!("data_batch_{number}.bin"));
        let count = read(&path, 1, 10, &mut train)?;
        if number == 1 {
            first = count;
        }
        if count != first {
            let what = format!("holds {count} images, data_batch_1.bin holds {first}: truncated?");
            return Err(Error::bad_file(&path, None, what, HINT));
        }
    }
    read(&folder.join("test_batch.bin"), 1, 10, &mut test)?;
    dataset("cifar-10", 10, names(&folder.join("batches.meta.txt"), 10)?, train, test).check(folder)
}

/// Reads CIFAR-100: `train.bin`, `test.bin`; a record has a coarse and a fine label, the fine one counts. Class names from `fine_label_names.txt` where it exists.
pub fn load_cifar100(folder: &Path) -> Result<Dataset> {
    let (mut train, mut test) = (empty(), empty());
    read(&folder.join("train.bin"), 2, 100, &mut train)?;
    read(&folder.join("test.bin"), 2, 100, &mut test)?;
    dataset("cifar-100", 100, names(&folder.join("fine_label_names.txt"), 100)?, train, test).check(folder)
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
    Dataset {
        name: name.into(),
        classes,
        class_names,
        train,
        test,
        normalise: Normalise::cifar(),
        flip: true,
        photos: None,
    }
}

/// Class names, one a line; numbers where there is no such file.
fn names(path: &Path, classes: usize) -> Result<Vec<String>> {
    if !path.exists() {
        return Ok(numbered(classes));
    }
    let hint = "class names are optional: mend the file or take it away";
    let text = String::from_utf8(read_whole(path, 1 << 20, hint)?)
        .map_err(|e| Error::bad_file(path, Some(e.utf8_error().valid_up_to() as u64), "is no UTF-8 text", hint))?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect();
    if names.len() == classes {
        return Ok(names);
    }
    Err(Error::bad_file(path, None, format!("names {} classes, there are {classes}", names.len()), hint))
}

/// Appends a file's records, each with `labels` label bytes of which the last counts; returns how many there were.
fn read(path: &Path, labels: usize, classes: u8, set: &mut ImageSet) -> Result<usize> {
    let mut input = Input::open(path, HINT)?;
    let record = labels + PIXELS;
    let Some(length) = input.length() else {
        return Err(Error::bad_file(path, Some(0), "is packed by gzip", "unpack it (gunzip) and try again"));
    };
    let count = length as usize / record;
    if count == 0 || !length.is_multiple_of(record as u64) {
        let what = format!("holds {length} bytes, no whole number of {record}-byte records: truncated?");
        return Err(input.bad((count * record) as u64, what));
    }
    set.images.reserve(count * PIXELS);
    let mut bytes = vec![0; record];
    for i in 0..count {
        let start = input.at();
        input.fill(&mut bytes, &format_args!("image {i}"))?;
        let label = bytes[labels - 1];
        if label >= classes {
            let at = start + labels as u64 - 1;
            return Err(input.bad(at, format!("label {label} of image {i} is not below {classes}")));
        }
        set.labels.push(u32::from(label));
        push_planar(&bytes[labels..], &mut set.images);
    }
    Ok(count)
}

/// Appends a red-green-blue planar image as HWC.
pub(super) fn push_planar(planes: &[u8], images: &mut Vec<u8>) {
    let plane = planes.len() / 3;
    images.extend((0..plane).flat_map(|i| [planes[i], planes[plane + i], planes[2 * plane + i]]));
}
