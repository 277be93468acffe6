//! Every kernel of the corpus lowers: PTX of several compilers, kept for the parser's tests.

use std::path::{Path, PathBuf};

use crate::lower_file;

/// PTX files under `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "ptx") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn every_kernel_lowers() {
    let folder = std::env::var_os("EARLYBIRD_PTX_CORPUS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| crate::common::root().join("tests/vgpu_ptx/corpus"));
    let mut bad = Vec::new();
    for path in files(&folder) {
        let text = std::fs::read_to_string(&path).unwrap();
        let module = earlybird::vgpu::ptx::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for func in module.funcs.iter().filter(|f| f.entry) {
            match lower_file(&text, &func.name) {
                Err(e) => bad.push(format!("{} {}: {e}", path.display(), func.name)),
                Ok(kernel) => {
                    assert_eq!(kernel.source.len(), kernel.code.len());
                    assert_eq!(kernel.rpo.len(), kernel.code.len());
                    assert!(kernel.undefined.is_empty(), "{} {}: {:?}", path.display(), func.name, kernel.undefined);
                    let pointers = kernel.params.iter().filter(|p| p.pointer).count();
                    assert!(pointers > 0, "{} {}: no pointer found", path.display(), func.name);
                }
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
