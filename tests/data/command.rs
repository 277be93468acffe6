//! The command's answer to bad data: exit code 2, one message on standard error, no run folder.

use crate::common::{earlybird, executable, outcome};
use std::path::Path;

use crate::support::*;

#[test]
fn bad_data_ends_training_with_one_message() {
    let (temp, folder) = folder("cifar-10-batches-bin");
    let (python, images) = (temp.path().join("cifar-10-batches-py"), temp.path().join("MNIST"));
    cifar10_bin(&folder);
    write(&folder.join("data_batch_5.bin"), &records(&[&[1], &[10]]));
    cifar10_py(&python, b"cos\nsystem\n(S'touch executed'\ntR.");
    mnist(&images, "", |bytes| bytes.to_vec());
    write(&images.join(TRAIN_IMAGES), &idx(0x802, &[3, 28, 28], &[]));
    let missing = temp.path().join("none");
    for (data, word) in [(&folder, "label 10"), (&python, "os.system"), (&images, "0x00000802"), (&missing, "none")] {
        for command in ["train", "search"] {
            let out = temp.path().join("run");
            let arguments = ["--data", data.to_str().unwrap(), "--out", out.to_str().unwrap(), "--device", "cpu"];
            let (code, printed, errors) = outcome(earlybird(&[command]).args(arguments).output().unwrap());
            assert_eq!((code, printed.as_str(), errors.lines().count()), (2, "", 1), "{errors}");
            assert!(errors.starts_with("error: ") && errors.contains(word), "{errors}");
            assert!(!out.exists());
        }
    }
}

#[test]
fn the_number_of_classes_and_grey_images_reach_the_model() {
    let (temp, folder) = folder("MNIST");
    mnist(&folder, ".gz", gzip);
    let cifar = temp.path().join("cifar-100-binary");
    cifar100_bin(&cifar);
    for (data, shape) in [(&folder, "32x32x1 images, 10 classes"), (&cifar, "32x32x3 images, 100 classes")] {
        let out = temp.path().join(shape);
        let arguments = ["--data", data.to_str().unwrap(), "--out", out.to_str().unwrap(), "--steps", "1"];
        let model = ["--model", "vgg11", "--width", "0.05", "--batch-size", "2", "--device", "cpu", "--quiet"];
        let (code, _, errors) = outcome(earlybird(&["train"]).args(arguments).args(model).output().unwrap());
        assert_eq!(code, 0, "{errors}");
        let file = out.join("model.safetensors");
        let (code, printed, errors) = outcome(earlybird(&["info", "--file", file.to_str().unwrap()]).output().unwrap());
        assert_eq!(code, 0, "{errors}");
        assert!(printed.contains(shape), "{printed}");
        assert!(printed.contains("classes      0, 1, 2"), "{printed}");
    }
}

/// Trains one step on `data` into `out`, or goes on with it: exit code and standard error.
fn one_step(data: &Path, out: &Path, steps: &str, resume: bool) -> (i32, String) {
    let (data, out) = (data.to_str().unwrap(), out.to_str().unwrap());
    let model = ["--data", data, "--out", out, "--model", "vgg11", "--width", "0.05", "--batch-size", "2", "--quiet"];
    let command = if resume { vec!["--resume", out, "--quiet"] } else { model.to_vec() };
    let (code, _, errors) =
        outcome(earlybird(&["train"]).args(command).args(["--device", "cpu", "--steps", steps]).output().unwrap());
    (code, errors)
}

#[test]
fn a_run_goes_on_with_the_very_images_it_began_with() {
    let (temp, folder) = folder("cifar-10-batches-bin");
    cifar10_bin(&folder);
    let (out, file) = (temp.path().join("run"), folder.join("data_batch_2.bin"));
    assert_eq!(one_step(&folder, &out, "1", false), (0, String::new()));
    let before = std::fs::read(&file).unwrap();
    let mut after = before.clone();
    after[77] ^= 1; // one bit of one pixel
    write(&file, &after);
    let (code, errors) = one_step(&folder, &out, "2", true);
    assert!(code == 2 && errors.contains("other images") && errors.contains("10 training and 3 test"), "{errors}");
    write(&file, &before);
    assert_eq!(one_step(&folder, &out, "2", true), (0, String::new()));
}

#[cfg(target_os = "linux")]
#[test]
fn hostile_sizes_are_refused_in_little_memory() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    // 3 TB of nothing; a length of 2^63; a million images promised; two images of 65535x65535 with sound check sums.
    cifar10_bin(&at("sparse"));
    std::fs::File::create(at("sparse/data_batch_1.bin")).unwrap().set_len(3073 << 30).unwrap();
    cifar10_py(&at("pickle"), b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.");
    mnist(&at("idx"), ".gz", gzip);
    write(&at("idx").join(format!("{TRAIN_IMAGES}.gz")), &gzip(&idx(0x803, &[1 << 20, 28, 28], &[0; 784])));
    write(&at("idx").join(format!("{TRAIN_LABELS}.gz")), &gzip(&idx(0x801, &[1 << 20], &vec![0; 1 << 20])));
    for part in ["train/a", "train/b", "test/a"] {
        write(&at("images").join(part).join("1.png"), &crate::images::bomb());
    }
    for name in ["sparse", "pickle", "idx", "images"] {
        let arguments = format!("train --data {} --out {} --device cpu", at(name).display(), at("run").display());
        // 512 MB of address space, program and stacks of two threads included.
        let limited = format!("ulimit -v 500000; exec {} {arguments}", executable().display());
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &limited]).env("RAYON_NUM_THREADS", "2").env("MALLOC_ARENA_MAX", "1");
        let (code, _, errors) = outcome(command.output().unwrap());
        assert!(code == 2 && errors.starts_with("error: ") && errors.lines().count() == 1, "{name}: {errors}");
    }
}
