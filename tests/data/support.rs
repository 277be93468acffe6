//! Builders of small data sets, and what a refusal must look like.

use std::io::Write;
use std::path::{Path, PathBuf};

use earlybird::data::{Dataset, open};
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

/// A temporary folder that holds `name`.
pub fn folder(name: &str) -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join(name);
    std::fs::create_dir_all(&path).unwrap();
    (temp, path)
}

pub fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

pub fn load(path: &Path) -> Dataset {
    open(path.to_str().unwrap()).unwrap_or_else(|error| panic!("{error}"))
}

/// Opens what must be refused: exit code 2, one line, the file named, and each of `words` in it. Returns the message.
pub fn refused(path: &Path, words: &[&str]) -> String {
    let Err(error) = open(path.to_str().unwrap()) else { panic!("{} must be refused: {words:?}", path.display()) };
    let text = error.to_string();
    assert_eq!(error.exit_code(), 2, "{text}");
    assert!(!text.contains('\n'), "{text}");
    assert!(text.contains(path.file_name().unwrap().to_str().unwrap()), "{text} does not name the place");
    for word in words {
        assert!(text.contains(word), "{text} does not say {word}");
    }
    text
}

/// Planar pixels of image `i`, different in every channel and row.
pub fn planes(i: usize) -> Vec<u8> {
    (0..3072).map(|j| (7 * i + j / 16) as u8).collect()
}

/// The same image as HWC.
pub fn hwc(i: usize) -> Vec<u8> {
    let planes = planes(i);
    (0..1024).flat_map(|p| [planes[p], planes[1024 + p], planes[2048 + p]]).collect()
}

/// Records of the binary form: label bytes, then pixels.
pub fn records(labels: &[&[u8]]) -> Vec<u8> {
    labels.iter().enumerate().flat_map(|(i, labels)| [labels.to_vec(), planes(i)].concat()).collect()
}

/// `cifar-10-batches-bin` with two images in each file.
pub fn cifar10_bin(folder: &Path) {
    for number in 1..=5u8 {
        write(&folder.join(format!("data_batch_{number}.bin")), &records(&[&[number], &[number + 1]]));
    }
    write(&folder.join("test_batch.bin"), &records(&[&[0], &[9], &[4]]));
}

/// `cifar-100-binary`.
pub fn cifar100_bin(folder: &Path) {
    write(&folder.join("train.bin"), &records(&[&[1, 99], &[19, 0], &[3, 50]]));
    write(&folder.join("test.bin"), &records(&[&[0, 7]]));
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An IDX file: magic number, sizes, content.
pub fn idx(magic: u32, sizes: &[u32], content: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = magic.to_be_bytes().into();
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(content);
    bytes
}

/// 28x28 pixels of image `i`.
pub fn digit(i: usize) -> Vec<u8> {
    (0..784).map(|j| (31 * i + j + 1) as u8).collect()
}

pub const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
pub const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
pub const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
pub const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

/// MNIST's four files, three training and two test images, each file passed through `pack` and named with `ending`.
pub fn mnist(folder: &Path, ending: &str, pack: fn(&[u8]) -> Vec<u8>) {
    for (images, labels, values) in
        [(TRAIN_IMAGES, TRAIN_LABELS, &[5u8, 0, 9][..]), (TEST_IMAGES, TEST_LABELS, &[7, 2][..])]
    {
        let n = values.len();
        let content: Vec<u8> = (0..n).flat_map(digit).collect();
        write(&folder.join(format!("{images}{ending}")), &pack(&idx(0x803, &[n as u32, 28, 28], &content)));
        write(&folder.join(format!("{labels}{ending}")), &pack(&idx(0x801, &[n as u32], values)));
    }
}

/// A file of `fixtures/`.
pub fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(crate::common::root().join("tests/data/fixtures").join(name)).unwrap()
}

/// `cifar-10-batches-py` with `batch` as every file.
pub fn cifar10_py(folder: &Path, batch: &[u8]) {
    for number in 1..=5 {
        write(&folder.join(format!("data_batch_{number}")), batch);
    }
    write(&folder.join("test_batch"), batch);
}
