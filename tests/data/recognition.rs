//! The directory's form is found by itself.

use crate::support::*;

#[test]
fn a_parent_will_do_one_or_two_levels_up() {
    let (temp, folder) = folder("cifar-10-batches-bin");
    cifar10_bin(&folder);
    write(&temp.path().join("readme.txt"), b"");
    std::fs::create_dir(temp.path().join("other")).unwrap();
    assert_eq!(load(temp.path()).name, "cifar-10");
    let (temp, folder) = self::folder("MNIST/raw");
    mnist(&folder, "", |bytes| bytes.to_vec());
    assert_eq!(load(temp.path()).name, "mnist");
}

#[test]
fn several_data_sets_are_listed_and_none_is_chosen() {
    let (temp, folder) = folder("a");
    cifar10_bin(&folder);
    cifar100_bin(&temp.path().join("b"));
    refused(temp.path(), &["several", "cifar-10-batches-bin", "cifar-100-binary"]);
    cifar100_bin(&folder);
    refused(&folder, &["several"]);
}

#[test]
fn what_was_found_and_what_could_be_is_listed() {
    let (_temp, folder) = folder("data");
    refused(&folder, &["nothing at all", "cifar-10-batches-bin", "cifar-100-python", "MNIST", "train/<class>"]);
    write(&folder.join("cifar-10-binary.tar.gz"), b"");
    refused(&folder, &["1 entry: cifar-10-binary.tar.gz"]);
    (0..30).for_each(|i| write(&folder.join(format!("{i:02}")), b""));
    refused(&folder, &["31 entries: 00, 01", ", .."]);
    refused(&folder.join("none"), &["no such directory"]);
    refused(&folder.join("cifar-10-binary.tar.gz"), &["unpacked"]);
}

#[cfg(unix)]
#[test]
fn links_in_a_circle_end() {
    let (_temp, folder) = folder("data");
    std::os::unix::fs::symlink(&folder, folder.join("again")).unwrap();
    refused(&folder, &["again/"]);
}
