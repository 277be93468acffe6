//! `cifar-10-batches-py` and `cifar-100-python`, as Python wrote them and as the official files are laid out.

use std::path::Path;

use crate::support::*;

/// Protocol 2 as Python 2 wrote the official files: `str` keys, a list of labels, an array whose bytes are a `str`.
pub fn official(key: &str, labels: &[u8], shape: [u16; 2], pixels: &[u8]) -> Vec<u8> {
    let mut out = b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U".to_vec();
    out.push(key.len() as u8);
    out.extend(key.as_bytes());
    out.extend(b"q\x04]q\x05(");
    labels.iter().for_each(|label| out.extend([b'K', *label]));
    out.extend(b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01");
    for side in shape {
        out.push(b'M');
        out.extend(side.to_le_bytes());
    }
    out.extend(b"\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
    out.extend((pixels.len() as u32).to_le_bytes());
    out.extend(pixels);
    out.extend(b"tbU\x09filenamesq\x0c]q\x0d(");
    labels.iter().for_each(|label| out.extend(format!("U\x05{label:05}").into_bytes()));
    out.extend(b"eu.");
    out
}

/// Two images with labels 3 and 9.
pub fn batch() -> Vec<u8> {
    official("labels", &[3, 9], [2, 3072], &[planes(0), planes(1)].concat())
}

fn check(folder: &Path, case: &str) {
    let data = load(folder);
    assert_eq!(
        (data.name.as_str(), data.classes, data.train.len(), data.test.len()),
        ("cifar-10", 10, 10, 2),
        "{case}"
    );
    assert_eq!(data.test.labels, [3, 9], "{case}");
    assert_eq!((data.test.image(0), data.train.image(9)), (&*hwc(0), &*hwc(1)), "{case}");
}

#[test]
fn every_protocol_of_both_numpys_is_read() {
    let names = (0..6).flat_map(|protocol| ["numpy1", "numpy2"].map(|numpy| format!("{numpy}-p{protocol}")));
    for name in names.chain(["numpy1-p2-str".into()]) {
        let (_temp, folder) = folder("cifar-10-batches-py");
        cifar10_py(&folder, &fixture(&name));
        check(&folder, &name);
    }
}

#[test]
fn the_official_layout_is_read() {
    let (_temp, folder) = folder("cifar-10-batches-py");
    cifar10_py(&folder, &batch());
    check(&folder, "official");
}

#[test]
fn cifar100_takes_the_fine_labels() {
    for name in ["numpy1-p2", "numpy2-p5"] {
        let (_temp, folder) = folder("cifar-100-python");
        write(&folder.join("train"), &fixture(name));
        write(&folder.join("test"), &fixture(name));
        let data = load(&folder);
        assert_eq!((data.name.as_str(), data.classes, &*data.train.labels), ("cifar-100", 100, &[42, 99][..]));
        assert_eq!(data.train.image(1), hwc(1));
    }
}

#[test]
fn class_names_come_from_the_meta_file() {
    let (_temp, folder) = folder("cifar-10-batches-py");
    cifar10_py(&folder, &batch());
    let names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    let meta = |names: &[&str]| {
        let mut meta = b"\x80\x02}q\x01(U\x13num_cases_per_batchq\x02M\x10'U\x0blabel_namesq\x03]q\x04(".to_vec();
        for name in names {
            meta.extend([b'U', name.len() as u8]);
            meta.extend(name.as_bytes());
        }
        meta.extend(b"eu.");
        meta
    };
    write(&folder.join("batches.meta"), &meta(&names));
    assert_eq!(load(&folder).class_names, names);
    write(&folder.join("batches.meta"), &meta(&names[..9]));
    refused(&folder, &["batches.meta", "names 9 classes"]);
    write(&folder.join("batches.meta"), b"cos\nsystem\n.");
    refused(&folder, &["batches.meta", "os.system"]);
}

#[test]
fn missing_and_truncated_files_are_named() {
    for missing in ["data_batch_2", "test_batch"] {
        let (_temp, folder) = folder("cifar-10-batches-py");
        cifar10_py(&folder, &batch());
        std::fs::remove_file(folder.join(missing)).unwrap();
        refused(&folder, &[missing, "missing", "Python version"]);
    }
    let (_temp, folder) = folder("cifar-10-batches-py");
    for name in ["numpy1-p0", "numpy1-p2", "numpy2-p4", "numpy2-p5"] {
        let whole = fixture(name);
        for length in [0, 1, 2, 12, 60, 170, 400, 3000, whole.len() - 2, whole.len() - 1] {
            cifar10_py(&folder, &whole[..length]);
            refused(&folder, &["data_batch_1", "at byte"]);
        }
        cifar10_py(&folder, &[&whole[..], b"\n"].concat());
        refused(&folder, &["data_batch_1", &format!("at byte {}", whole.len() - 1), "1 bytes follow STOP"]);
    }
}

#[test]
fn content_that_is_no_cifar_is_refused() {
    let (_temp, folder) = folder("cifar-10-batches-py");
    let images = [planes(0), planes(1)].concat();
    let cases: [(Vec<u8>, &[&str]); 8] = [
        (official("labels", &[3, 10], [2, 3072], &images), &["label 10 of image 1"]),
        (official("labels", &[3], [2, 3072], &images), &["1 labels for 2 images"]),
        (official("labels", &[3, 9], [2, 3071], &images[..6142]), &["3071 values", "3072"]),
        (official("labels", &[3, 9], [2, 3072], &images[..6143]), &["2x3072", "6143 bytes"]),
        (official("labels", &[3, 9], [u16::MAX; 2], &images), &["65535x65535"]),
        (official("labels", &[], [0, 3072], &[]), &["no training images"]),
        (official("fine_labels", &[3, 9], [2, 3072], &images), &["no `labels`"]),
        (b"\x80\x02]q\x00.".into(), &["a list, no dict"]),
    ];
    for (bytes, words) in cases {
        cifar10_py(&folder, &bytes);
        refused(&folder, words);
    }
}
