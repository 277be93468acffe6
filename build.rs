//! Compiles `kernels/*.cu` to PTX with NVRTC and writes the table of images and the typed launchers (`build/launchers.rs`).
//!
//! Without NVRTC the build succeeds, says so once, and the devices answer with the list of places that were tried. A kernel that does not compile
//! fails the build with NVRTC's log. Only changed kernels are compiled again: the cache key covers source, headers, flags and NVRTC's version.

#[path = "build/find.rs"]
mod find;
#[path = "build/launchers.rs"]
mod launchers;
#[path = "build/nvrtc.rs"]
mod nvrtc;
#[path = "build/ptx.rs"]
mod ptx;
#[path = "build/sha256.rs"]
mod sha256;
#[path = "build/source.rs"]
mod source;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use launchers::{Module, Ptx};
use nvrtc::Nvrtc;
use source::Source;

/// `--fmad=false`: nothing is fused behind our back, `__fmaf_rn` where fusion is meant. One PTX for every GPU from compute capability 8.0 on.
const FLAGS: [&str; 4] = ["--fmad=false", "-lineinfo", "--std=c++17", "--gpu-architecture=compute_80"];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("\n{what}\n");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let folder =
        |name: &str| std::env::var_os(name).map(PathBuf::from).ok_or(format!("{name} is not set: run me by cargo"));
    let (root, out) = (folder("CARGO_MANIFEST_DIR")?, folder("OUT_DIR")?);
    for path in ["kernels", "build", "build.rs"] {
        println!("cargo:rerun-if-changed={path}");
    }
    for variable in find::VARIABLES {
        println!("cargo:rerun-if-env-changed={variable}");
    }

    let sources = source::read(&root.join("kernels"))?;
    let opened = match std::env::var_os("DOCS_RS") {
        Some(_) => Err(vec!["(not looked for: building documentation on docs.rs)".into()]),
        None => {
            nvrtc::open(&find::candidates(&root, &|v| std::env::var(v).ok().filter(|s| !s.is_empty()), &site_packages))
        }
    };
    let (nvrtc, tried) = match opened {
        Ok(nvrtc) => (Some(nvrtc), Vec::new()),
        Err(tried) => {
            let set = std::env::var("EARLYBIRD_NVRTC").map(|_| format!(" ({})", tried.join("; "))).unwrap_or_default();
            println!(
                "cargo:warning=NVRTC not found{set}: the kernels are not compiled, only --device cpu will work. `make nvrtc` installs it (no GPU needed)."
            );
            (None, tried)
        }
    };
    if let Some(nvrtc) = nvrtc.as_ref().filter(|n| Path::new(&n.path).is_absolute()) {
        println!("cargo:rerun-if-changed={}", nvrtc.path);
    }

    let mut modules = Vec::new();
    let mut failures = Vec::new();
    for source in sources {
        match nvrtc.as_ref().map(|n| compile(n, &source, &out)).transpose() {
            Ok(ptx) => modules.push(Module { source, ptx }),
            Err(log) => failures.push(log), // go on: all errors of all files at once
        }
    }
    if !failures.is_empty() {
        return Err(failures.join("\n\n"));
    }
    write(&out.join("images.rs"), &launchers::images(&modules, nvrtc.map(|n| n.version), &tried))?;
    write(&out.join("launchers.rs"), &launchers::launchers(&modules))
}

/// PTX of one file, from the cache where nothing changed.
fn compile(nvrtc: &Nvrtc, source: &Source, out: &Path) -> Result<Ptx, String> {
    let mut key = format!("{:?} {FLAGS:?}\0{}\0{}", nvrtc.version, env!("CARGO_PKG_VERSION"), source.text);
    for (name, text) in &source.headers {
        key += &format!("\0{name}\0{text}");
    }
    // What this script does to the text is part of the key, too.
    key += include_str!("build/ptx.rs");
    let file = out.join(format!("{}-{}.ptx", source.stem, &sha256::hex(key.as_bytes())[..16]));
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(_) => {
            let name = format!("kernels/{}.cu", source.stem);
            let flags = FLAGS.map(String::from);
            let (ptx, log) =
                nvrtc.compile(&name, &source.text, &source.headers, &flags).map_err(|log| failure(source, &log))?;
            for line in own_names(source, &log).lines().filter(|l| l.contains("warning")) {
                println!("cargo:warning={line}");
            }
            let text = ptx::normalise(&ptx);
            for entry in std::fs::read_dir(out).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.strip_prefix(&source.stem).is_some_and(|r| r.starts_with('-') && r.len() == 21) {
                    let _ = std::fs::remove_file(entry.path()); // an older version of this kernel
                }
            }
            write(&file, &text)?;
            text
        }
    };
    let entries = launchers::check(source, &text)?;
    Ok(Ptx { file: file.display().to_string(), hash: sha256::hex(text.as_bytes()), entries })
}

/// NVRTC's log under a line that names the first error the way Rust's tools do.
fn failure(source: &Source, log: &str) -> String {
    let log = own_names(source, log);
    let first = log.lines().find(|l| l.contains("error")).unwrap_or_default();
    let place = match first.split_once('(').and_then(|(file, rest)| Some((file, rest.split_once(')')?))) {
        Some((file, (line, what))) if line.bytes().all(|b| b.is_ascii_digit()) => format!("{file}:{line}{what}"),
        _ => format!("kernels/{}.cu: {first}", source.stem),
    };
    format!("error: {place}\n\nNVRTC's log for kernels/{}.cu:\n{}", source.stem, log.trim_end())
}

/// Headers go to NVRTC by bare name; the log shall name them as the user sees them.
fn own_names(source: &Source, log: &str) -> String {
    let mut log = log.to_string();
    for (name, _) in &source.headers {
        log = log.replace(&format!("\n{name}("), &format!("\nkernels/{name}("));
        if log.starts_with(&format!("{name}(")) {
            log.insert_str(0, "kernels/");
        }
    }
    log
}

/// The site-packages of the `python3` on the path.
fn site_packages() -> Option<PathBuf> {
    let script = "import sysconfig; print(sysconfig.get_paths()['purelib'])";
    let output = Command::new("python3").args(["-c", script]).output().ok().filter(|o| o.status.success())?;
    let path = String::from_utf8(output.stdout).ok()?;
    Some(path.trim().into()).filter(|p: &PathBuf| p.is_dir())
}

/// Writes where the content differs, by rename: a killed build leaves no half file in the cache.
fn write(path: &Path, text: &str) -> Result<(), String> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    std::fs::write(&temporary, text)
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|e| format!("cannot write {}: {e}", path.display()))
}
