//! Folders of images: `train/<class>/*.png|jpg` and `test/` or `val/` likewise. Classes are the sorted names of the folders.
//!
//! All images must have one size; the first one in order says which. Sides below 32 pixels are framed in black to 32, as MNIST's are (`frame`). They are colour unless every one is grey; alpha is dropped, 16 bits become 8. Mean
//! and deviation are those of the training images. Headers of all files are read and checked before any image is unpacked, so that no file can ask for more memory than its
//! neighbours. Hidden files and files of other kinds are passed over.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{ColorType, ImageDecoder, ImageFormat, ImageReader, Limits};
use rayon::prelude::*;

use super::frame::{self, LEAST};
use super::input::read_whole;
use super::photos::has_jpeg_end;
use super::{Dataset, ImageSet, Normalise};
use crate::{Error, Result};

/// Sides of an image that are read.
const SIDES: std::ops::RangeInclusive<u32> = 16..=1024;
/// Most classes.
const MAX_CLASSES: usize = 1 << 16;
/// Most bytes of a part in memory: 4 GiB.
const MAX_PART: u64 = 4 << 30;
/// Most bytes of one file: more than an image of the largest size can need.
const MAX_FILE: u64 = 32 << 20;

const HINT: &str = "give train/<class>/*.png or *.jpg and test/<class>/.. (or val/), all images of one size";

/// Images that are known and not read; passing them over would lose data.
const OTHER_FORMATS: [&str; 9] = ["bmp", "gif", "webp", "tif", "tiff", "avif", "heic", "jp2", "ppm"];

/// Whether `folder` is a folder of images.
pub fn is_folder(folder: &Path) -> bool {
    folder.join("train").is_dir()
}

/// Paths with labels.
pub(super) type Files = Vec<(PathBuf, u32)>;

/// Classes, training files and test files.
pub(super) fn files(folder: &Path) -> Result<(Vec<String>, Files, Files)> {
    let train_folder = folder.join("train");
    let folders = entries(&train_folder)?.into_iter().filter(|path| path.is_dir());
    let class_names: Vec<String> = folders.map(|path| name(&path)).collect();
    if !(2..=MAX_CLASSES).contains(&class_names.len()) {
        let what = format!("holds {} folders of classes, 2 to {MAX_CLASSES} are read", class_names.len());
        return Err(Error::bad_file(&train_folder, None, what, HINT));
    }
    let Some(test_folder) = test_folder(folder) else {
        return Err(Error::bad_file(folder, None, "has train/ but neither test/ nor val/", HINT));
    };
    let (train, test) = (list(&train_folder, &class_names)?, list(&test_folder, &class_names)?);
    Ok((class_names, train, test))
}

fn test_folder(folder: &Path) -> Option<PathBuf> {
    ["test", "val"].map(|name| folder.join(name)).into_iter().find(|path| path.is_dir())
}

/// Reads all images.
pub fn load(folder: &Path) -> Result<Dataset> {
    let (class_names, train, test) = files(folder)?;
    let all: Vec<&Path> = train.iter().chain(&test).map(|(path, _)| path.as_path()).collect();
    let shape = survey(&all)?;
    let parts = [Some(folder.join("train")), test_folder(folder)];
    for (part, files) in parts.into_iter().flatten().zip([&train, &test]) {
        let bytes = files.len() as u64 * shape.bytes() as u64;
        if bytes > MAX_PART {
            let what =
                format!("{} images of {shape} are {bytes} bytes in memory, at most {MAX_PART} are read", files.len());
            let hint = "give fewer or smaller images, or decode them while training: --image-size 224";
            return Err(Error::bad_file(part, None, what, hint));
        }
    }
    let (train, test) = (unpack(train, shape)?, unpack(test, shape)?);
    Dataset {
        name: name(&folder.canonicalize().unwrap_or_else(|_| folder.into())),
        classes: class_names.len(),
        class_names,
        normalise: Normalise::of(&train),
        train,
        test,
        flip: true,
        photos: None,
    }
    .check(folder)
}

/// Size and channels of all images, in the files.
#[derive(Clone, Copy)]
struct ImageShape {
    width: u32,
    height: u32,
    channels: usize,
}

impl ImageShape {
    /// Rows and columns in memory.
    fn framed(&self) -> (usize, usize) {
        ((self.height as usize).max(LEAST), (self.width as usize).max(LEAST))
    }

    /// Bytes in memory.
    fn bytes(&self) -> usize {
        self.framed().0 * self.framed().1 * self.channels
    }
}

impl std::fmt::Display for ImageShape {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// What a folder holds, in order of names, without hidden files.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = |e| Error::io("read the folder", folder, e);
    let paths = std::fs::read_dir(folder).map_err(read)?.map(|entry| Ok(entry.map_err(read)?.path()));
    let mut paths = paths.collect::<Result<Vec<PathBuf>>>()?;
    paths.retain(|path| !name(path).starts_with('.'));
    paths.sort();
    Ok(paths)
}

/// All image files of a part, class by class, with their labels.
fn list(part: &Path, classes: &[String]) -> Result<Vec<(PathBuf, u32)>> {
    let mut files = Vec::new();
    for folder in entries(part)?.into_iter().filter(|path| path.is_dir()) {
        let Some(label) = classes.iter().position(|class| *class == name(&folder)) else {
            return Err(Error::bad_file(&folder, None, "there is no class of this name in train/", HINT));
        };
        let before = files.len();
        for path in entries(&folder)? {
            let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            if matches!(&*extension, "png" | "jpg" | "jpeg") {
                files.push((path, label as u32));
            } else if OTHER_FORMATS.contains(&&*extension) {
                let hint = "convert it to PNG, or take it away";
                return Err(Error::bad_file(&path, None, format!("images of kind {extension} are not read"), hint));
            }
        }
        if files.len() == before {
            return Err(Error::bad_file(&folder, None, "holds no .png, .jpg or .jpeg file", HINT));
        }
    }
    if files.is_empty() {
        return Err(Error::bad_file(part, None, "holds no folder of images", HINT));
    }
    Ok(files)
}

/// Reads all headers: the one size, and whether every image is grey.
fn survey(files: &[&Path]) -> Result<ImageShape> {
    let headers: Vec<Result<(u32, u32, bool)>> = files
        .par_iter()
        .map(|path| {
            let decoder = decoder(path)?;
            let (width, height) = decoder.dimensions();
            if !SIDES.contains(&width) || !SIDES.contains(&height) {
                let (low, high) = (SIDES.start(), SIDES.end());
                let what = format!("is {height}x{width} pixels, {low}x{low} to {high}x{high} are read");
                return Err(Error::bad_file(
                    path,
                    None,
                    what,
                    "resize all images to one size, such as 32x32, or have them scaled: --image-size 224",
                ));
            }
            let grey =
                matches!(decoder.color_type(), ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16);
            Ok((width, height, grey))
        })
        .collect();
    let mut shape = ImageShape { width: 0, height: 0, channels: 1 };
    for (path, header) in files.iter().zip(headers) {
        let (width, height, grey) = header?;
        if shape.width == 0 {
            (shape.width, shape.height) = (width, height);
        }
        if (width, height) != (shape.width, shape.height) {
            let first = format!("{} is {}x{}", files[0].display(), shape.height, shape.width);
            let what = format!("is {height}x{width} pixels, {first}");
            return Err(Error::bad_file(
                path,
                None,
                what,
                "resize all images to one size, or have them scaled: --image-size 224",
            ));
        }
        if !grey {
            shape.channels = 3;
        }
    }
    Ok(shape)
}

/// A decoder at the beginning of an image whose header is sound.
fn decoder(path: &Path) -> Result<impl ImageDecoder> {
    let bytes = read_whole(path, MAX_FILE, "give a smaller image, or take the file away")?;
    if image::guess_format(&bytes).is_ok_and(|format| format == ImageFormat::Jpeg) && !has_jpeg_end(&bytes) {
        let what = "is a JPEG image without an end: truncated?";
        return Err(Error::bad_file(path, Some(bytes.len() as u64), what, DAMAGED));
    }
    // The size itself is checked by `survey`, with a message that says more; this bounds what a header alone can cost.
    let mut limits = Limits::default();
    limits.max_alloc = Some(64 << 20);
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(|e| Error::io("read", path, e))?;
    reader.limits(limits);
    reader.into_decoder().map_err(|e| damaged(path, &e))
}

const DAMAGED: &str = "give an intact image, or take the file away";

fn damaged(path: &Path, error: &image::ImageError) -> Error {
    let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" "); // some span lines
    let what = format!("is no intact PNG or JPEG image ({error})");
    Error::bad_file(path, None, what, DAMAGED)
}

/// Reads all images of a part.
fn unpack(files: Vec<(PathBuf, u32)>, shape: ImageShape) -> Result<ImageSet> {
    let (height, width) = shape.framed();
    let (row, framed_row) = (shape.width as usize * shape.channels, width * shape.channels);
    let mut images = vec![0; files.len() * shape.bytes()];
    let outcomes: Vec<Result<()>> = images
        .par_chunks_exact_mut(shape.bytes())
        .zip(&files)
        .map(|(out, (path, _))| {
            let image = image::DynamicImage::from_decoder(decoder(path)?).map_err(|e| damaged(path, &e))?;
            let bytes = if shape.channels == 1 { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() };
            if bytes.len() != row * shape.height as usize {
                return Err(Error::bad_file(path, None, "changed while it was read", "start again"));
            }
            frame::put(&bytes, row, out, framed_row, shape.channels);
            Ok(())
        })
        .collect();
    outcomes.into_iter().collect::<Result<()>>()?; // the first in order, whichever thread met one first
    let labels = files.into_iter().map(|(_, label)| label).collect();
    Ok(ImageSet { images, labels, height, width, channels: shape.channels })
}
