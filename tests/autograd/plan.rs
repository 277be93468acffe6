//! The memory plan, watched byte by byte: what a call reads is what was last written there for it.
//!
//! Independent of how the plan works out lifetimes: memory remembers which value each 64-byte line was last written for.

use earlybird::autograd::{Layout, Mode, Packing, Place, Plan, Program, lower, plan};
use earlybird::graph::Graph;
use earlybird::nn::{ModelOptions, build};
use earlybird::ops::{Kernel, Shape, Value};
use proptest::prelude::*;

use crate::common::cases::cases;
use crate::random::network;

const LINE: usize = 64;

/// Runs the program on memory that only remembers owners.
fn watch(program: &Program, plan: &Plan) -> Result<(), String> {
    let mut owner: Vec<Option<Value>> = vec![None; plan.bytes.div_ceil(LINE)];
    let arena = |v: &Value| program.values[v.0 as usize].place == Place::Arena;
    let lines = |v: &Value| {
        let start = plan.offsets[v.0 as usize];
        start / LINE..(start + program.values[v.0 as usize].bytes).div_ceil(LINE)
    };
    let name = |v: &Value| &program.values[v.0 as usize].name;
    let intact = |owner: &[Option<Value>], v: &Value| owner[lines(v)].iter().all(|o| *o == Some(*v));
    for (at, call) in program.calls.iter().enumerate() {
        for v in call.inputs.iter().filter(|v| arena(v)) {
            if !intact(&owner, v) {
                return Err(format!("call {at} ({:?}) reads `{}`, which was overwritten", call.kernel, name(v)));
            }
        }
        for v in call.workspace.iter().chain(&call.outputs).filter(|v| arena(v)) {
            // An output may be an input (in place); any other memory of the call must be elsewhere.
            let others = call.inputs.iter().chain(&call.outputs).chain(&call.workspace).filter(|o| arena(o) && *o != v);
            for other in others {
                if lines(v).start < lines(other).end && lines(other).start < lines(v).end {
                    return Err(format!("call {at}: `{}` and `{}` overlap", name(v), name(other)));
                }
            }
            owner[lines(v)].fill(Some(*v));
        }
    }
    // Callers read the logits after the last call.
    if intact(&owner, &program.logits) { Ok(()) } else { Err("the logits were overwritten".into()) }
}

/// Most bytes that are alive at one call, by first write and last read: no plan can need less.
fn lower_bound(program: &Program) -> usize {
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; program.values.len()];
    for (at, call) in program.calls.iter().enumerate() {
        for v in call.inputs.iter().chain(&call.outputs).chain(&call.workspace) {
            let life = &mut lives[v.0 as usize];
            *life = Some((life.map_or(at, |(first, _)| first), at));
        }
    }
    let alive = |at: usize| -> usize {
        let living = lives.iter().enumerate().filter(|(v, life)| {
            program.values[*v].place == Place::Arena && life.is_some_and(|(a, b)| (a..=b).contains(&at))
        });
        living.map(|(v, _)| program.values[v].bytes).sum()
    };
    (0..program.calls.len()).map(alive).max().unwrap_or(0)
}

fn programs(g: &Graph, batch: usize, workspace: &dyn Fn(&Kernel) -> usize) -> Vec<(Program, Plan)> {
    let layout = Layout::new(g);
    [Mode::Train, Mode::Evaluate]
        .map(|mode| {
            let program = lower(g, &layout, &Packing::default(), batch, mode, workspace).unwrap();
            let plan = plan(&program).unwrap();
            (program, plan)
        })
        .into()
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn no_value_is_overwritten_while_it_is_needed(seed in any::<u64>(), size in 1usize..25, batch in 1usize..6, scratch in 0usize..3000) {
        let g = network(seed, size);
        let workspace = |kernel: &Kernel| match kernel {
            Kernel::Conv2dFwd(_) | Kernel::BatchNormBwd(_) => scratch,
            Kernel::Conv2dWgrad(_) => scratch / 2,
            _ => 0,
        };
        for (program, plan) in programs(&g, batch, &workspace) {
            if let Err(what) = watch(&program, &plan) {
                prop_assert!(false, "{}\n{}", what, serde_json::to_string(&g).unwrap());
            }
            prop_assert!(plan.bytes >= lower_bound(&program));
            prop_assert!(plan.offsets.iter().all(|offset| offset % 256 == 0));
        }
    }
}

/// The watch itself sees a broken plan.
#[test]
fn the_watch_finds_values_that_share_memory() {
    let g = network(1, 12);
    for (program, mut plan) in programs(&g, 2, &|_| 0) {
        assert_eq!(watch(&program, &plan), Ok(()));
        plan.offsets.fill(0);
        assert!(watch(&program, &plan).is_err());
    }
}

#[test]
fn the_plan_of_a_vgg_is_near_the_least_possible() {
    let g = build("vgg16", &ModelOptions::default()).unwrap();
    for (program, plan) in programs(&g, 128, &|_| 1 << 20) {
        let least = lower_bound(&program);
        assert_eq!(watch(&program, &plan), Ok(()));
        assert!(plan.bytes <= least + least / 10, "{} bytes, {least} are alive at once", plan.bytes);
    }
}

/// Residual networks hand one gradient to several nodes: nobody copies it, and what is written over it is written over it only where nobody else is to read it.
#[test]
fn gradients_that_are_shared_are_not_copied() {
    let size = ModelOptions { width: 0.25, input: Shape::new(64, 64, 3), ..Default::default() };
    for model in ["preresnet20", "resnet18"] {
        let g = build(model, &size).unwrap();
        for (program, plan) in programs(&g, 4, &|_| 0) {
            assert_eq!(watch(&program, &plan), Ok(()), "{model}");
            assert!(!program.calls.iter().any(|call| call.kernel == Kernel::Copy), "{model}");
        }
    }
}
