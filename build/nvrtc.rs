//! NVRTC through `libloading`: the seven functions that turn CUDA C++ into PTX. Works with any major version from 11.2 on.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

use libloading::Library;

use crate::find::Candidate;

type Program = *mut c_void;
type CreateProgram = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type CompileProgram = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type GetSize = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type GetText = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type DestroyProgram = unsafe extern "C" fn(*mut Program) -> c_int;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;

/// An opened NVRTC.
pub struct Nvrtc {
    /// Major and minor version.
    pub version: (i32, i32),
    /// What was opened.
    pub path: String,
    create: CreateProgram,
    compile: CompileProgram,
    ptx_size: GetSize,
    ptx: GetText,
    log_size: GetSize,
    log: GetText,
    destroy: DestroyProgram,
    _library: Library, // the function pointers above are only good while it lives
}

/// Opens the first candidate that is a working NVRTC, or returns what was tried and why it was not.
pub fn open(candidates: &[Candidate]) -> Result<Nvrtc, Vec<String>> {
    let mut tried = Vec::new();
    for candidate in candidates {
        match candidate {
            Candidate::Nothing(what) => tried.push(what.clone()),
            Candidate::Library(path) => match Nvrtc::load(path) {
                Ok(nvrtc) => return Ok(nvrtc),
                Err(why) => tried.push(format!("{}: {why}", path.display())),
            },
        }
    }
    Err(tried)
}

impl Nvrtc {
    fn load(path: &Path) -> Result<Nvrtc, String> {
        // SAFETY: loading runs the library's initialisers; the user named it or it lies where NVIDIA installs NVRTC.
        let library = unsafe { Library::new(path) }.map_err(reason)?;
        // SAFETY: the types above are those of nvrtc.h, unchanged since CUDA 7; the pointers do not outlive `_library`.
        unsafe {
            let version: Version = *library.get(b"nvrtcVersion\0").map_err(reason)?;
            let (mut major, mut minor) = (0, 0);
            if version(&mut major, &mut minor) != 0 || major < 11 {
                return Err(format!("NVRTC {major}.{minor} is too old, 11.2 is the least"));
            }
            Ok(Nvrtc {
                version: (major, minor),
                path: path.display().to_string(),
                create: *library.get(b"nvrtcCreateProgram\0").map_err(reason)?,
                compile: *library.get(b"nvrtcCompileProgram\0").map_err(reason)?,
                ptx_size: *library.get(b"nvrtcGetPTXSize\0").map_err(reason)?,
                ptx: *library.get(b"nvrtcGetPTX\0").map_err(reason)?,
                log_size: *library.get(b"nvrtcGetProgramLogSize\0").map_err(reason)?,
                log: *library.get(b"nvrtcGetProgramLog\0").map_err(reason)?,
                destroy: *library.get(b"nvrtcDestroyProgram\0").map_err(reason)?,
                _library: library,
            })
        }
    }

    /// Compiles `source` under the name `name`; `headers` are (name as included, text). Returns PTX and log, or the log of the failure.
    pub fn compile(
        &self,
        name: &str,
        source: &str,
        headers: &[(String, String)],
        options: &[String],
    ) -> Result<(String, String), String> {
        let c = |s: &str| CString::new(s).map_err(|_| format!("{name}: a zero byte in {s:.20?}"));
        let (source, cname) = (c(source)?, c(name)?);
        let texts = headers.iter().map(|(_, t)| c(t)).collect::<Result<Vec<_>, _>>()?;
        let names = headers.iter().map(|(n, _)| c(n)).collect::<Result<Vec<_>, _>>()?;
        let options = options.iter().map(|o| c(o)).collect::<Result<Vec<_>, _>>()?;
        let pointers = |list: &[CString]| list.iter().map(|s| s.as_ptr()).collect::<Vec<_>>();
        let (texts_p, names_p, options_p) = (pointers(&texts), pointers(&names), pointers(&options));

        let mut program: Program = ptr::null_mut();
        // SAFETY: all strings are zero-terminated and live until the program is destroyed; the counts are those of the arrays.
        unsafe {
            let code = (self.create)(
                &mut program,
                source.as_ptr(),
                cname.as_ptr(),
                texts_p.len() as c_int,
                texts_p.as_ptr(),
                names_p.as_ptr(),
            );
            if code != 0 {
                return Err(format!("nvrtcCreateProgram answered {code}"));
            }
            let code = (self.compile)(program, options_p.len() as c_int, options_p.as_ptr());
            let log = text(program, self.log_size, self.log);
            let ptx = if code == 0 { text(program, self.ptx_size, self.ptx) } else { Ok(String::new()) };
            (self.destroy)(&mut program);
            match code {
                0 => Ok((ptx?, log?)),
                _ => Err(match log {
                    Ok(log) if !log.trim().is_empty() => log,
                    _ => format!("nvrtcCompileProgram answered {code} without a log"),
                }),
            }
        }
    }
}

/// What the system's loader said; libloading keeps it one level down.
fn reason(error: libloading::Error) -> String {
    std::error::Error::source(&error).map_or_else(|| error.to_string(), |s| s.to_string())
}

/// A string that NVRTC hands out by size and copy.
///
/// # Safety
/// `program` must be live and the two functions must belong together.
unsafe fn text(program: Program, size: GetSize, get: GetText) -> Result<String, String> {
    let mut bytes = 0;
    // SAFETY: the caller's promise.
    if unsafe { size(program, &mut bytes) } != 0 || bytes == 0 {
        return Err("NVRTC gave no size".into());
    }
    let mut buffer = vec![0u8; bytes + 1];
    // SAFETY: the buffer has the size that NVRTC asked for, and one byte more.
    if unsafe { get(program, buffer.as_mut_ptr().cast()) } != 0 {
        return Err("NVRTC gave no text".into());
    }
    let text = CStr::from_bytes_until_nul(&buffer).map_err(|e| e.to_string())?;
    Ok(text.to_string_lossy().into_owned())
}
