//! `earlybird bench step --modelled`: a training step's time, kernel by kernel, modelled from what the virtual GPU counts. Nothing here is measured, and no
//! measured number stands beside it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::say;
use crate::autograd::Precision;
use crate::driver::ptxas::{Tool, Usage};
use crate::driver::{kernels, vgpu};
use crate::graph::Graph;
use crate::measure::step::{self, Row};
use crate::vgpu::device::Options;
use crate::vgpu::limits::Limits;
use crate::vgpu::prof::arch::ALL;
use crate::{Error, Result};

/// Models a step and prints it.
///
/// # Errors
/// A device that is not virtual or has no known rates; a build without kernels.
pub fn run(graph: &Graph, batch: usize, precision: Precision, device: &str, blocks: u64, json: bool) -> Result<()> {
    let options = vgpu::parse(device)?;
    kernels::available(device)?;
    let arch = ALL.iter().find(|a| a.name == options.limits.name).ok_or_else(|| {
        Error::bad_setting(
            "--device",
            format!("no rates are known of {device}"),
            "choose vgpu:a100, vgpu:h100 or vgpu:rtx4090",
        )
    })?;
    if options.check.is_some() || blocks == 0 {
        let what = "a modelled step interprets a sample of blocks, one at the least, and cannot be checked";
        return Err(Error::bad_setting("--modelled", what, "leave out ,check; give --blocks 1 or more"));
    }
    let limits = options.limits;
    let rows = step::model(graph, batch, precision, Options { sample: Some(blocks), ..options }, arch)?;
    let registers = registers();
    if json {
        say(
            serde_json::json!({ "kind": "modelled", "model": graph.name(), "batch_size": batch, "precision": precision.name(), "arch": arch.name, "rows": rows }),
        );
        return Ok(());
    }
    say(format_args!(
        "{} batch {batch} {}, one training step on the rates of {}: MODELLED from counters, nothing measured",
        graph.name(),
        precision.name(),
        arch.title
    ));
    say(format_args!(
        "counted: {blocks} evenly spread blocks of each launch and more where they differ, times the blocks that each stands for; memory bytes: compulsory. All times in us.\n"
    ));
    say(
        "layer                    kernel                      blocks  per SM   warps    GMAC      MB  roofline  modelled  bound by     beyond: work    tail  launch  L2/compulsory",
    );
    for row in &rows {
        say(line(row, registers.get(row.symbol.as_str()), &limits));
    }
    say(totals(&rows));
    Ok(())
}

/// ptxas's usage of every kernel on sm_80; empty where there is no ptxas.
fn registers() -> BTreeMap<String, Usage> {
    let Ok(tool) = Tool::ptxas() else { return BTreeMap::new() };
    let Ok(folder) = tempfile::tempdir() else { return BTreeMap::new() };
    let assembled =
        kernels::MODULES.iter().map(|m| tool.assemble(m.source, m.ptx, "sm_80", &folder.path().join(m.name)));
    assembled.filter_map(std::result::Result::ok).flatten().collect()
}

fn line(row: &Row, usage: Option<&Usage>, limits: &Limits) -> String {
    let us = |seconds: f64| seconds * 1e6;
    let (per_sm, warps) = usage.map_or(("?".into(), "?".into()), |u| {
        let blocks = limits.occupancy(row.threads, u.registers, u.shared_bytes);
        let resident = u64::from(blocks).min(row.blocks.div_ceil(u64::from(limits.sms)));
        (blocks.to_string(), (resident * u64::from(row.threads / 32)).to_string())
    });
    format!(
        "{:24.24} {:26} {:7}  {per_sm:>6}  {warps:>6}  {:6.2}  {:6.1}  {:8.1}  {:8.1}  {:10}  {:12.1}  {:6.1}  {:6.1}  {:13.2}",
        row.layer,
        row.symbol,
        row.blocks,
        row.macs as f64 / 1e9,
        row.bytes as f64 / 1e6,
        us(row.roofline),
        us(row.modelled),
        row.limit,
        us(row.work),
        us(row.tail),
        us(row.launch),
        row.traffic,
    )
}

/// Which launches a sum is over.
type Keep<'a> = &'a dyn Fn(&Row) -> bool;

/// Sums by kind of kernel, and where the gap is.
fn totals(rows: &[Row]) -> String {
    let ms = |of: &dyn Fn(&Row) -> f64, keep: Keep| 1e3 * rows.iter().filter(|r| keep(r)).map(of).sum::<f64>();
    let mut out = String::from(
        "\nkernels                       launches  roofline  modelled   beyond: work    tail  launch   (ms)",
    );
    let kinds: [(&str, Keep); 7] = [
        ("conv, large tiles", &|r| {
            r.symbol.starts_with("conv2d") && r.symbol.ends_with("_f32") && !r.symbol.contains("sum")
        }),
        ("conv, small tiles", &|r| r.symbol.starts_with("conv2d") && r.symbol.ends_with("_f32_small")),
        ("conv, element by element", &|r| r.symbol.starts_with("conv2d") && r.symbol.ends_with("_f32_any")),
        ("conv, 8-bit integers", &|r| r.symbol.starts_with("conv2d") && r.symbol.contains("_i8")),
        ("batchnorm", &|r| r.symbol.starts_with("batchnorm")),
        ("the rest", &|r| {
            !r.symbol.starts_with("batchnorm") && (!r.symbol.starts_with("conv2d") || r.symbol.contains("sum"))
        }),
        ("all", &|_| true),
    ];
    for (name, keep) in kinds.into_iter().filter(|(_, keep)| rows.iter().any(keep)) {
        let _ = write!(
            out,
            "\n{name:28}  {:8}  {:8.3}  {:8.3}  {:13.3}  {:6.3}  {:6.3}",
            rows.iter().filter(|r| keep(r)).count(),
            ms(&|r| r.roofline, keep),
            ms(&|r| r.modelled, keep),
            ms(&|r| r.work, keep),
            ms(&|r| r.tail, keep),
            ms(&|r| r.launch, keep),
        );
    }
    out += "\nmodelled is a lower bound: units at peak rate, latency hidden, launches 2 us each; work is padding of tiles, address arithmetic and passes\nthrough caches; tail is multiprocessors that wait for the busiest one.";
    out
}
