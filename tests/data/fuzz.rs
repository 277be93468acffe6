//! No reader panics or hangs on damaged or random bytes: it reads, or refuses with exit code 2.

use proptest::prelude::*;

use crate::common::cases::cases;
use crate::python::batch;
use crate::support::*;

/// What is done to a file.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => any::<usize>().prop_map(Change::Cut),
        2 => (any::<usize>(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, new)| Change::Insert(at, new)),
        2 => (any::<usize>(), 1usize..200).prop_map(|(at, n)| Change::Remove(at, n)),
    ]
}

/// Applies changes; most fall into the first 300 bytes or the last 100, where the structure is.
fn apply(bytes: &mut Vec<u8>, changes: &[Change]) {
    let place = |at: usize, n: usize| match at % 4 {
        0 => (at >> 2) % n,
        1 => n - 1 - (at >> 2) % n.min(100),
        _ => (at >> 2) % n.min(300),
    };
    for change in changes {
        let n = bytes.len();
        if n == 0 {
            return;
        }
        match change {
            Change::Set(at, byte) => bytes[place(*at, n)] = *byte,
            Change::Cut(at) => bytes.truncate(place(*at, n)),
            Change::Insert(at, new) => {
                let at = place(*at, n);
                bytes.splice(at..at, new.iter().copied());
            }
            Change::Remove(at, count) => {
                let at = place(*at, n);
                bytes.drain(at..(at + count).min(n));
            }
        }
    }
}

/// Opens a folder that may hold anything.
fn must_not_panic(folder: &std::path::Path) -> Result<(), TestCaseError> {
    match earlybird::data::open(folder.to_str().unwrap()) {
        Ok(data) => prop_assert!(data.train.labels.iter().all(|label| (*label as usize) < data.classes)),
        Err(error) => prop_assert_eq!(error.exit_code(), 2),
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(192))]

    #[test]
    fn pickles(which in 0usize..14, changes in prop::collection::vec(change(), 1..6)) {
        let mut bytes = match which {
            0..6 => fixture(&format!("numpy1-p{which}")),
            6..12 => fixture(&format!("numpy2-p{}", which - 6)),
            12 => fixture("numpy1-p2-str"),
            _ => batch(),
        };
        apply(&mut bytes, &changes);
        let (_temp, folder) = folder("cifar-10-batches-py");
        cifar10_py(&folder, &batch());
        write(&folder.join("data_batch_1"), &bytes);
        must_not_panic(&folder)?;
    }

    #[test]
    fn random_opcodes(bytes in prop::collection::vec(prop_oneof![
        3 => prop::sample::select(b"()]}.aeslutdNRbI01\n\x80\x02\x85\x86\x87\x88\x89\x93\x94\x95cqhrjpgKMJTUXVSB'".to_vec()),
        1 => any::<u8>(),
    ], 0..200)) {
        let (_temp, folder) = folder("cifar-10-batches-py");
        cifar10_py(&folder, &bytes);
        must_not_panic(&folder)?;
    }

    #[test]
    fn idx_plain_and_packed(file in 0usize..4, outer in any::<bool>(), changes in prop::collection::vec(change(), 1..5)) {
        let (_temp, folder) = folder("MNIST");
        mnist(&folder, "", |bytes| bytes.to_vec());
        let path = folder.join([TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS][file]);
        let mut bytes = std::fs::read(&path).unwrap();
        if outer {
            bytes = gzip(&bytes);
            apply(&mut bytes, &changes);
        } else {
            apply(&mut bytes, &changes);
            bytes = gzip(&bytes);
        }
        write(&path, &bytes);
        must_not_panic(&folder)?;
    }

    #[test]
    fn binary(changes in prop::collection::vec(change(), 1..5)) {
        let (_temp, folder) = folder("cifar-100-binary");
        cifar100_bin(&folder);
        let path = folder.join("train.bin");
        let mut bytes = std::fs::read(&path).unwrap();
        apply(&mut bytes, &changes);
        write(&path, &bytes);
        must_not_panic(&folder)?;
    }

    #[test]
    fn images(jpeg in any::<bool>(), changes in prop::collection::vec(change(), 1..6)) {
        let (_temp, folder) = folder("images");
        let image = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8 * 3, y as u8 * 5, (x * y) as u8]));
        let format = if jpeg { image::ImageFormat::Jpeg } else { image::ImageFormat::Png };
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        let mut bytes = bytes.into_inner();
        for part in ["train/a", "train/b", "test/a"] {
            write(&folder.join(part).join("1.png"), &bytes);
        }
        apply(&mut bytes, &changes);
        write(&folder.join("train/b/2.jpg"), &bytes);
        must_not_panic(&folder)?;
    }
}
