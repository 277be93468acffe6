//! The committed PTX of other compilers (`corpus/README.md`).

use std::io::Read;
use std::path::{Path, PathBuf};

use earlybird::vgpu::ptx::ast::Stmt;

use super::round_trip::check;

/// Name and text of every file, sorted by name.
pub fn files() -> Vec<(String, String)> {
    let root = crate::common::root().join("tests/vgpu_ptx/corpus");
    let list = |folder: &Path| -> Vec<PathBuf> {
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let mut files = Vec::new();
    for path in list(&root).into_iter().filter(|p| p.is_dir()).flat_map(|folder| list(&folder)) {
        let bytes = std::fs::read(&path).unwrap();
        let text = if path.extension().is_some_and(|e| e == "gz") {
            let mut text = String::new();
            flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
            text
        } else {
            String::from_utf8(bytes).unwrap()
        };
        files.push((path.strip_prefix(&root).unwrap().display().to_string(), text));
    }
    files
}

#[test]
fn every_file_round_trips_and_loses_nothing() {
    let files = files();
    assert!(files.len() >= 33, "{} files", files.len());
    for (name, text) in &files {
        let module = check(name, text);
        fn count(body: &[Stmt]) -> usize {
            let inner = |s: &Stmt| match s {
                Stmt::Instr(_) => 1,
                Stmt::Block(body) => count(body),
                _ => 0,
            };
            body.iter().map(inner).sum()
        }
        let instructions: usize = module.funcs.iter().filter_map(|f| f.body.as_deref()).map(count).sum();
        // Counted apart: lines that end in `;` and start with no dot, plus calls, which take several lines.
        let code = text.split(".section").next().unwrap();
        let ends: usize = code.lines().map(|l| l.split("//").next().unwrap().matches(';').count()).sum();
        // A declared function's `;` stands on a line of its own.
        let directive = |l: &&str| l.trim_start_matches(['{', '\t', ' ']).starts_with('.') || l.trim() == ";";
        let declared: usize =
            code.lines().map(|l| l.split("//").next().unwrap()).filter(directive).map(|l| l.matches(';').count()).sum();
        let lists = code.matches(".branchtargets").count();
        let fewest = ends - declared - lists;
        assert!(instructions <= ends && instructions >= fewest, "{name}: {fewest} <= {instructions} <= {ends}");
    }
}
