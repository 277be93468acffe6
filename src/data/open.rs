//! Finds the reader for a data set: by name, or by what a directory holds.

use std::path::{Path, PathBuf};

use super::{Dataset, cifar, cifar_py, digits, folder, idx};
use crate::{Error, Result};

/// A form of directories.
struct Form {
    /// As shown to users: a name, and what it is recognised by.
    name: &'static str,
    recognise: fn(&Path) -> bool,
    load: fn(&Path) -> Result<Dataset>,
}

const FORMS: [Form; 6] = [
    Form {
        name: "cifar-10-batches-bin (data_batch_1.bin .. data_batch_5.bin, test_batch.bin)",
        recognise: cifar::is_cifar10,
        load: cifar::load_cifar10,
    },
    Form { name: "cifar-100-binary (train.bin, test.bin)", recognise: cifar::is_cifar100, load: cifar::load_cifar100 },
    Form {
        name: "cifar-10-batches-py (data_batch_1 .. data_batch_5, test_batch)",
        recognise: cifar_py::is_cifar10,
        load: cifar_py::load_cifar10,
    },
    Form {
        name: "cifar-100-python (files train, test)",
        recognise: cifar_py::is_cifar100,
        load: cifar_py::load_cifar100,
    },
    Form { name: "MNIST or Fashion-MNIST (train-images-idx3-ubyte[.gz] ..)", recognise: idx::is_idx, load: idx::load },
    Form {
        name: "images (train/<class>/*.png or *.jpg, and test/ or val/)",
        recognise: folder::is_folder,
        load: folder::load,
    },
];

/// Folders below the given one that are looked into: torchvision's `MNIST/raw` lies two deep.
const DEPTH: usize = 2;
/// Folders that are looked into at most.
const MAX_FOLDERS: usize = 4096;

/// Opens `digits` or a directory whose form is recognised; a directory that holds such a directory will do.
///
/// # Errors
/// [`Error::Io`] where it cannot be read, [`Error::BadFile`] where no form fits (all are listed), several data sets are found, or a file is damaged.
pub fn open(spec: &str) -> Result<Dataset> {
    if spec == "digits" {
        return digits::load();
    }
    let folder = Path::new(spec);
    let hint = "give a directory with a data set, a directory that holds one such directory, or `digits`";
    if folder.is_file() {
        let what = "is a file: an archive must be unpacked first (tar xf, unzip)";
        return Err(Error::bad_file(folder, None, what, hint));
    }
    if !folder.exists() {
        return Err(Error::bad_file(folder, None, "there is no such directory", hint));
    }
    std::fs::read_dir(folder).map_err(|e| Error::io("open the data directory", folder, e))?;
    let mut level = vec![folder.to_path_buf()];
    for depth in 0..=DEPTH {
        let found: Vec<(&PathBuf, &Form)> =
            level.iter().flat_map(|path| forms(path).map(move |form| (path, form))).collect();
        match found[..] {
            [(path, form)] => return (form.load)(path),
            [] if depth < DEPTH => level = level.iter().flat_map(|path| folders(path)).take(MAX_FOLDERS).collect(),
            [] => {}
            _ => {
                let list = found.iter().map(|(path, form)| format!("{} as {}", path.display(), form.name));
                let what = format!("holds several data sets: {}", list.collect::<Vec<_>>().join("; "));
                return Err(Error::bad_file(folder, None, what, "give the directory of one of them alone"));
            }
        }
    }
    let names: Vec<&str> = FORMS.iter().map(|form| form.name).collect();
    let what = format!("holds no data set that is known, but {}; known are {}", content(folder), names.join("; "));
    Err(Error::bad_file(folder, None, what, hint))
}

/// All forms that `folder` shows signs of.
fn forms(folder: &Path) -> impl Iterator<Item = &'static Form> {
    FORMS.iter().filter(move |form| (form.recognise)(folder))
}

/// Folders within `folder`, in order of names; none where it cannot be read, for then nothing in it is a data set of the user's.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// What a folder holds, for the message.
fn content(folder: &Path) -> String {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    match names.len() {
        0 => "nothing at all".into(),
        n @ 1..=10 => format!("{n} entries: {}", names.join(", ")).replace("1 entries", "1 entry"),
        n => format!("{n} entries: {}, ..", names[..10].join(", ")),
    }
}
