//! Data sets, readers, augmentation and the prefetching loader.
