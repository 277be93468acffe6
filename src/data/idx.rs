//! MNIST and Fashion-MNIST as IDX files, plain or gzip: big-endian headers, then bytes (Y. LeCun, "The MNIST database of handwritten digits").
//!
//! The networks take at least 32x32 pixels. A 28x28 image is therefore put in the middle of 32x32 black ones (2 at each side), as LeNet-5 took it, and stays grey: the
//! network gets one input channel. Mean and deviation are those of the training images so padded. Images are never mirrored: most digits would be other signs.

use std::path::{Path, PathBuf};

use super::frame::{self, LEAST};
use super::input::Input;
use super::{Dataset, ImageSet, Normalise, numbered};
use crate::{Error, Result};

/// Rows and columns in the file.
const SIDE: usize = 28;
const CLASSES: u8 = 10;
/// Most images of one file: 17 times MNIST's, 1 GiB in memory.
const MAX_IMAGES: u32 = 1 << 20;

const HINT: &str = "give an intact copy of MNIST or Fashion-MNIST: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, each plain or .gz";

/// Fashion-MNIST's classes; MNIST's are the digits.
const FASHION: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// The file `stem`-idx`dimensions`-ubyte, plain or packed; some copies have a dot for the first hyphen of the ending.
fn find(folder: &Path, stem: &str, dimensions: u8) -> Option<PathBuf> {
    let candidates = ["", ".gz"].into_iter().flat_map(|packed| {
        ["-", "."].map(|separator| folder.join(format!("{stem}{separator}idx{dimensions}-ubyte{packed}")))
    });
    candidates.into_iter().find(|path| path.is_file())
}

/// Whether `folder` holds MNIST's files.
pub fn is_idx(folder: &Path) -> bool {
    let files = [("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1)];
    files.iter().any(|(stem, dimensions)| find(folder, stem, *dimensions).is_some())
}

/// Reads the four files. Which of the two data sets it is cannot be seen in them: class names are Fashion-MNIST's where the folder's path says `fashion`.
pub fn load(folder: &Path) -> Result<Dataset> {
    let (train, test) = (part(folder, "train")?, part(folder, "t10k")?);
    let fashion = folder.to_string_lossy().to_lowercase().contains("fashion");
    Dataset {
        name: if fashion { "fashion-mnist" } else { "mnist" }.into(),
        classes: usize::from(CLASSES),
        class_names: if fashion { FASHION.map(String::from).into() } else { numbered(10) },
        normalise: Normalise::of(&train),
        train,
        test,
        flip: false,
        photos: None,
    }
    .check(folder)
}

fn part(folder: &Path, name: &str) -> Result<ImageSet> {
    let open = |stem: &str, dimensions: u8| {
        let stem = format!("{name}-{stem}");
        match find(folder, &stem, dimensions) {
            Some(path) => Input::open(&path, HINT),
            None => {
                let path = folder.join(format!("{stem}-idx{dimensions}-ubyte"));
                Err(Error::bad_file(path, None, "this file of the data set is missing, plain and as .gz", HINT))
            }
        }
    };
    let (mut images, mut labels) = (open("images", 3)?, open("labels", 1)?);
    // Both headers before any image: a file cannot claim more than the other has.
    let count = header(&mut images, 3, "images")?[0];
    let label_count = header(&mut labels, 1, "labels")?[0];
    if count != label_count {
        return Err(labels.bad(4, format!("holds {label_count} labels for {count} images")));
    }
    let set_labels = read_labels(&mut labels, count)?;
    Ok(ImageSet {
        images: read_images(&mut images, count)?,
        labels: set_labels,
        height: LEAST,
        width: LEAST,
        channels: 1,
    })
}

/// Reads and checks a header: magic number, count, and for images the sizes.
fn header(input: &mut Input, dimensions: u8, what: &str) -> Result<Vec<u32>> {
    let mut words = Vec::new();
    for i in 0..=dimensions {
        let mut word = [0; 4];
        input.fill(&mut word, &"the header")?;
        words.push(u32::from_be_bytes(word));
        let magic = 0x0800 | u32::from(dimensions);
        if i == 0 && words[0] != magic {
            let what = format!("begins with 0x{:08x}, a file of {what} begins with 0x{magic:08x}", words[0]);
            return Err(input.bad(0, what));
        }
    }
    let (count, sides) = (words[1], &words[2..]);
    if count == 0 || count > MAX_IMAGES {
        return Err(input.bad(4, format!("the header counts {count} {what}, 1 to {MAX_IMAGES} are read")));
    }
    if let Some(at) = sides.iter().position(|side| *side != SIDE as u32) {
        let what = format!("images are {}x{}, should be {SIDE}x{SIDE}", sides[0], sides[1]);
        return Err(input.bad(8 + 4 * at as u64, what));
    }
    let length = 4 * words.len() as u64 + sides.iter().fold(u64::from(count), |n, side| n * u64::from(*side));
    if let Some(there) = input.length().filter(|there| *there != length) {
        let what = if there < length { ": truncated?" } else { "" };
        return Err(input.bad(there.min(length), format!("{there} bytes, the header promises {length}{what}")));
    }
    Ok(words.split_off(1))
}

fn read_labels(input: &mut Input, count: u32) -> Result<Vec<u32>> {
    let start = input.at();
    let mut bytes = vec![0; count as usize];
    input.fill(&mut bytes, &"the labels")?;
    input.end(&"the last label")?;
    if let Some(i) = bytes.iter().position(|label| *label >= CLASSES) {
        return Err(input.bad(start + i as u64, format!("label {} of image {i} is not below {CLASSES}", bytes[i])));
    }
    Ok(bytes.into_iter().map(u32::from).collect())
}

fn read_images(input: &mut Input, count: u32) -> Result<Vec<u8>> {
    let (mut image, mut framed) = ([0; SIDE * SIDE], [0; LEAST * LEAST]);
    let mut images = Vec::new(); // grows as images come: a packed file's header is only a promise
    for i in 0..count {
        input.fill(&mut image, &format_args!("image {i}"))?;
        frame::put(&image, SIDE, &mut framed, LEAST, 1);
        images.extend_from_slice(&framed);
    }
    input.end(&"the last image")?;
    Ok(images)
}
