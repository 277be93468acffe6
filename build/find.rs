//! Where NVRTC may lie, in the documented order: `EARLYBIRD_NVRTC`, `CUDA_HOME`/`CUDA_PATH`, the active Python environment and `./.nvrtc`,
//! `/usr/local/cuda*`, then the bare names. Only lists candidates; `nvrtc.rs` opens them.

use std::path::{Path, PathBuf};

/// Environment variables that decide where NVRTC is found.
pub const VARIABLES: [&str; 5] = ["EARLYBIRD_NVRTC", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"];

/// A library to try, or a place where none is.
pub enum Candidate {
    /// Open this.
    Library(PathBuf),
    /// Nothing here; the text goes into the list of what was tried.
    Nothing(String),
}

/// Every place, in order. `root` is the package's folder, `env` reads a variable, `python` gives the site-packages of the active Python.
pub fn candidates(
    root: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    python: &dyn Fn() -> Option<PathBuf>,
) -> Vec<Candidate> {
    let mut list = Vec::new();
    if let Some(value) = env("EARLYBIRD_NVRTC") {
        // An explicit choice is the only choice: falling through to another version would hide a typing error.
        list.push(match value.as_str() {
            "off" => Candidate::Nothing("EARLYBIRD_NVRTC=off".into()),
            path => Candidate::Library(path.into()),
        });
        return list;
    }
    for variable in ["CUDA_HOME", "CUDA_PATH"] {
        match env(variable) {
            Some(home) => toolkit(&mut list, variable, Path::new(&home)),
            None => list.push(Candidate::Nothing(format!("{variable} (not set)"))),
        }
    }
    for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        match env(variable) {
            Some(home) => environment(&mut list, variable, Path::new(&home)),
            None => list.push(Candidate::Nothing(format!("{variable} (not set)"))),
        }
    }
    match python() {
        Some(site) => site_packages(&mut list, "python3", &site),
        None => list.push(Candidate::Nothing("python3 (not there or without site-packages)".into())),
    }
    let own = root.join(".nvrtc");
    if own.is_dir() {
        site_packages(&mut list, "make nvrtc", &own);
        environment(&mut list, "make nvrtc", &own);
    } else {
        list.push(Candidate::Nothing(format!("{} (not there; `make nvrtc` makes it)", own.display())));
    }
    let toolkits = children(Path::new("/usr/local"), "cuda");
    if toolkits.is_empty() {
        list.push(Candidate::Nothing("/usr/local/cuda* (not there)".into()));
    }
    for home in toolkits {
        toolkit(&mut list, "toolkit", &home);
    }
    for name in ["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2"] {
        list.push(Candidate::Library(name.into()));
    }
    list
}

/// A CUDA installation.
fn toolkit(list: &mut Vec<Candidate>, from: &str, home: &Path) {
    let folders = ["lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"];
    libraries(list, from, home, &folders.map(|f| home.join(f)));
}

/// A virtual environment or conda prefix: the site-packages of each Python in it, and conda's own lib folder.
fn environment(list: &mut Vec<Candidate>, from: &str, home: &Path) {
    let mut folders = vec![home.join("lib")];
    for python in children(&home.join("lib"), "python3") {
        folders.extend(wheel_folders(&python.join("site-packages")));
    }
    libraries(list, from, home, &folders);
}

fn site_packages(list: &mut Vec<Candidate>, from: &str, site: &Path) {
    libraries(list, from, site, &wheel_folders(site));
}

/// Where the wheels `nvidia-cuda-nvrtc-cu12` and `nvidia-cuda-nvrtc` (13 and later) put the library.
fn wheel_folders(site: &Path) -> Vec<PathBuf> {
    let nvidia = site.join("nvidia");
    let mut folders = vec![nvidia.join("cuda_nvrtc/lib")];
    folders.extend(children(&nvidia, "cu1").into_iter().map(|p| p.join("lib")));
    folders
}

/// Adds the libraries in these folders, or one line that says where nothing was.
fn libraries(list: &mut Vec<Candidate>, from: &str, home: &Path, folders: &[PathBuf]) {
    let before = list.len();
    for folder in folders {
        for file in children(folder, "libnvrtc.so") {
            // Wheels have only libnvrtc.so.12, toolkits a chain of links to one file.
            let real = file.canonicalize().unwrap_or_else(|_| file.clone());
            let known =
                list.iter().any(|c| matches!(c, Candidate::Library(p) if p.canonicalize().ok() == Some(real.clone())));
            if !known {
                list.push(Candidate::Library(file));
            }
        }
    }
    if list.len() == before {
        list.push(Candidate::Nothing(format!(
            "{from}: no libnvrtc.so* in {} ({})",
            home.display(),
            names(home, folders)
        )));
    }
}

fn names(home: &Path, folders: &[PathBuf]) -> String {
    let list: Vec<String> = folders.iter().map(|f| f.strip_prefix(home).unwrap_or(f).display().to_string()).collect();
    list.join(", ")
}

/// Entries of `folder` whose names start with `prefix`, sorted.
fn children(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(prefix))
        .map(|e| e.path())
        .collect();
    found.sort();
    found
}
