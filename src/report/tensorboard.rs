//! TensorBoard event files, scalars only.
//!
//! A file is a sequence of records: u64 length, masked CRC-32C of the length, payload, masked CRC-32C of the payload (TensorFlow's TFRecord framing; masked =
//! rotated right by 15, plus 0xa282ead8). A payload is a protobuf `Event`: wall_time (1, double), step (2, int64), and either file_version (3, string) or
//! summary (5): repeated value (1) of tag (1, string) and simple_value (2, float).

use std::path::{Path, PathBuf};

use crate::{Result, fsio};

/// An event file under construction; it is written whole and atomically, so that a resumed run leaves one clean curve and no torn record.
pub struct EventFile {
    path: PathBuf,
}

/// One scalar: wall time in seconds since 1970, step, tag, value.
pub type Scalar<'a> = (f64, i64, &'a str, f32);

impl EventFile {
    /// `events.out.tfevents.<name>` in `folder`; the name is fixed, so that a resumed run replaces its file.
    pub fn new(folder: &Path, name: &str) -> EventFile {
        EventFile { path: folder.join(format!("events.out.tfevents.0.{name}")) }
    }

    /// Writes all scalars of the run so far.
    pub fn write(&self, scalars: &[Scalar]) -> Result<()> {
        let mut bytes = Vec::new();
        let mut version = Vec::new();
        double(&mut version, 1, scalars.first().map_or(0.0, |scalar| scalar.0));
        text(&mut version, 3, b"brain.Event:2");
        record(&mut bytes, &version);
        for (wall, step, tag, value) in scalars {
            let (mut event, mut summary, mut entry) = (Vec::new(), Vec::new(), Vec::new());
            text(&mut entry, 1, tag.as_bytes());
            entry.push(2 << 3 | 5);
            entry.extend(value.to_le_bytes());
            text(&mut summary, 1, &entry);
            double(&mut event, 1, *wall);
            event.push(2 << 3);
            varint(&mut event, *step as u64);
            text(&mut event, 5, &summary);
            record(&mut bytes, &event);
        }
        fsio::write_atomic(&self.path, &bytes)
    }
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn record(out: &mut Vec<u8>, payload: &[u8]) {
    let length = (payload.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked_crc(&length).to_le_bytes());
    out.extend(payload);
    out.extend(masked_crc(payload).to_le_bytes());
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn text(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn double(out: &mut Vec<u8>, field: u8, value: f64) {
    out.push(field << 3 | 1);
    out.extend(value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_framing_is_that_of_tfrecord() {
        // `printf '' | masked crc` as TensorFlow computes it: the CRC-32C of nothing is 0.
        assert_eq!(masked_crc(b""), 0xa282_ead8);
        // CRC-32C check value (RFC 3720, B.4: 32 bytes of zeros).
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        let folder = tempfile::tempdir().unwrap();
        let file = EventFile::new(folder.path(), "x");
        file.write(&[(2.5, 300, "train/loss", 0.5), (3.5, 301, "train/loss", 0.25)]).unwrap();
        let bytes = std::fs::read(&file.path).unwrap();
        let (mut at, mut payloads) = (0, Vec::new());
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let crc = |i: usize| u32::from_le_bytes(bytes[i..i + 4].try_into().unwrap());
            assert_eq!(crc(at + 8), masked_crc(&bytes[at..at + 8]));
            let payload = &bytes[at + 12..at + 12 + length];
            assert_eq!(crc(at + 12 + length), masked_crc(payload));
            payloads.push(payload.to_vec());
            at += 16 + length;
        }
        assert_eq!(payloads.len(), 3);
        assert!(payloads[0].ends_with(b"brain.Event:2"));
        assert_eq!(payloads[1][9..12], [0x10, 0xac, 0x02]); // step 300 as a varint
        assert!(payloads[2].windows(10).any(|w| w == b"train/loss") && payloads[2].ends_with(&0.25f32.to_le_bytes()));
    }
}
