//! `cifar-10-batches-py` and `cifar-100-python`: the Python versions of CIFAR, as torchvision keeps them.
//!
//! Each file is a pickled dict: `data`, an array of n x 3,072 bytes (red plane first), and a list of labels: `labels`, or `fine_labels` of CIFAR-100. What else it
//! holds (file names, coarse labels) is not looked at. Not here: the pickle format (`pickle`).

use std::path::Path;

use super::cifar::{PIXELS, dataset, empty, push_planar};
use super::input::{MAX_BYTES, read_whole};
use super::pickle::Pickle;
use super::{Dataset, ImageSet, numbered};
use crate::Result;

const HINT: &str = "give an intact copy of the Python version of CIFAR, or the binary version";

/// Whether `folder` holds the Python form of CIFAR-10.
pub fn is_cifar10(folder: &Path) -> bool {
    let train = (1..=5).any(|number| folder.join(format!("data_batch_{number}")).is_file());
    train || folder.join("test_batch").is_file()
}

/// Whether `folder` holds the Python form of CIFAR-100.
pub fn is_cifar100(folder: &Path) -> bool {
    folder.join("train").is_file() || folder.join("test").is_file()
}

/// Reads CIFAR-10: `data_batch_1` to `data_batch_5`, `test_batch`, and class names from `batches.meta` where it exists.
pub fn load_cifar10(folder: &Path) -> Result<Dataset> {
    let (mut train, mut test) = (empty(), empty());
    for number in 1..=5 {
        read(&folder.join(format!("data_batch_{number}")), "labels", 10, &mut train)?;
    }
    read(&folder.join("test_batch"), "labels", 10, &mut test)?;
    let names = names(&folder.join("batches.meta"), "label_names", 10)?;
    dataset("cifar-10", 10, names, train, test).check(folder)
}

/// Reads CIFAR-100: `train`, `test`, and class names from `meta` where it exists.
pub fn load_cifar100(folder: &Path) -> Result<Dataset> {
    let (mut train, mut test) = (empty(), empty());
    read(&folder.join("train"), "fine_labels", 100, &mut train)?;
    read(&folder.join("test"), "fine_labels", 100, &mut test)?;
    let names = names(&folder.join("meta"), "fine_label_names", 100)?;
    dataset("cifar-100", 100, names, train, test).check(folder)
}

/// Appends a batch.
fn read(path: &Path, key: &str, classes: u32, set: &mut ImageSet) -> Result<()> {
    let bytes = read_whole(path, MAX_BYTES, HINT)?;
    let pickle = Pickle::read(path, &bytes, HINT)?;
    let (data, list) = (pickle.field("data")?, pickle.field(key)?);
    let (images, labels) = (pickle.matrix(data, "`data`")?, pickle.list(list, &format!("`{key}`"))?);
    if images.columns != PIXELS {
        let what = format!("images have {} values, CIFAR's have {PIXELS} (32x32x3)", images.columns);
        return Err(pickle.bad(data, what));
    }
    if labels.len() != images.rows {
        return Err(pickle.bad(list, format!("holds {} labels for {} images", labels.len(), images.rows)));
    }
    for (i, id) in labels.iter().enumerate() {
        let label = pickle.int(*id, &format!("label {i}"))?;
        match u32::try_from(label).ok().filter(|label| *label < classes) {
            Some(label) => set.labels.push(label),
            None => return Err(pickle.bad(*id, format!("label {label} of image {i} is not in 0..{classes}"))),
        }
    }
    set.images.reserve(images.bytes.len());
    images.bytes.chunks_exact(PIXELS).for_each(|image| push_planar(image, &mut set.images));
    Ok(())
}

/// Class names; numbers where there is no such file.
fn names(path: &Path, key: &str, classes: usize) -> Result<Vec<String>> {
    if !path.exists() {
        return Ok(numbered(classes));
    }
    let hint = "class names are optional: give an intact file or take it away";
    let bytes = read_whole(path, 1 << 20, hint)?;
    let pickle = Pickle::read(path, &bytes, hint)?;
    let list = pickle.field(key)?;
    let names = pickle.list(list, &format!("`{key}`"))?;
    if names.len() != classes {
        return Err(pickle.bad(list, format!("names {} classes, there are {classes}", names.len())));
    }
    names.iter().map(|id| pickle.text(*id, "a class name")).collect()
}
