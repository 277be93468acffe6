//! Small images in a black frame: the networks take at least 32x32 pixels.

/// Least rows and columns of an image in memory.
pub const LEAST: usize = 32;

/// Copies `image` (HWC, rows of `row` bytes) into the middle of `out` (rows of `out_row` bytes), which is black; where the frame cannot be even, it is wider below and to
/// the right. `channels` bytes make a pixel.
pub fn put(image: &[u8], row: usize, out: &mut [u8], out_row: usize, channels: usize) {
    let above = (out.len() / out_row - image.len() / row) / 2;
    let left = (out_row - row) / channels / 2 * channels;
    for (from, to) in image.chunks_exact(row).zip(out.chunks_exact_mut(out_row).skip(above)) {
        to[left..][..row].copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_lie_in_the_middle() {
        let mut out = [0; 5 * 4 * 2];
        put(&[1, 2, 3, 4], 2, &mut out, 8, 2); // 2x1 pixels of 2 channels in 5x4
        let mut expected = [0; 40];
        expected[8 + 2..12].copy_from_slice(&[1, 2]);
        expected[16 + 2..20].copy_from_slice(&[3, 4]);
        assert_eq!(out, expected);
        let mut same = [0; 4];
        put(&[1, 2, 3, 4], 2, &mut same, 2, 1);
        assert_eq!(same, [1, 2, 3, 4]);
    }
}
