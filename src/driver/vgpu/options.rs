//! The name of a virtual device on the command line: `vgpu[:GPU][,check][,profile][,schedule=..][,workers=N][,mma=..][,jitter=N]`.

use crate::vgpu::device::Options;
use crate::vgpu::exec::Schedule;
use crate::vgpu::ir::MmaMode;
use crate::vgpu::limits::Limits;
use crate::vgpu::san::CheckOptions;
use crate::{Error, Result};

/// Reads what stands behind `vgpu`, such as `:h100,check,schedule=random:7`.
///
/// # Errors
/// [`Error::BadSetting`] for what means nothing.
pub fn parse(device: &str) -> Result<Options> {
    let wrong = |what: String| {
        Error::bad_setting(
            "--device",
            format!("{device:?}: {what}"),
            "write vgpu, vgpu:a100, vgpu:h100 or vgpu:rtx4090, then ,check ,profile ,schedule=converge|reverse|random:SEED ,workers=N \
             ,mma=fast|ref|sm80|sm90 ,jitter=SEED as needed",
        )
    };
    let mut parts = device.split(',');
    let head = parts.next().unwrap_or_default();
    let mut options = Options::default();
    match head.split_once(':') {
        None if head == "vgpu" => {}
        Some(("vgpu", gpu)) => {
            options.limits = Limits::named(gpu).ok_or_else(|| wrong(format!("no GPU {gpu:?}")))?;
        }
        _ => return Err(wrong("not a virtual device".into())),
    }
    for part in parts {
        match part.split_once('=').unwrap_or((part, "")) {
            ("check", "") => options.check = Some(CheckOptions::default()),
            ("profile", "") => options.profile = true,
            ("schedule", s) => options.schedule = schedule(s).ok_or_else(|| wrong(format!("no schedule {s:?}")))?,
            ("workers", n) => {
                options.workers =
                    n.parse().ok().filter(|n| (1..=4096).contains(n)).ok_or_else(|| wrong(format!("{n:?} workers")))?;
            }
            ("mma", m) => options.lowering.mma = mma(m).ok_or_else(|| wrong(format!("no mma mode {m:?}")))?,
            ("jitter", n) => options.lowering.jitter = n.parse().map_err(|_| wrong(format!("jitter {n:?}")))?,
            _ => return Err(wrong(format!("{part:?} means nothing"))),
        }
    }
    Ok(options)
}

/// `converge`, `reverse`, `random:SEED`.
pub fn schedule(s: &str) -> Option<Schedule> {
    match s.split_once(':').unwrap_or((s, "")) {
        ("converge", "") => Some(Schedule::Converge),
        ("reverse", "") => Some(Schedule::Reverse),
        ("random", seed) => seed.parse().ok().map(Schedule::Random),
        _ => None,
    }
}

/// `fast`, `ref`, `sm80`, `sm90`.
pub fn mma(s: &str) -> Option<MmaMode> {
    Some(match s {
        "fast" => MmaMode::Fast,
        "ref" => MmaMode::Ref,
        "sm80" => MmaMode::Sm80,
        "sm90" => MmaMode::Sm90,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_nonsense_is_refused() {
        let o = parse("vgpu:h100,check,schedule=random:7,workers=2,mma=ref,jitter=3").unwrap();
        assert_eq!((o.limits.name, o.check.is_some(), o.schedule), ("h100", true, Schedule::Random(7)));
        assert_eq!((o.workers, o.lowering.mma, o.lowering.jitter, o.profile), (2, MmaMode::Ref, 3, false));
        assert_eq!(parse("vgpu").unwrap().limits.name, "a100");
        for bad in ["vgpu:", "vgpu:v100", "vgpu,", "vgpu,schedule=random", "vgpu,workers=0", "vgpux", "vgpu,check=1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
