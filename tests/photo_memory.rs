//! A long run over photographs needs no more memory than a short one: live bytes after each epoch and the peak stay where they were.
//!
//! A test binary of its own, because it replaces the allocator by one that counts.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in test functions only, not in their helpers

use std::path::Path;
use std::sync::Arc;

use earlybird::data::{Augment, Loader, LoaderOptions, PhotoOptions, photos};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn write(folder: &Path, name: &str, image: &image::RgbImage) {
    std::fs::create_dir_all(folder).unwrap();
    image.save(folder.join(name)).unwrap();
}

#[test]
fn memory_stays_flat_over_many_epochs() {
    let temp = tempfile::tempdir().unwrap();
    for part in ["train", "val"] {
        for class in ["a", "b"] {
            let folder = temp.path().join(part).join(class);
            for i in 0..6u32 {
                let picture =
                    image::RgbImage::from_fn(60 + 7 * i, 50 + 5 * i, |x, y| image::Rgb([x as u8, y as u8, i as u8]));
                write(&folder, &format!("{i}.{}", if i % 2 == 0 { "jpg" } else { "png" }), &picture);
            }
            std::fs::write(folder.join("broken.jpg"), b"no image").unwrap();
        }
    }
    let _profiler = dhat::Profiler::builder().testing().build();
    let options =
        PhotoOptions { threads: 2, max_skipped: 4, cache: Some(temp.path().join("cache")), ..PhotoOptions::new(48) };
    let without = PhotoOptions { cache: None, ..options.clone() };
    for options in [without, options] {
        let data = Arc::new(photos::open(temp.path(), options).unwrap());
        let options = LoaderOptions { batch_size: 4, augment: Augment::cifar(), ..Default::default() };
        let loader = Loader::train(&data, options).unwrap();
        let run = |epochs: std::ops::Range<usize>| {
            for epoch in epochs {
                assert_eq!(
                    loader.epoch(epoch, 0..loader.batches()).map(|batch| batch.unwrap().labels.len()).sum::<usize>(),
                    14
                );
            }
            dhat::HeapStats::get()
        };
        let early = run(0..20);
        let late = run(20..120);
        // A batch in the making and two in the queue come and go; a hundred epochs of anything kept would be more than this.
        let slack = 3 * 4 * 48 * 48 * 3 * 4;
        assert!(
            late.curr_bytes <= early.curr_bytes + slack / 4,
            "{} live bytes became {}",
            early.curr_bytes,
            late.curr_bytes
        );
        assert!(late.max_bytes <= early.max_bytes + slack, "the peak of {} became {}", early.max_bytes, late.max_bytes);
    }
}
