//! Budgets: what a kernel may cost, metric by metric, from ptxas, from machine code and from the virtual GPU's counters.
//!
//! A metric is a name or a ratio `A / B` of two:
//!
//! | name | what | where |
//! |---|---|---|
//! | `registers`, `spills`, `stack`, `shared` | per thread, bytes, bytes, bytes per block (ptxas) | every architecture |
//! | `code`, `code.LDG.128` | instructions of the kernel, those of one opcode with these suffixes | sm_80 |
//! | `loop`, `loop.FFMA` | the same of the main loop | sm_80 |
//! | `conflicts` | passes through shared memory beyond the least | counted |
//! | `traffic` | bytes of sectors asked for, over those that must move | counted |
//! | `memory` | bytes of distinct sectors touched, over those that must move | counted |
//! | `lanes` | share of lanes at work | counted |
//! | `bytes` | of `layer_i8`, all kernels of an 8-bit layer together: bytes touched per output element and step | counted |
//!
//! So `loop.FFMA / loop` is the share of multiply-adds, `loop.PRMT / loop.IMMA` permutes per tensor-core product, `code.LDGSTS.128 / code.LDGSTS` the share of
//! asynchronous copies that are 16 bytes wide. Not here: the limits (`kernels/budget.toml`), printing.

use std::collections::BTreeMap;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::probe::{Counted, layer_bytes, probe};
use crate::driver::kernels::{self, Entry, Module};
use crate::driver::ptxas::{ARCHS, Tool, Usage};
use crate::driver::sass::{self, Mix};
use crate::{Error, Result};

/// The least and the most that a metric may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// At least.
    pub min: Option<f64>,
    /// At most.
    pub max: Option<f64>,
}

/// `kernels/budget.toml`: limits by metric, for a kernel, for `prefix*`, or for all (`*`). The longest name that fits wins, metric by metric.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(transparent)]
pub struct Budget(BTreeMap<String, BTreeMap<String, Limit>>);

/// A metric of a kernel against its limit.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Verdict {
    /// Kernel.
    pub kernel: &'static str,
    /// `sm_80` .., or `counted`.
    pub place: &'static str,
    /// Metric.
    pub metric: String,
    /// Its value; `None` where the kernel has no such thing.
    pub value: Option<f64>,
    /// What is allowed.
    pub limit: Limit,
    /// What is wrong.
    pub over: Option<String>,
}

/// Where counters stand instead of an architecture.
const COUNTED: &str = "counted";
/// The architecture whose machine code is judged.
const CODE: &str = "sm_80";

impl Budget {
    /// Reads a budget.
    ///
    /// # Errors
    /// [`Error::BadFile`] with the place.
    pub fn parse(text: &str) -> Result<Budget> {
        toml::from_str(text)
            .map_err(|e| Error::bad_file("kernels/budget.toml", None, e.to_string(), "it is compiled into the program"))
    }

    /// The budget of this build.
    ///
    /// # Errors
    /// As [`Budget::parse`].
    pub fn embedded() -> Result<Budget> {
        Budget::parse(include_str!("../../kernels/budget.toml"))
    }

    /// Limits of `kernel` by metric, and whether they are meant for it (and not for all kernels).
    pub fn of(&self, kernel: &str) -> BTreeMap<&str, (Limit, bool)> {
        let fits =
            |name: &str| name == kernel || name.strip_suffix('*').is_some_and(|prefix| kernel.starts_with(prefix));
        let mut sections: Vec<_> = self.0.iter().filter(|(name, _)| fits(name)).collect();
        sections.sort_by_key(|(name, _)| (name.as_str() == kernel, name.len()));
        let mut limits = BTreeMap::new();
        for (name, section) in sections {
            limits.extend(section.iter().map(|(metric, limit)| (metric.as_str(), (*limit, name != "*"))));
        }
        limits
    }

    /// Sections that fit none of `kernels`: spelled wrong, or left over.
    pub fn unused<'b>(&'b self, kernels: &[&str]) -> Vec<&'b str> {
        let fits = |name: &str| {
            kernels.iter().any(|k| name == *k || name.strip_suffix('*').is_some_and(|prefix| k.starts_with(prefix)))
        };
        self.0.keys().map(String::as_str).filter(|name| !fits(name)).collect()
    }
}

/// All that is known of a kernel.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// By architecture.
    pub usage: BTreeMap<&'static str, Usage>,
    /// Instructions on sm_80.
    pub code: Option<Mix>,
    /// Those of the main loop; `None` where the code is straight.
    pub main_loop: Option<Mix>,
    /// Launches on the virtual GPU.
    pub counted: Vec<Counted>,
    /// Bytes per output element, of [`LAYER`].
    pub bytes: Option<f64>,
}

/// What stands among the kernels for all those of an 8-bit layer together.
pub const LAYER: &str = "layer_i8";

impl Facts {
    fn name(&self, place: &str, name: &str) -> Option<f64> {
        let worst = |of: &dyn Fn(&Counted) -> Option<f64>| self.counted.iter().filter_map(of).reduce(f64::max);
        let usage = || self.usage.get(place);
        match name {
            "registers" => usage().map(|u| f64::from(u.registers)),
            "spills" => usage().map(|u| f64::from(u.spill_store_bytes + u.spill_load_bytes)),
            "stack" => usage().map(|u| f64::from(u.stack_bytes)),
            "shared" => usage().map(|u| f64::from(u.shared_bytes)),
            "conflicts" => worst(&|c| Some(c.conflicts() as f64)),
            "traffic" => worst(&Counted::traffic),
            "memory" => worst(&Counted::memory),
            "bytes" => self.bytes,
            "lanes" => self.counted.iter().map(|c| c.summary.simt_efficiency()).reduce(f64::min),
            "code" => self.code.as_ref().map(|mix| mix.total() as f64),
            "loop" => self.main_loop.as_ref().map(|mix| mix.total() as f64),
            _ => match name.split_once('.')? {
                ("code", pattern) => self.code.as_ref().map(|mix| mix.count(pattern) as f64),
                ("loop", pattern) => self.main_loop.as_ref().map(|mix| mix.count(pattern) as f64),
                _ => None,
            },
        }
    }

    /// The value of a metric; `None` where the kernel has no such thing, or divides by none of it.
    pub fn metric(&self, place: &str, metric: &str) -> Option<f64> {
        match metric.split_once('/') {
            None => self.name(place, metric.trim()),
            Some((a, b)) => {
                let b = self.name(place, b.trim())?;
                (b != 0.0).then_some(self.name(place, a.trim())? / b)
            }
        }
    }
}

/// Where a metric is judged; `None` for a name that means nothing.
fn places(metric: &str) -> Option<&'static [&'static str]> {
    let first = metric.split(['.', ' ', '/']).next().unwrap_or_default();
    match first {
        "registers" | "spills" | "stack" | "shared" => Some(&ARCHS),
        "code" | "loop" => Some(&[CODE]),
        "conflicts" | "traffic" | "memory" | "lanes" | "bytes" => Some(&[COUNTED]),
        _ => None,
    }
}

/// Judges one kernel.
pub fn judge(kernel: &'static str, facts: &Facts, budget: &Budget) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (metric, (limit, meant)) in budget.of(kernel) {
        let Some(places) = places(metric) else {
            let over = Some(format!("there is no metric `{metric}`"));
            verdicts.push(Verdict { kernel, place: "", metric: metric.into(), value: None, limit, over });
            continue;
        };
        for &place in places {
            let value = facts.metric(place, metric);
            let over = match value {
                // A limit for all kernels says nothing of those that lack the thing.
                None if !meant => continue,
                None => Some("cannot be judged: the kernel has no such thing".to_string()),
                Some(v) if limit.max.is_some_and(|max| v > max) => Some(format!("{} allowed", limit.max.unwrap_or(v))),
                Some(v) if limit.min.is_some_and(|min| v < min) => Some(format!("{} wanted", limit.min.unwrap_or(v))),
                Some(_) => None,
            };
            verdicts.push(Verdict { kernel, place, metric: metric.into(), value, limit, over });
        }
    }
    verdicts
}

/// Facts of every kernel of this build.
///
/// # Errors
/// No kernels in this build, no ptxas or nvdisasm, PTX that ptxas refuses, a kernel that fails on the virtual GPU.
pub fn facts() -> Result<BTreeMap<&'static str, Facts>> {
    kernels::available("vgpu, cuda")?;
    let (ptxas, nvdisasm) = (Tool::ptxas()?, Tool::nvdisasm()?);
    let folder = tempfile::tempdir().map_err(|e| Error::io("create a folder in", std::env::temp_dir(), e))?;
    let assemble = |(module, arch): (&'static Module, &'static str)| -> Result<Vec<(&'static str, Facts)>> {
        let cubin = folder.path().join(format!("{}.{arch}.cubin", module.name));
        let usage = ptxas.assemble(module.source, module.ptx, arch, &cubin)?;
        let code = if arch == CODE { nvdisasm.disassemble(&cubin)? } else { BTreeMap::new() };
        let of = |entry: &Entry| Facts {
            usage: usage.get(entry.name).map(|u| (arch, u.clone())).into_iter().collect(),
            code: code.get(entry.name).map(|code| sass::all(code)),
            main_loop: code.get(entry.name).and_then(|code| sass::main_loop(code)),
            counted: Vec::new(),
            bytes: None,
        };
        Ok(module.entries.iter().map(|entry| (entry.name, of(entry))).collect())
    };
    let work: Vec<_> = kernels::MODULES.iter().flat_map(|module| ARCHS.map(|arch| (module, arch))).collect();
    let mut all: BTreeMap<&'static str, Facts> = BTreeMap::new();
    for (name, new) in work.into_par_iter().map(assemble).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        let facts = all.entry(name).or_default();
        facts.usage.extend(new.usage);
        facts.code = facts.code.take().or(new.code);
        facts.main_loop = facts.main_loop.take().or(new.main_loop);
    }
    for counted in probe()? {
        if let Some(facts) = all.get_mut(counted.summary.kernel.as_str()) {
            facts.counted.push(counted);
        }
    }
    all.entry(LAYER).or_default().bytes = Some(layer_bytes()?);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget::parse(
            "[\"*\"]\nspills = { max = 0 }\nconflicts = { max = 0 }\nregisters = { max = 32 }\n[\"conv2d_*\"]\nregisters = { max = 128 }\n\
             [conv2d_fwd_i8]\n\"loop.IMMA / loop\" = { min = 0.4 }\n\"loop.PRMT / loop.IMMA\" = { max = 1 }\n\"code.LDGSTS.128 / code.LDGSTS\" = { min = 1 }\n",
        )
        .unwrap()
    }

    fn facts(code: &str) -> Facts {
        let usage = Usage { registers: 100, ..Usage::default() };
        let code = sass::sample(code);
        Facts {
            usage: ARCHS.map(|a| (a, usage.clone())).into(),
            code: Some(sass::all(&code)),
            main_loop: sass::main_loop(&code),
            ..Facts::default()
        }
    }

    const GOOD: &str = ".L_x_0:\nLDGSTS.E.BYPASS.LTC128B.128 [R1], [R2]\nIMMA.16832.S8.S8 R4, R5.ROW, R6.COL, R4\nIMMA.16832.S8.S8 R4, R5.ROW, R6.COL, R4\n\
                        @P0 BRA `(.L_x_0)\nEXIT";

    #[test]
    fn the_longest_name_that_fits_gives_the_limit() {
        let budget = budget();
        let of = |kernel| budget.of(kernel)["registers"].0.max;
        assert_eq!((of("relu_fwd_f32"), of("conv2d_fwd_i8")), (Some(32.0), Some(128.0)));
        assert_eq!(budget.unused(&["conv2d_fwd_i8"]), [""; 0]);
        assert_eq!(budget.unused(&["relu_fwd_f32"]), ["conv2d_*", "conv2d_fwd_i8"]);
    }

    #[test]
    fn shares_ratios_and_widths_of_tensor_core_kernels_are_judged() {
        let over = |code: &str| -> Vec<String> {
            let verdicts = judge("conv2d_fwd_i8", &facts(code), &budget());
            verdicts.into_iter().filter(|v| v.over.is_some()).map(|v| v.metric).collect()
        };
        assert_eq!(over(GOOD), [""; 0]);
        assert_eq!(over(&GOOD.replace("LTC128B.128", "LTC128B")), ["code.LDGSTS.128 / code.LDGSTS"]);
        let permuted = GOOD.replace("@P0", &format!("{}@P0", "PRMT R1, R2, 0x7610, R3\n".repeat(3)));
        assert_eq!(over(&permuted), ["loop.IMMA / loop", "loop.PRMT / loop.IMMA"]);
        // Straight code has no loop to be judged: that is not within the budget.
        assert_eq!(over("IMMA R1, R2, R3, R4\nEXIT").len(), 3);
    }

    #[test]
    fn counters_that_were_not_taken_are_judged_only_where_they_are_asked_for() {
        let verdicts = judge("relu_fwd_f32", &Facts::default(), &budget());
        assert!(verdicts.is_empty(), "{verdicts:?}");
        let wrong = Budget::parse("[relu_fwd_f32]\nregs = { max = 1 }\ntraffic = { max = 1.05 }\n").unwrap();
        let verdicts = judge("relu_fwd_f32", &Facts::default(), &wrong);
        assert!(verdicts.len() == 2 && verdicts.iter().all(|v| v.over.is_some()), "{verdicts:?}");
    }
}
