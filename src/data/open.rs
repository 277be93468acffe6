//! Finds the reader for a data set: by name, or by what a directory holds.

use std::path::Path;

use super::{Dataset, cifar, digits};
use crate::{Error, Result};

type Recognise = fn(&Path) -> bool;
type Load = fn(&Path) -> Result<Dataset>;

/// Forms of directories: what is looked for, how it is recognised, how it is read.
const FORMS: [(&str, Recognise, Load); 2] = [
    ("cifar-10-batches-bin (data_batch_1.bin ..)", cifar::is_cifar10, cifar::load_cifar10),
    ("cifar-100-binary (train.bin, test.bin)", cifar::is_cifar100, cifar::load_cifar100),
];

/// Opens `digits` or a directory whose form is recognised; a directory that holds such a directory will do.
///
/// # Errors
/// [`Error::Io`] where it cannot be read, [`Error::BadFile`] where no form fits (all are listed) or a file is damaged.
pub fn open(spec: &str) -> Result<Dataset> {
    if spec == "digits" {
        return digits::load();
    }
    let folder = Path::new(spec);
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io("open the data directory", folder, e))?;
    if let Some(load) = form(folder) {
        return load(folder);
    }
    let mut inside: Vec<_> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    inside.sort();
    let found: Vec<_> = inside.iter().filter_map(|path| Some((path, form(path)?))).collect();
    match found[..] {
        [(path, load)] => load(path),
        [] => {
            let forms: Vec<&str> = FORMS.iter().map(|(name, ..)| *name).collect();
            let what = format!("holds none of the forms that are read: {}", forms.join("; "));
            Err(Error::bad_file(folder, None, what, "give the directory itself, its parent, or `digits`"))
        }
        _ => {
            let names: Vec<String> = found.iter().map(|(path, _)| path.display().to_string()).collect();
            let what = format!("holds several data sets: {}", names.join(", "));
            Err(Error::bad_file(folder, None, what, "give one of them"))
        }
    }
}

fn form(folder: &Path) -> Option<Load> {
    FORMS.iter().find(|(_, recognise, _)| recognise(folder)).map(|(.., load)| *load)
}
