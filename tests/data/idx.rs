//! MNIST and Fashion-MNIST.

use crate::support::*;

fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

#[test]
fn plain_packed_and_dotted_names_give_the_same_grey_images_in_a_black_frame() {
    let mut all = Vec::new();
    for (ending, pack) in [("", plain as fn(&[u8]) -> Vec<u8>), (".gz", gzip), (".gz", plain)] {
        let (_temp, folder) = folder("MNIST");
        mnist(&folder, ending, pack);
        all.push(load(&folder));
    }
    let (_temp, folder) = folder("raw");
    mnist(&folder, "", plain);
    for name in [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS] {
        std::fs::rename(folder.join(name), folder.join(name.replace("-idx", ".idx"))).unwrap();
    }
    all.push(load(&folder));
    let first = &all[0];
    assert_eq!((first.name.as_str(), first.classes, first.flip), ("mnist", 10, false));
    assert_eq!((first.train.height, first.train.width, first.train.channels), (32, 32, 1));
    assert_eq!((&*first.train.labels, &*first.test.labels), (&[5, 0, 9][..], &[7, 2][..]));
    for i in 0..3 {
        let (image, digit) = (first.train.image(i), digit(i));
        for (at, pixel) in image.iter().enumerate() {
            let (y, x) = (at / 32, at % 32);
            let inside = (2..30).contains(&y) && (2..30).contains(&x);
            assert_eq!(*pixel, if inside { digit[(y - 2) * 28 + x - 2] } else { 0 });
        }
    }
    for other in &all[1..] {
        assert_eq!((&other.train, &other.test, &other.normalise), (&first.train, &first.test, &first.normalise));
    }
}

#[test]
fn mean_and_deviation_are_those_of_the_padded_training_images() {
    let (_temp, folder) = folder("MNIST");
    mnist(&folder, "", plain);
    let data = load(&folder);
    let values: Vec<f64> = data.train.images.iter().map(|p| f64::from(*p) / 255.0).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
    assert!((f64::from(data.normalise.mean[0]) - mean).abs() < 1e-6);
    assert!((f64::from(data.normalise.std[0]) - variance.sqrt()).abs() < 1e-6);
}

#[test]
fn fashion_mnist_has_its_class_names_and_trains_alike() {
    let (_temp, folder) = folder("FashionMNIST/raw");
    mnist(&folder, ".gz", gzip);
    let data = load(&folder);
    assert_eq!((data.name.as_str(), data.class_names[9].as_str(), data.flip), ("fashion-mnist", "Ankle boot", false));
}

#[test]
fn missing_files_are_named() {
    for missing in [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS] {
        let (_temp, folder) = folder("MNIST");
        mnist(&folder, ".gz", gzip);
        std::fs::remove_file(folder.join(format!("{missing}.gz"))).unwrap();
        refused(&folder, &[missing, "missing"]);
    }
}

/// MNIST with one file replaced, plain and packed; every word must be in both messages.
fn replaced(name: &str, bytes: &[u8], words: &[&str]) {
    for (ending, pack) in [("", plain as fn(&[u8]) -> Vec<u8>), (".gz", gzip)] {
        let (_temp, folder) = folder("MNIST");
        mnist(&folder, ending, pack);
        write(&folder.join(format!("{name}{ending}")), &pack(bytes));
        refused(&folder, &[&[name], words].concat());
    }
}

#[test]
fn headers_are_checked() {
    let images: Vec<u8> = (0..3).flat_map(digit).collect();
    replaced(TRAIN_IMAGES, &idx(0x801, &[3, 28, 28], &images), &["at byte 0", "0x00000801", "0x00000803"]);
    replaced(TRAIN_LABELS, &idx(0xd01, &[3], &[1, 2, 3]), &["at byte 0", "0x00000d01"]);
    replaced(TRAIN_IMAGES, &idx(0x803, &[3, 27, 28], &images), &["at byte 8", "27x28", "28x28"]);
    replaced(TRAIN_IMAGES, &idx(0x803, &[3, 28, 32], &images), &["at byte 12", "28x32", "28x28"]);
    replaced(TRAIN_IMAGES, &idx(0x803, &[0, 28, 28], &[]), &["at byte 4", "counts 0"]);
    replaced(TRAIN_LABELS, &idx(0x801, &[2], &[1, 2]), &["at byte 4", "2 labels for 3 images"]);
    replaced(TRAIN_IMAGES, &[0, 0, 8], &["truncated"]);
    replaced(TRAIN_IMAGES, &[], &["truncated"]);
    replaced(TEST_LABELS, &idx(0x801, &[2], &[3, 10]), &["at byte 9", "label 10 of image 1"]);
}

#[test]
fn too_short_and_too_long_files_are_noticed() {
    let images: Vec<u8> = (0..3).flat_map(digit).collect();
    let whole = idx(0x803, &[3, 28, 28], &images);
    for length in [16, 17, 800, whole.len() - 1] {
        replaced(TRAIN_IMAGES, &whole[..length], &["truncated"]);
    }
    replaced(TRAIN_IMAGES, &[&whole[..], &[0]].concat(), &[&format!("at byte {}", whole.len())]);
    replaced(TRAIN_LABELS, &idx(0x801, &[3], &[1, 2]), &["truncated"]);
    replaced(TRAIN_LABELS, &idx(0x801, &[3], &[1, 2, 3, 4]), &["at byte 11"]);
}

#[test]
fn headers_cannot_ask_for_memory() {
    for count in [1 << 21, u32::MAX] {
        replaced(TRAIN_IMAGES, &idx(0x803, &[count, 28, 28], &digit(0)), &["at byte 4", "are read"]);
    }
    replaced(TRAIN_IMAGES, &idx(0x803, &[3, u32::MAX, u32::MAX], &digit(0)), &["at byte 8", "28x28"]);
    // A million images promised by both headers, one there.
    let (_temp, folder) = folder("MNIST");
    mnist(&folder, ".gz", gzip);
    write(&folder.join(format!("{TRAIN_IMAGES}.gz")), &gzip(&idx(0x803, &[1 << 20, 28, 28], &digit(0))));
    write(&folder.join(format!("{TRAIN_LABELS}.gz")), &gzip(&idx(0x801, &[1 << 20], &vec![0; 1 << 20])));
    refused(&folder, &[TRAIN_IMAGES, "truncated"]);
    // A bomb: 64 MiB of zeros behind three labels; reading stops at the fourth byte.
    mnist(&folder, ".gz", gzip);
    write(&folder.join(format!("{TRAIN_LABELS}.gz")), &gzip(&idx(0x801, &[3], &vec![0; 64 << 20])));
    refused(&folder, &[TRAIN_LABELS, "goes on"]);
}

#[test]
fn damaged_gzip_is_noticed() {
    let images: Vec<u8> = (0..3).flat_map(digit).collect();
    let packed = gzip(&idx(0x803, &[3, 28, 28], &images));
    let path = format!("{TRAIN_IMAGES}.gz");
    let damage = |at: usize| {
        let mut bytes = packed.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let (_temp, folder) = folder("MNIST");
    mnist(&folder, ".gz", gzip);
    // Cut anywhere, the check sum wrong, the length wrong, a wrong method, rubbish behind it.
    for length in [3, 10, packed.len() / 2, packed.len() - 1] {
        write(&folder.join(&path), &packed[..length]);
        refused(&folder, &[&path, "truncated"]);
    }
    for at in [2, packed.len() / 2, packed.len() - 8, packed.len() - 1] {
        write(&folder.join(&path), &damage(at));
        refused(&folder, &[&path, "at byte"]);
    }
    write(&folder.join(&path), &[&packed[..], b"rubbish behind it"].concat());
    refused(&folder, &[&path, "damaged"]);
}
