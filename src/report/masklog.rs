//! `masks.bin`: every mask draw of a run, bit-packed, append-only.
//!
//! Little-endian. Header: `EBMASKS1`, u32 channels N, u32 ratios R, R f64 ratios. Then per draw and ratio one record of fixed length: u64 optimiser step, f64
//! epoch, u32 number of the ratio, f32 threshold, ceil(N/64) u64 words (channel 0 in the lowest bit of the first). A torn last record, as a kill leaves it, is
//! cut off when the run is resumed and ignored when it is read.

use std::path::{Path, PathBuf};

use crate::{Error, Result, fsio};

const MAGIC: &[u8; 8] = b"EBMASKS1";
const HINT: &str = "this file is not of this run, or damaged; the run's other files do not need it";

/// One draw for one ratio.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawRecord {
    /// Optimiser steps taken.
    pub step: u64,
    /// Epochs trained.
    pub epoch: f64,
    /// Number of the ratio in the header.
    pub ratio: u32,
    /// Scales up to this are pruned.
    pub threshold: f32,
    /// Packed bits.
    pub words: Vec<u64>,
}

/// The file.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskLog {
    path: PathBuf,
    channels: usize,
    ratios: Vec<f64>,
}

impl MaskLog {
    /// Starts a new file.
    pub fn create(path: &Path, channels: usize, ratios: &[f64]) -> Result<MaskLog> {
        let mut header = MAGIC.to_vec();
        header.extend((channels as u32).to_le_bytes());
        header.extend((ratios.len() as u32).to_le_bytes());
        ratios.iter().for_each(|ratio| header.extend(ratio.to_le_bytes()));
        fsio::write_atomic(path, &header)?;
        Ok(MaskLog { path: path.into(), channels, ratios: ratios.to_vec() })
    }

    /// Goes on behind the first `draws` draws (of all ratios each); what lies behind them is cut off.
    ///
    /// # Errors
    /// [`Error::BadFile`] where it is of a network with other than `channels` BN channels, of other ratios, or holds fewer draws.
    pub fn resume(path: &Path, channels: usize, ratios: &[f64], draws: usize) -> Result<MaskLog> {
        let (log, bytes) = MaskLog::header(path)?;
        if log.channels != channels || log.ratios != ratios {
            let what = format!("is of {} channels and ratios {:?}", log.channels, log.ratios);
            return Err(Error::bad_file(path, Some(8), format!("{what}, the run of {channels} and {ratios:?}"), HINT));
        }
        let keep = log.header_len() + draws * log.ratios.len() * log.record_len();
        if bytes.len() < keep {
            return Err(Error::bad_file(
                path,
                Some(bytes.len() as u64),
                format!("holds fewer than {draws} draws"),
                HINT,
            ));
        }
        fsio::write_atomic(path, &bytes[..keep])?;
        Ok(log)
    }

    /// Channels of each mask.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Watched ratios.
    pub fn ratios(&self) -> &[f64] {
        &self.ratios
    }

    fn header_len(&self) -> usize {
        16 + 8 * self.ratios.len()
    }

    fn record_len(&self) -> usize {
        24 + 8 * self.channels.div_ceil(64)
    }

    /// Appends one draw: a record for each ratio.
    pub fn append(&self, records: &[DrawRecord]) -> Result<()> {
        let mut bytes = Vec::with_capacity(records.len() * self.record_len());
        for record in records {
            bytes.extend(record.step.to_le_bytes());
            bytes.extend(record.epoch.to_le_bytes());
            bytes.extend(record.ratio.to_le_bytes());
            bytes.extend(record.threshold.to_le_bytes());
            record.words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        }
        fsio::append(&self.path, &bytes)
    }

    fn header(path: &Path) -> Result<(MaskLog, Vec<u8>)> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("read the mask draws", path, e))?;
        let bad = |at: u64, what: &str| Error::bad_file(path, Some(at), what, HINT);
        let u32_at =
            |at: usize| bytes.get(at..at + 4).and_then(|b| Some(u32::from_le_bytes(b.try_into().ok()?) as usize));
        if bytes.get(..8) != Some(MAGIC) {
            return Err(bad(0, "is no file of mask draws"));
        }
        let (Some(channels), Some(count)) = (u32_at(8), u32_at(12)) else {
            return Err(bad(8, "is truncated in its header"));
        };
        if channels == 0 || channels > 1 << 28 || count == 0 || count > 1024 {
            return Err(bad(8, "has an impossible number of channels or ratios"));
        }
        let ratios = bytes.get(16..16 + 8 * count).ok_or_else(|| bad(16, "is truncated in its header"))?;
        let (ratios, _) = ratios.as_chunks::<8>();
        let ratios = ratios.iter().map(|b| f64::from_le_bytes(*b)).collect();
        Ok((MaskLog { path: path.into(), channels, ratios }, bytes))
    }

    /// Reads all whole records.
    pub fn read(path: &Path) -> Result<(MaskLog, Vec<DrawRecord>)> {
        let (log, bytes) = MaskLog::header(path)?;
        let mut records = Vec::new();
        for (i, record) in bytes[log.header_len()..].chunks_exact(log.record_len()).enumerate() {
            let (words, _) = record.as_chunks::<8>();
            let [step, epoch, mixed] = [0, 1, 2].map(|i| u64::from_le_bytes(words[i]));
            let ratio = mixed as u32;
            if ratio as usize >= log.ratios.len() {
                let at = log.header_len() + i * log.record_len() + 16;
                return Err(Error::bad_file(
                    path,
                    Some(at as u64),
                    format!("a record is of ratio number {ratio}"),
                    HINT,
                ));
            }
            records.push(DrawRecord {
                step,
                epoch: f64::from_bits(epoch),
                ratio,
                threshold: f32::from_bits((mixed >> 32) as u32),
                words: words[3..].iter().map(|word| u64::from_le_bytes(*word)).collect(),
            });
        }
        Ok((log, records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u64, ratio: u32) -> DrawRecord {
        DrawRecord {
            step,
            epoch: step as f64 / 4.0,
            ratio,
            threshold: 0.25 + step as f32,
            words: vec![step << 3 | 1, 5],
        }
    }

    #[test]
    fn draws_read_back_and_a_torn_tail_is_ignored_and_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("masks.bin");
        let log = MaskLog::create(&path, 70, &[0.3, 0.5]).unwrap();
        let draws: Vec<Vec<DrawRecord>> = (0..3).map(|step| vec![record(step, 0), record(step, 1)]).collect();
        draws.iter().for_each(|draw| log.append(draw).unwrap());
        fsio::append(&path, b"torn").unwrap();
        let (read, records) = MaskLog::read(&path).unwrap();
        assert_eq!((read.channels(), read.ratios()), (70, &[0.3, 0.5][..]));
        assert_eq!(records, draws.concat());
        let log = MaskLog::resume(&path, 70, &[0.3, 0.5], 2).unwrap();
        log.append(&draws[2]).unwrap();
        assert_eq!(MaskLog::read(&path).unwrap().1, draws.concat());
        assert!(MaskLog::resume(&path, 70, &[0.3, 0.5], 4).is_err(), "there are three draws");
        assert!(MaskLog::resume(&path, 71, &[0.3, 0.5], 2).is_err(), "of another network");
        assert!(MaskLog::resume(&path, 70, &[0.3], 2).is_err(), "of other ratios");
    }

    #[test]
    fn damaged_files_are_errors_never_panics() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("masks.bin");
        MaskLog::create(&path, 70, &[0.3]).unwrap().append(&[record(1, 0)]).unwrap();
        let good = std::fs::read(&path).unwrap();
        for length in 0..24 {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(MaskLog::read(&path).is_err(), "{length}");
        }
        for at in 0..good.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                std::fs::write(&path, &bytes).unwrap();
                let _ = MaskLog::read(&path);
            }
        }
    }
}
