//! The command's answer to bad data: exit code 2, one message on standard error, no run folder.

use crate::common::{earlybird, outcome};
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
        let state = out.join("state.safetensors");
        let (code, printed, errors) =
            outcome(earlybird(&["info", "--file", state.to_str().unwrap()]).output().unwrap());
        assert_eq!(code, 0, "{errors}");
        assert!(printed.contains(shape), "{printed}");
    }
}
