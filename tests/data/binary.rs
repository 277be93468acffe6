//! `cifar-10-batches-bin` and `cifar-100-binary`.

use crate::support::*;

#[test]
fn cifar10_is_read_with_its_class_names() {
    let (_temp, folder) = folder("cifar-10-batches-bin");
    cifar10_bin(&folder);
    let data = load(&folder);
    assert_eq!((data.name.as_str(), data.classes, data.flip), ("cifar-10", 10, true));
    assert_eq!(data.train.labels, [1, 2, 2, 3, 3, 4, 4, 5, 5, 6]);
    assert_eq!(data.test.labels, [0, 9, 4]);
    assert_eq!((data.train.image(0), data.train.image(3), data.test.image(2)), (&*hwc(0), &*hwc(1), &*hwc(2)));
    assert_eq!(data.class_names[9], "9");
    let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
    write(&folder.join("batches.meta.txt"), names.as_bytes());
    assert_eq!(load(&folder).class_names[9], "truck");
}

#[test]
fn cifar100_takes_the_fine_label() {
    let (_temp, folder) = folder("cifar-100-binary");
    cifar100_bin(&folder);
    let data = load(&folder);
    assert_eq!((data.classes, &*data.train.labels, &*data.test.labels), (100, &[99, 0, 50][..], &[7][..]));
    assert_eq!(data.train.image(2), hwc(2));
}

#[test]
fn a_missing_file_is_named() {
    for missing in ["data_batch_1.bin", "data_batch_4.bin", "test_batch.bin"] {
        let (_temp, folder) = folder("cifar-10-batches-bin");
        cifar10_bin(&folder);
        std::fs::remove_file(folder.join(missing)).unwrap();
        refused(&folder, &[missing, "missing", "binary version"]);
    }
    let (_temp, folder) = folder("cifar-100-binary");
    cifar100_bin(&folder);
    std::fs::remove_file(folder.join("test.bin")).unwrap();
    refused(&folder, &["test.bin", "missing"]);
}

#[test]
fn a_truncated_file_is_noticed_at_any_length() {
    let (_temp, folder) = folder("cifar-10-batches-bin");
    for (length, at) in [(0, 0), (1, 0), (3072, 0), (3074, 3073), (6145, 3073)] {
        cifar10_bin(&folder);
        write(&folder.join("data_batch_3.bin"), &records(&[&[1], &[2]])[..length]);
        refused(&folder, &["data_batch_3.bin", &format!("at byte {at}"), "truncated"]);
    }
    // A whole number of records, but fewer than its sisters have.
    write(&folder.join("data_batch_3.bin"), &records(&[&[1], &[2]])[..3073]);
    refused(&folder, &["data_batch_3.bin", "holds 1 images", "truncated"]);
}

#[test]
fn a_label_out_of_range_is_refused_with_its_byte() {
    let (_temp, folder) = folder("cifar-10-batches-bin");
    cifar10_bin(&folder);
    write(&folder.join("test_batch.bin"), &records(&[&[0], &[10]]));
    refused(&folder, &["test_batch.bin", "at byte 3073", "label 10 of image 1"]);
    let (_temp, folder) = self::folder("cifar-100-binary");
    cifar100_bin(&folder);
    write(&folder.join("train.bin"), &records(&[&[0, 1], &[0, 100]]));
    refused(&folder, &["train.bin", "at byte 3075", "label 100 of image 1"]);
}

#[test]
fn damaged_class_names_are_not_passed_over() {
    let (_temp, folder) = folder("cifar-10-batches-bin");
    cifar10_bin(&folder);
    write(&folder.join("batches.meta.txt"), b"airplane\nbird\n");
    refused(&folder, &["batches.meta.txt", "names 2 classes"]);
    write(&folder.join("batches.meta.txt"), b"air\xff");
    refused(&folder, &["batches.meta.txt", "at byte 3", "UTF-8"]);
}

#[test]
fn sizes_beyond_memory_and_folders_for_files_are_refused() {
    let (_temp, folder) = folder("cifar-10-batches-bin");
    cifar10_bin(&folder);
    let sparse = std::fs::File::create(folder.join("data_batch_2.bin")).unwrap();
    sparse.set_len(3073 << 30).unwrap(); // 3 TB that take no room on disk
    refused(&folder, &["data_batch_2.bin", "at most"]);
    std::fs::remove_file(folder.join("data_batch_2.bin")).unwrap();
    std::fs::create_dir(folder.join("data_batch_2.bin")).unwrap();
    refused(&folder, &["data_batch_2.bin", "no regular file"]);
}
