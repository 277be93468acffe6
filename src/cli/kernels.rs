//! `earlybird kernels list | show NAME | budget`: what is compiled into this binary, and what it costs on each architecture by ptxas.
//!
//! Static facts only. Running a kernel is `earlybird vgpu run`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Args, Subcommand};

use super::{DONE, FINDINGS, say};
use crate::driver::kernels::{self, Entry, Module, ParamKind};
use crate::driver::ptxas::{ARCHS, Tool, Usage};
use crate::driver::sass::{self, Sass};
use crate::measure::budget::{self, Budget, Verdict};
use crate::{Error, Result};

/// `earlybird kernels`.
#[derive(Subcommand)]
pub enum KernelsCommand {
    /// Every kernel of this build with its parameters
    List(ListArgs),
    /// One kernel: parameters, cost per architecture, machine code of its main loop
    Show(ShowArgs),
    /// Registers and spills on four architectures, machine code of main loops, counters on the virtual GPU; exit code 1 above the budget
    Budget(BudgetArgs),
}

/// Arguments of `kernels list`.
#[derive(Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `kernels show`.
#[derive(Args)]
pub struct ShowArgs {
    /// Symbol, such as mask_step_f32
    name: String,
    /// Print the PTX of its module and nothing else
    #[arg(long)]
    ptx: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "ptx")]
    json: bool,
}

/// Arguments of `kernels budget`.
#[derive(Args)]
pub struct BudgetArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl KernelsCommand {
    /// Runs the command; the exit code.
    ///
    /// # Errors
    /// No kernels in this build, an unknown name, no ptxas.
    pub fn run(self) -> Result<u8> {
        kernels::available("vgpu, cuda")?;
        match self {
            KernelsCommand::List(args) => list(args.json),
            KernelsCommand::Show(args) => show(&args),
            KernelsCommand::Budget(args) => budget(&args),
        }
    }
}

fn signature(entry: &Entry) -> String {
    let kind = |k: ParamKind| match k {
        ParamKind::Pointer => "ptr".to_string(),
        ParamKind::U32 => "u32".into(),
        ParamKind::I32 => "i32".into(),
        ParamKind::F32 => "f32".into(),
        ParamKind::Struct(path) => path.trim_start_matches("crate::").into(),
    };
    entry.params.iter().map(|p| format!("{}: {}", p.name, kind(p.kind))).collect::<Vec<_>>().join(", ")
}

fn list(json: bool) -> Result<u8> {
    let (major, minor) = kernels::NVRTC.unwrap_or_default();
    if json {
        let modules: Vec<_> = kernels::MODULES
            .iter()
            .map(|m| {
                let entries: Vec<_> = m.entries.iter().map(|e| entry_json(m, e)).collect();
                serde_json::json!({ "name": m.name, "source": m.source, "ptx_sha256": m.sha256, "kernels": entries })
            })
            .collect();
        say(serde_json::json!({ "nvrtc": format!("{major}.{minor}"), "modules": modules }));
        return Ok(DONE);
    }
    say(format_args!("compiled by NVRTC {major}.{minor} for compute capability 8.0 and later"));
    for module in kernels::MODULES {
        say(format_args!("\n{}  (PTX sha256 {})", module.source, &module.sha256[..12]));
        for entry in module.entries {
            say(format_args!("  {}({})", entry.name, signature(entry)));
        }
    }
    Ok(DONE)
}

fn entry_json(module: &Module, entry: &Entry) -> serde_json::Value {
    let kind = |k: ParamKind| match k {
        ParamKind::Struct(path) => path.to_string(),
        other => format!("{other:?}").to_lowercase(),
    };
    let params: Vec<_> = entry
        .params
        .iter()
        .map(|p| serde_json::json!({ "name": p.name, "kind": kind(p.kind), "offset": p.offset, "bytes": p.size }))
        .collect();
    serde_json::json!({ "name": entry.name, "source": module.source, "param_bytes": entry.param_bytes, "params": params })
}

/// What ptxas and nvdisasm say of one module.
struct Static {
    /// By architecture, then kernel.
    usage: BTreeMap<&'static str, BTreeMap<String, Usage>>,
    /// Code for sm_80 by kernel, or why there is none.
    code: Result<BTreeMap<String, Vec<Sass>>>,
}

fn assemble(module: &Module, disassemble: bool) -> Result<Static> {
    let tool = Tool::ptxas()?;
    let folder = tempfile::tempdir().map_err(|e| Error::io("create a folder in", std::env::temp_dir(), e))?;
    let mut usage = BTreeMap::new();
    for arch in ARCHS {
        let cubin = folder.path().join(format!("{arch}.cubin"));
        usage.insert(arch, tool.assemble(module.source, module.ptx, arch, &cubin)?);
    }
    let code = match disassemble {
        true => Tool::nvdisasm().and_then(|t| t.disassemble(&folder.path().join("sm_80.cubin"))),
        false => Ok(BTreeMap::new()),
    };
    Ok(Static { usage, code })
}

fn usage_line(usage: &Usage) -> String {
    let Usage { registers, stack_bytes, spill_store_bytes, spill_load_bytes, shared_bytes } = usage;
    format!(
        "{registers:9}  {:>6}  {stack_bytes:5}  {shared_bytes:12}",
        format!("{spill_store_bytes}/{spill_load_bytes}")
    )
}

fn show(args: &ShowArgs) -> Result<u8> {
    let (module, entry) = kernels::entry(&args.name)?;
    if args.ptx {
        say(module.ptx.trim_end());
        return Ok(DONE);
    }
    let facts = assemble(module, true)?;
    let mix = facts.code.as_ref().ok().and_then(|code| sass::main_loop(code.get(entry.name)?));
    if args.json {
        let mut json = entry_json(module, entry);
        let usage: BTreeMap<_, _> = facts.usage.iter().map(|(arch, by)| (arch, by.get(entry.name))).collect();
        json["ptx_sha256"] = module.sha256.into();
        json["usage"] = serde_json::json!(usage);
        json["main_loop_sm_80"] =
            serde_json::json!(mix.map(|m| m.sorted().iter().map(|(o, n)| (o.to_string(), *n)).collect::<Vec<_>>()));
        say(json);
        return Ok(DONE);
    }
    say(format_args!("{}  in {}", entry.name, module.source));
    say(format_args!("PTX sha256  {}", module.sha256));
    say(format_args!("parameters  {} bytes", entry.param_bytes));
    for param in entry.params {
        let kind = format!("{:?}", param.kind);
        say(format_args!("  +{:<4} {:>4} bytes  {}  {kind}", param.offset, param.size, param.name));
    }
    say("\narch   registers  spills  stack  shared bytes   (ptxas; spill bytes stored/loaded)");
    for (arch, kernels) in &facts.usage {
        say(format_args!("{arch}  {}", kernels.get(entry.name).map_or_else(|| "?".into(), usage_line)));
    }
    match (&facts.code, mix) {
        (Err(why), _) => say(format_args!("\nmain loop: not shown, {why}")),
        (Ok(_), None) => say("\nmain loop: none, the code is straight"),
        (Ok(_), Some(mix)) => {
            let total = mix.total();
            let mut line = String::new();
            for (opcode, count) in mix.sorted() {
                let _ = write!(line, "\n  {count:5}  {:4.1}%  {opcode}", 100.0 * count as f64 / total as f64);
            }
            say(format_args!("\nmain loop on sm_80: {total} instructions{line}"));
        }
    }
    Ok(DONE)
}

fn budget(args: &BudgetArgs) -> Result<u8> {
    let (budget, facts) = (Budget::embedded()?, budget::facts()?);
    let names: Vec<&str> = facts.keys().copied().collect();
    let verdicts: Vec<Verdict> = facts.iter().flat_map(|(name, facts)| budget::judge(name, facts, &budget)).collect();
    let unused = budget.unused(&names);
    let over = verdicts.iter().filter(|v| v.over.is_some()).count() + unused.len();
    let unprobed: Vec<&str> =
        facts.iter().filter(|(_, f)| f.counted.is_empty() && f.bytes.is_none()).map(|(name, _)| *name).collect();
    if args.json {
        say(serde_json::json!({ "verdicts": verdicts, "unused": unused, "not_counted": unprobed, "over": over }));
        return Ok(if over == 0 { DONE } else { FINDINGS });
    }
    say("kernel                    registers on sm_80 86 89 90; what else is limited (value, limit)");
    for (name, facts) in &facts {
        let registers: Vec<String> = ARCHS
            .iter()
            .map(|arch| facts.usage.get(arch).map_or_else(|| "?".into(), |u| u.registers.to_string()))
            .collect();
        let mut line = format!("{name:28}  {}", registers.join(" "));
        for v in verdicts.iter().filter(|v| v.kernel == *name && v.over.is_none()) {
            let zero = v.value == Some(0.0) && v.limit.max == Some(0.0);
            if let (Some(value), false) = (v.value, zero || v.metric == "registers") {
                let limit = match (v.limit.min, v.limit.max) {
                    (Some(min), _) => format!(">= {min}"),
                    (_, max) => format!("<= {}", max.unwrap_or(f64::INFINITY)),
                };
                let _ = write!(line, "; {} {} ({limit})", v.metric, round(value));
            }
        }
        say(line);
    }
    for v in verdicts.iter().filter(|v| v.over.is_some()) {
        let value = v.value.map_or_else(|| "none".into(), round);
        say(format_args!(
            "OVER: {} on {}: {} is {value}; {}",
            v.kernel,
            v.place,
            v.metric,
            v.over.as_deref().unwrap_or("")
        ));
    }
    for name in unused {
        say(format_args!("OVER: kernels/budget.toml has limits for {name}, and there is no such kernel"));
    }
    if !unprobed.is_empty() {
        say(format_args!("not counted on the virtual GPU: {}", unprobed.join(", ")));
    }
    match over {
        0 => say("every kernel is within its budget"),
        n => say(format_args!("{n} over the budget (kernels/budget.toml)")),
    }
    Ok(if over == 0 { DONE } else { FINDINGS })
}

/// Three decimals at most.
fn round(value: f64) -> String {
    ((value * 1e3).round() / 1e3).to_string()
}
