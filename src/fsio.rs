//! tmp
use std::path::Path;
/// tmp
pub fn write_atomic(path: &Path, bytes: &[u8]) -> crate::Result<()> {
    std::fs::write(path, bytes).map_err(|e| crate::Error::io("write", path, e))
}
