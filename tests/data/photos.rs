//! Folders of photographs, decoded while they are trained on: what Pillow and torchvision say of them, hostile files, skipping, the cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use earlybird::data::{Augment, Batch, Dataset, Loader, LoaderOptions, PhotoOptions, photos};
use safetensors::SafeTensors;

use crate::support::*;

/// Tensors of `fixtures/photos.safetensors`, by case and name.
fn cases() -> BTreeMap<String, BTreeMap<String, Vec<u8>>> {
    let bytes = fixture("photos.safetensors");
    let mut all: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let (case, key) = name.split_once('/').unwrap();
        all.entry(case.into()).or_default().insert(key.into(), view.data().to_vec());
    }
    all
}

fn file(case: &str) -> Vec<u8> {
    cases()[case]["file"].clone()
}

/// Options for 32x32 inputs, and what they report.
fn options() -> (PhotoOptions, Arc<Mutex<Vec<String>>>) {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = told.clone();
    let report = Arc::new(move |line: &str| heard.lock().unwrap().push(line.to_string()));
    (PhotoOptions { threads: 2, report, ..PhotoOptions::new(32) }, told)
}

/// A folder with these files in class `a` of both parts and an intact one in class `b`.
fn photographs(files: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, PathBuf) {
    let (temp, folder) = folder("photographs");
    for part in ["train", "val"] {
        files.iter().for_each(|(name, bytes)| write(&folder.join(part).join("a").join(name), bytes));
        write(&folder.join(part).join("b/intact.png"), &file("png"));
    }
    (temp, folder)
}

fn opened(folder: &Path, options: PhotoOptions) -> Arc<Dataset> {
    Arc::new(photos::open(folder, options).unwrap_or_else(|error| panic!("{error}")))
}

fn loader(data: &Arc<Dataset>, augment: Augment, batch_size: usize) -> Loader {
    Loader::train(data, LoaderOptions { batch_size, shuffle: augment.crop, augment, seed: 5, prefetch: 2 }).unwrap()
}

fn batches(loader: &Loader, epoch: usize, from: usize) -> earlybird::Result<Vec<Batch>> {
    loader.epoch(epoch, from..loader.batches()).collect()
}

/// Inputs of the test part back as bytes.
fn evaluated(data: &Arc<Dataset>) -> Vec<Vec<u8>> {
    let loader = Loader::test(data, LoaderOptions { batch_size: 4, shuffle: false, ..Default::default() }).unwrap();
    let (mean, std) = (&data.normalise.mean, &data.normalise.std);
    let byte = |(i, v): (usize, &f32)| ((v * std[i % 3] + mean[i % 3]) * 255.0).round() as u8;
    let images = batches(&loader, 0, 0).unwrap();
    images.iter().flat_map(|b| b.images.chunks_exact(3072)).map(|i| i.iter().enumerate().map(byte).collect()).collect()
}

/// Largest and mean difference.
fn apart(got: &[u8], want: &[u8]) -> (u8, f64) {
    assert_eq!(got.len(), want.len());
    let off = got.iter().zip(want).map(|(a, b)| a.abs_diff(*b));
    (off.clone().max().unwrap(), off.map(f64::from).sum::<f64>() / got.len() as f64)
}

#[test]
fn every_kind_of_file_is_evaluated_as_torchvision_does_it() {
    let cases = cases();
    let named: Vec<(String, Vec<u8>)> =
        cases.iter().map(|(name, case)| (format!("{name}.jpg"), case["file"].clone())).collect();
    let files: Vec<(&str, Vec<u8>)> = named.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let (_temp, folder) = photographs(&files); // every name ends in .jpg: the content counts
    let (options, told) = options();
    let data = opened(&folder, options);
    assert_eq!((data.classes, data.train.height, data.train.width, data.train.channels), (2, 32, 32, 3));
    let got = evaluated(&data);
    assert_eq!((got.len(), told.lock().unwrap().len()), (cases.len() + 1, 0));
    for ((name, case), got) in cases.iter().zip(&got) {
        let Some(want) = case.get("evaluate") else { continue };
        let (most, mean) = apart(got, want);
        println!("{name}: at most {most}, in the mean {mean:.3} levels off");
        // Scaling agrees to a level; decoders differ by more where they convert or upsample colours.
        let (most_allowed, mean_allowed) = match name.as_str() {
            "jpeg" | "jpeg420" | "progressive" | "exif" | "grey" | "cmyk" => (3, 0.6),
            _ => (1, 0.3),
        };
        assert!(most <= most_allowed && mean <= mean_allowed, "{name}: {most} at most, {mean} in the mean");
    }
    // 16-bit grey keeps its upper bytes: the ramp rises from line to line, and is grey.
    let sixteen = &got[cases.keys().position(|name| name == "grey16").unwrap()];
    assert!(sixteen.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]));
    let row = |y: usize| sixteen[(y * 32 + 16) * 3];
    assert!(row(1) < 36 && (100..160).contains(&row(16)) && row(30) > 220, "{} {} {}", row(1), row(16), row(30));
}

#[test]
fn epochs_repeat_resume_and_do_not_depend_on_threads() {
    let (_temp, folder) = photographs(&[
        ("1.png", file("wide")),
        ("2.jpg", file("jpeg")),
        ("3.png", file("one")),
        ("4.jpg", file("cmyk")),
    ]);
    let all = |threads: usize, from: usize, epoch: usize| {
        let data = opened(&folder, PhotoOptions { threads, ..options().0 });
        batches(&loader(&data, Augment::cifar(), 2), epoch, from).unwrap()
    };
    let whole = all(1, 0, 3);
    assert_eq!(whole.iter().map(|b| b.labels.len()).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(whole, all(3, 0, 3));
    assert_eq!(whole[1..], all(2, 1, 3));
    assert_ne!(whole, all(1, 0, 4));
}

/// Files that are no intact images, and what must be said of each.
fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let (jpeg, png) = (file("jpeg"), file("png"));
    let mut huge = png.clone();
    huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let sum = flate2_crc(&huge[12..29]);
    huge[29..33].copy_from_slice(&sum.to_be_bytes());
    let mut wide = jpeg.clone();
    let frame = wide.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    wide[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    let mut flipped = png.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x40;
    vec![
        ("cut.jpg", jpeg[..jpeg.len() / 2].to_vec(), "without an end"),
        ("cut.png", png[..png.len() / 2].to_vec(), ""),
        ("empty.jpg", Vec::new(), "an empty file"),
        ("text.jpg", b"not an image at all".to_vec(), "no JPEG or PNG"),
        ("animation.png", b"GIF89a\x01\0\x01\0\0\0\0;".to_vec(), "kind Gif"),
        ("huge.png", huge, ""),
        ("wide.jpg", wide, "65535x65535"),
        ("flipped.png", flipped, ""),
        ("header.jpg", jpeg[..20].iter().chain(&[0xff, 0xda, 0xff, 0xd9]).copied().collect(), ""),
    ]
}

/// CRC-32 of PNG's chunks.
fn flate2_crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[test]
fn broken_files_are_reported_and_skipped_and_the_next_one_stands_in() {
    let broken = hostile();
    let files: Vec<(&str, Vec<u8>)> = broken.iter().map(|(name, bytes, _)| (*name, bytes.clone())).collect();
    let (_temp, folder) = photographs(&files);
    let (mut allowed, told) = options();
    allowed.max_skipped = 2 * broken.len();
    let data = opened(&folder, allowed.clone());
    let train = batches(&loader(&data, Augment::none(), 4), 0, 0).unwrap();
    // Every broken image is stood in for by the one intact image, with its label.
    assert_eq!(train.iter().map(|b| b.labels.len()).sum::<usize>(), broken.len() + 1);
    assert!(train.iter().flat_map(|b| &b.labels).all(|label| *label == 1));
    assert!(train.iter().flat_map(|b| b.images.chunks_exact(3072)).all(|image| *image == train[0].images[..3072]));
    let lines = told.lock().unwrap().clone();
    assert_eq!(lines.len(), broken.len(), "{lines:#?}");
    for (name, _, words) in &broken {
        let line = lines.iter().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}: {lines:#?}"));
        assert!(line.contains("train") && line.contains(words) && !line.contains('\n'), "{line}");
    }
    // Told once; the same again, and from the middle, whatever was skipped before.
    assert_eq!(batches(&loader(&data, Augment::none(), 4), 1, 0).unwrap(), train);
    assert_eq!(told.lock().unwrap().len(), broken.len());
    let again = opened(&folder, allowed);
    assert_eq!(batches(&loader(&again, Augment::none(), 4), 0, 1).unwrap(), train[1..]);
    let (a, b) = (
        batches(&loader(&data, Augment::cifar(), 4), 2, 0).unwrap(),
        batches(&loader(&again, Augment::cifar(), 4), 2, 0),
    );
    assert_eq!(a, b.unwrap());
}

#[test]
fn evaluation_leaves_broken_files_out() {
    let (_temp, folder) = photographs(&[("1.jpg", b"x".to_vec()), ("2.png", file("wide")), ("3.jpg", b"y".to_vec())]);
    let (mut allowed, told) = options();
    allowed.max_skipped = 2;
    let data = opened(&folder, allowed);
    let got = evaluated(&data);
    let (most, _) = apart(&got[0], &cases()["wide"]["evaluate"]);
    assert!(got.len() == 2 && most <= 1);
    assert_eq!(told.lock().unwrap().len(), 2);
    assert_eq!(data.photos.as_ref().unwrap().skipped().len(), 2);
}

#[test]
fn too_many_broken_files_are_an_error_at_the_same_batch() {
    let (_temp, folder) = photographs(&[
        ("1.png", file("png")),
        ("2.jpg", b"x".to_vec()),
        ("3.png", file("png")),
        ("4.jpg", b"y".to_vec()),
    ]);
    for threads in [1, 3] {
        let (mut allowed, _) = options();
        (allowed.max_skipped, allowed.threads) = (1, threads);
        let data = opened(&folder, allowed);
        let mut epoch = loader(&data, Augment::none(), 2).epoch(0, 0..3);
        assert_eq!(epoch.next().unwrap().unwrap().labels, [0, 0]);
        let error = epoch.next().unwrap().unwrap_err();
        let text = error.to_string();
        assert!(error.exit_code() == 2 && text.contains("4.jpg") && text.contains("--max-skipped (now 1)"), "{text}");
        assert!(epoch.next().is_none());
    }
}

#[test]
fn the_cache_gives_the_same_bits_and_is_made_anew_where_it_is_stale_or_damaged() {
    let (_temp, folder) =
        photographs(&[("1.jpg", file("jpeg")), ("2.jpg", b"broken".to_vec()), ("3.png", file("alpha"))]);
    let cache = folder.with_file_name("cache");
    let run = |with: bool, side: u32| {
        let (mut options, told) = options();
        options.max_skipped = 2;
        options.cache = with.then(|| cache.clone());
        options.cache_side = side;
        let data = photos::open(&folder, options).map(Arc::new)?;
        let made = batches(&loader(&data, Augment::cifar(), 2), 4, 0)?;
        let lines: Vec<String> = told.lock().unwrap().iter().filter(|line| line.contains("cache")).cloned().collect();
        earlybird::Result::Ok((made, lines.join("; ")))
    };
    let (plain, _) = run(false, 0).unwrap();
    let (first, said) = run(true, 0).unwrap();
    assert!(said.starts_with("making the cache") && said.contains("8 pictures"), "{said}");
    assert_eq!((&first, run(true, 0).unwrap()), (&plain, (plain.clone(), String::new())));
    let good = std::fs::read(&cache).unwrap();
    // Damage in front of the pictures, a missing end, another version: named, and made anew to the same bytes.
    let mut version = good.clone();
    version[8] = 9;
    let mut header = good.clone();
    header[17] ^= 1;
    let mut index = good.clone();
    index[70] ^= 1;
    for (bad, words) in [
        (version, "version 9"),
        (header, "header is damaged"),
        (index, "index is damaged"),
        (good[..good.len() - 1].to_vec(), "bytes"),
        (good[..30].to_vec(), "30 of 64 bytes"),
    ] {
        std::fs::write(&cache, &bad).unwrap();
        let (made, said) = run(true, 0).unwrap();
        assert!(made == plain && said.contains("anew") && said.contains(words), "{said}");
        assert_eq!(std::fs::read(&cache).unwrap(), good);
    }
    // Smaller pictures: fewer bytes, other crops; the cache of whole pictures no longer fits.
    let (smaller, said) = run(true, 40).unwrap();
    assert!(smaller != plain && said.contains("--cache-side 0, not 40"), "{said}");
    assert!(std::fs::metadata(&cache).unwrap().len() < good.len() as u64);
    run(true, 0).unwrap();
    // A changed folder is noticed.
    write(&folder.join("train/a/4.png"), &file("png"));
    let (_, said) = run(true, 0).unwrap();
    assert!(said.contains("folder of images has changed"), "{said}");
    // A flipped pixel is found when it is read, and named.
    let mut pixel = std::fs::read(&cache).unwrap();
    let middle = 64 + 9 * 20 + 100;
    pixel[middle] ^= 1;
    std::fs::write(&cache, &pixel).unwrap();
    let error = run(true, 0).unwrap_err().to_string();
    assert!(error.contains("picture 0 of the cache is damaged") && error.contains("delete it"), "{error}");
    // What is no cache is not written over.
    std::fs::write(&cache, "a letter to my aunt").unwrap();
    let error = run(true, 0).unwrap_err().to_string();
    assert!(error.contains("is no cache of pictures"), "{error}");
    assert_eq!(std::fs::read(&cache).unwrap(), b"a letter to my aunt");
}

#[test]
fn options_out_of_range_are_refused() {
    let (_temp, folder) = photographs(&[("1.png", file("png"))]);
    for (bad, words) in [
        (PhotoOptions { size: 16, ..options().0 }, "--image-size"),
        (PhotoOptions { size: 5000, ..options().0 }, "--image-size"),
        (PhotoOptions { resize: 31, ..options().0 }, "--resize"),
        (PhotoOptions { threads: 100_000, ..options().0 }, "--decode-threads"),
    ] {
        let error = photos::open(&folder, bad).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(words), "{error}");
    }
    // Without --image-size they would have to be of one size; the message says what else can be done.
    assert!(earlybird::data::open(folder.to_str().unwrap()).is_ok());
    write(&folder.join("train/a/2.png"), &file("wide"));
    let error = earlybird::data::open(folder.to_str().unwrap()).unwrap_err().to_string();
    assert!(error.contains("--image-size 224"), "{error}");
}
