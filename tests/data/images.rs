//! Folders of images.

use std::path::Path;

use image::{DynamicImage, GrayImage, ImageFormat, RgbImage, RgbaImage};

use crate::support::*;

fn colour(seed: u8, side: u32) -> DynamicImage {
    RgbImage::from_fn(side, side, |x, y| image::Rgb([seed, x as u8, y as u8])).into()
}

fn grey(seed: u8) -> DynamicImage {
    GrayImage::from_fn(32, 32, |x, y| image::Luma([seed.wrapping_add((3 * x + y) as u8)])).into()
}

fn save(path: &Path, image: &DynamicImage) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let format =
        if path.extension().unwrap().eq_ignore_ascii_case("png") { ImageFormat::Png } else { ImageFormat::Jpeg };
    image.save_with_format(path, format).unwrap();
}

/// Two classes, two training images and one test image each.
fn build(folder: &Path, test: &str, image: &dyn Fn(u8) -> DynamicImage) {
    for (class, seed) in [("bee", 10), ("ant", 20)] {
        save(&folder.join("train").join(class).join("b.png"), &image(seed + 1));
        save(&folder.join("train").join(class).join("a.PNG"), &image(seed));
        save(&folder.join(test).join(class).join("c.png"), &image(seed + 2));
    }
}

#[test]
fn classes_and_images_come_in_order_of_names() {
    for test in ["test", "val"] {
        let (_temp, folder) = folder("insects");
        build(&folder, test, &|seed| colour(seed, 40));
        write(&folder.join("train/ant/.hidden.png"), b"");
        write(&folder.join("train/ant/notes.txt"), b"");
        write(&folder.join("train/readme.md"), b"");
        let data = load(&folder);
        assert_eq!((data.name.as_str(), data.classes, data.class_names.join(" ")), ("insects", 2, "ant bee".into()));
        assert_eq!((&*data.train.labels, &*data.test.labels), (&[0, 0, 1, 1][..], &[0, 1][..]));
        assert_eq!((data.train.height, data.train.width, data.train.channels, data.flip), (40, 40, 3, true));
        let expected: Vec<&[u8]> = [20, 21, 10, 11].iter().map(std::slice::from_ref).collect();
        assert_eq!((0..4).map(|i| &data.train.image(i)[..1]).collect::<Vec<_>>(), expected);
        assert_eq!(data.train.image(2)[(7 * 40 + 9) * 3..][..3], [10, 9, 7]);
        assert!((data.normalise.mean[0] - 15.5 / 255.0).abs() < 1e-6);
    }
}

#[test]
fn grey_stays_grey_unless_one_image_has_colour() {
    let (_temp, folder) = folder("digits");
    build(&folder, "test", &grey);
    let data = load(&folder);
    assert_eq!((data.train.channels, data.train.image(0)[1]), (1, 23));
    let four = RgbaImage::from_pixel(32, 32, image::Rgba([1, 2, 3, 0]));
    save(&folder.join("train/bee/z.png"), &four.into());
    let data = load(&folder);
    assert_eq!((data.train.channels, &data.train.image(0)[3..6]), (3, &[23, 23, 23][..]));
    assert_eq!(data.train.image(4)[..3], [1, 2, 3]); // alpha is dropped
}

#[test]
fn small_images_are_framed_in_black() {
    let (_temp, folder) = folder("small");
    build(&folder, "test", &|seed| colour(seed, 27));
    let data = load(&folder);
    assert_eq!((data.train.height, data.train.width), (32, 32));
    let image = data.train.image(0);
    let pixel = |y: usize, x: usize| &image[(y * 32 + x) * 3..][..3];
    assert_eq!((pixel(2, 2), pixel(28, 28), pixel(2, 5)), (&[20, 0, 0][..], &[20, 26, 26][..], &[20, 3, 0][..]));
    for i in 0..32 {
        let frame = [pixel(1, i), pixel(29, i), pixel(i, 1), pixel(i, 29), pixel(31, i), pixel(i, 31)];
        assert!(frame.iter().all(|pixel| **pixel == [0, 0, 0]));
    }
}

#[test]
fn jpeg_is_read_whatever_its_ending() {
    let (_temp, folder) = folder("photos");
    build(&folder, "test", &|seed| colour(seed, 32));
    save(&folder.join("train/ant/d.jpg"), &colour(128, 32));
    save(&folder.join("train/ant/e.JPEG"), &colour(128, 32));
    std::fs::copy(folder.join("train/ant/d.jpg"), folder.join("train/ant/f.png")).unwrap();
    let data = load(&folder);
    assert_eq!(data.train.labels, [0, 0, 0, 0, 0, 1, 1]);
    let (d, e, f) = (data.train.image(2), data.train.image(3), data.train.image(4));
    assert!(d == e && d == f && d[0].abs_diff(128) < 16);
}

/// The data set with one file replaced: the refusal must name it and each of `words`.
fn replaced(file: &str, bytes: &[u8], words: &[&str]) {
    let (_temp, folder) = folder("insects");
    build(&folder, "test", &|seed| colour(seed, 32));
    write(&folder.join(file), bytes);
    refused(&folder, &[&[file], words].concat());
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

#[test]
fn damaged_images_are_refused_by_name() {
    let file = "train/bee/b.png";
    let png = encoded(&colour(1, 32), ImageFormat::Png);
    replaced(file, b"", &["PNG or JPEG"]);
    replaced(file, b"no image at all", &["PNG or JPEG"]);
    for length in [8, 20, 40, png.len() / 2, png.len() - 13] {
        replaced(file, &png[..length], &["PNG or JPEG"]);
    }
    for at in [13, 18, 30, png.len() / 2] {
        let mut bytes = png.clone();
        bytes[at] ^= 0x20;
        replaced(file, &bytes, &[]);
    }
    let jpeg = encoded(&colour(1, 32), ImageFormat::Jpeg);
    for length in [2, 30, 200, jpeg.len() / 2, jpeg.len() - 20, jpeg.len() - 2] {
        replaced("test/ant/c.jpg", &jpeg[..length], &["JPEG"]);
    }
}

#[test]
fn sizes_must_agree_and_lie_within_bounds() {
    let png = |side| encoded(&colour(1, side), ImageFormat::Png);
    replaced("train/bee/b.png", &png(33), &["33x33", "32x32", "train/ant/a.PNG"]);
    replaced("test/bee/c.png", &png(40), &["40x40"]);
    replaced("train/ant/a.PNG", &png(15), &["15x15", "16x16 to 1024x1024"]);
    replaced("train/ant/a.PNG", &png(1025), &["1025x1025"]);
    replaced("train/ant/a.PNG", &bomb(), &["65535x65535"]);
}

/// A PNG whose header claims 65535x65535 pixels, with its check sum right.
pub fn bomb() -> Vec<u8> {
    let mut bomb = encoded(&colour(1, 32), ImageFormat::Png);
    bomb[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let sum = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&sum.to_be_bytes());
    bomb
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[test]
fn folders_must_fit_together() {
    let (_temp, folder) = folder("insects");
    build(&folder, "test", &|seed| colour(seed, 32));
    write(&folder.join("train/ant/x.webp"), b"");
    refused(&folder, &["x.webp", "kind webp"]);
    std::fs::remove_file(folder.join("train/ant/x.webp")).unwrap();
    save(&folder.join("test/wasp/a.png"), &colour(1, 32));
    refused(&folder, &["test/wasp", "no class of this name"]);
    std::fs::remove_dir_all(folder.join("test/wasp")).unwrap();
    std::fs::create_dir(folder.join("train/moth")).unwrap();
    refused(&folder, &["train/moth", "no .png"]);
    std::fs::remove_dir_all(folder.join("train/moth")).unwrap();
    std::fs::remove_dir_all(folder.join("train/bee")).unwrap();
    refused(&folder, &["1 folders of classes"]);
    std::fs::remove_dir_all(folder.join("test")).unwrap();
    save(&folder.join("train/bee/a.png"), &colour(1, 32));
    refused(&folder, &["neither test/ nor val/"]);
    std::fs::create_dir(folder.join("test")).unwrap();
    refused(&folder, &["no folder of images"]);
}
