//! A decoded photograph, and how one comes out of a file nobody has vouched for.
//!
//! JPEG and PNG by content, whatever the name says. The result is RGB with 8 bits, as torchvision's loader has it: grey is repeated, alpha dropped, CMYK converted, EXIF's
//! orientation not looked at. Of 16 bits the upper 8 stay (Pillow clips 16-bit grey instead, which turns most of it white). Not here: which part of it is used
//! ([`super::crop`]).

use std::io::Cursor;

use image::{ImageDecoder, ImageFormat, ImageReader, Limits};

/// Most bytes of a file: ImageNet's largest has 15 MB.
pub const MAX_FILE: u64 = 64 << 20;
/// Most pixels of an image: a header alone must not cost more than 200 MB.
const MAX_PIXELS: u64 = 1 << 26;

/// RGB, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `height * width * 3` bytes.
    pub rgb: Vec<u8>,
}

/// Decodes the content of a file.
///
/// # Errors
/// Why it is no intact image, in words.
pub fn decode(bytes: &[u8]) -> Result<Picture, String> {
    let one_line = |e: image::ImageError| e.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) if !has_jpeg_end(bytes) => return Err("a JPEG image without an end: truncated?".into()),
        Ok(ImageFormat::Jpeg | ImageFormat::Png) => {}
        Ok(other) => return Err(format!("an image of kind {other:?}; JPEG and PNG are read")),
        Err(_) if bytes.is_empty() => return Err("an empty file".into()),
        Err(_) => return Err("no JPEG or PNG image".into()),
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(8 * MAX_PIXELS); // 16 bits and alpha
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(one_line)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        return Err(format!("an image of {height}x{width} pixels; 1 to {MAX_PIXELS} pixels are read"));
    }
    let image = image::DynamicImage::from_decoder(decoder).map_err(one_line)?;
    Ok(Picture { width, height, rgb: image.into_rgb8().into_raw() })
}

/// Whether an end-of-image marker follows the last start of a scan. The decoder itself fills what is missing with grey.
pub fn has_jpeg_end(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| *pair == [0xff, marker]);
    last(0xd9) > last(0xda)
}
