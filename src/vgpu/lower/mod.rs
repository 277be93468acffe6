//! From the syntax tree to machine code: names, types, control flow, and the choice of a row function for every form.
//!
//! | file | what |
//! |---|---|
//! | `image` | variables and entries of a module, for the device |
//! | `context`, `names`, `resolve` | what a pass over a kernel knows; scopes; operands to rows and addresses |
//! | `walk`, `flow` | statements; branches, calls (inlined) |
//! | `memory`, `atomic`, `copies` | accesses |
//! | `warp`, `control` | meetings of lanes, barriers |
//! | `order`, `liveness` | control flow graph: order of blocks, registers that may be undefined, rows that registers can share |
//! | `pointers`, `lint` | which parameters are pointers; hints |
//! | [`operands`] | the seam to the tables of forms |
//!
//! An instruction that nobody knows is a named error with its line ([`operands::LowerError`]), never a guess.

mod atomic;
mod context;
mod control;
mod copies;
mod flow;
pub mod forms;
mod image;
mod lint;
mod liveness;
mod memory;
mod modifiers;
mod moves;
mod names;
pub mod operands;
mod order;
mod params;
mod pointers;
mod resolve;
mod special;
pub mod tensor;
mod types;
mod walk;
mod warp;

use std::collections::HashMap;

pub use image::{EntryInfo, GlobalVar, ModuleImage, Relocation, image};
pub use operands::{LowerError, Result};

use super::ir::{Ins, Kernel, Op, Options};
use super::prof::Class;
use super::ptx::ast::{Func, Instr, Linkage, Module, Space};
use context::{Context, Facts, Plan};
use names::Entry;
use operands::Operands;

/// A table of forms: `None` where the opcode is not its own.
type FormTable = fn(&Instr, &mut dyn Operands) -> Result<Option<Vec<Ins>>>;

/// All of them, in the order in which they are asked.
const FORMS: &[FormTable] = &[forms::lower, tensor::lower];

/// Lowers the kernel `entry` of a module. `globals` gives the device address of each of the image's `.global` variables.
///
/// # Errors
/// PTX that is wrong, or that needs something the machine does not have ([`LowerError::unsupported`]).
pub fn lower(module: &Module, entry: &str, globals: &dyn Fn(&str) -> Option<u64>, options: &Options) -> Result<Kernel> {
    let func = find_entry(module, entry)?;
    if module.address_size == 32 {
        return Err(image::wrong(
            func.pos,
            true,
            "a module with .address_size 32".into(),
            "compile for 64-bit addresses",
        ));
    }
    let facts = facts(module)?;
    let mut plan = Plan::default();
    loop {
        let mut context = pass(&facts, options, globals, &plan, func)?;
        if context.next.len() > plan.framed.len() {
            plan = Plan { framed: std::mem::take(&mut context.next), shared_rows: None };
            continue;
        }
        let blocks = order::blocks(&context.code, &context.targets);
        if let Some(shared) = liveness::share(&context, &blocks)? {
            plan.shared_rows = Some(shared);
            continue;
        }
        return Ok(finish(context, &blocks, func));
    }
}

fn facts(module: &Module) -> Result<Facts<'_>> {
    let mut funcs: HashMap<&str, &Func> = HashMap::new();
    for func in &module.funcs {
        let slot = funcs.entry(&func.name).or_insert(func);
        if func.body.is_some() {
            if slot.body.is_some() && !std::ptr::eq(*slot, func) {
                return Err(image::wrong(func.pos, false, format!("`{}` is defined twice", func.name), ""));
            }
            *slot = func;
        }
    }
    for alias in &module.aliases {
        if let Some(target) = funcs.get(alias.target.as_str()).copied() {
            funcs.insert(&alias.name, target);
        }
    }
    Ok(Facts { module, funcs, image_names: image::inner_names(module)?, const_places: image::const_places(module)? })
}

fn find_entry<'a>(module: &'a Module, entry: &str) -> Result<&'a Func> {
    let mut entries = module.funcs.iter().filter(|f| f.entry && f.body.is_some());
    entries.clone().find(|f| f.name == entry).ok_or_else(|| {
        let mut names: Vec<&str> = entries.by_ref().map(|f| f.name.as_str()).collect();
        let more = names.len().saturating_sub(20);
        names.truncate(20);
        let mut hint = match names.is_empty() {
            true => "the module has no kernels".to_string(),
            false => format!("the module has {}", names.join(", ")),
        };
        if more > 0 {
            hint += &format!(" and {more} more");
        }
        image::wrong(Default::default(), false, format!("no kernel `{entry}`"), &hint)
    })
}

/// One pass over a kernel.
fn pass<'a>(
    facts: &'a Facts<'a>,
    options: &'a Options,
    globals: &'a dyn Fn(&str) -> Option<u64>,
    plan: &'a Plan,
    func: &'a Func,
) -> Result<Context<'a>> {
    let mut context = Context::new(facts, options, globals, plan, func);
    context.params = params::layout(func)?.0;
    for var in &facts.module.vars {
        let Some(space) = var.space else { continue };
        // An extern declaration may stand beside the definition.
        if !context.names.declare(&var.name, Entry::Var(var, space)) && var.linkage != Linkage::Extern {
            return Err(image::wrong(var.pos, false, format!("`{}` is declared twice", var.name), ""));
        }
    }
    context.names.enter();
    for (n, param) in func.params.iter().enumerate() {
        if !context.names.declare(&param.name, Entry::Param(n)) {
            return Err(image::wrong(param.pos, false, format!("parameter `{}` is there twice", param.name), ""));
        }
    }
    context.body(func)?;
    context.cur.instr = None;
    context.push_unguarded(Ins::machine(Op::Exit, Class::Branch));
    context.patch()?;
    Ok(context)
}

fn finish(mut context: Context<'_>, blocks: &order::Blocks, func: &Func) -> Kernel {
    let shared_bytes = context.settle_shared();
    let undefined = liveness::undefined(&context, blocks);
    context.mark_pointers();
    context.final_hints(blocks, &undefined);
    let mut row_names = vec![String::new(); context.rows as usize];
    for reg in context.regs.iter().filter(|r| r.ty != super::ptx::ast::Ty::Pred) {
        for row in row_names.iter_mut().skip(reg.row as usize).take(types::rows(reg.ty) as usize) {
            if row.is_empty() {
                row.clone_from(&reg.name);
            } else if !row.ends_with("..") {
                row.push_str(" ..");
            }
        }
    }
    let axis = |name: &str| {
        let (_, n) = func.directives.iter().find(|d| d.0 == name)?;
        let at = |i: usize| n.get(i).copied().unwrap_or(1);
        (!n.is_empty()).then(|| [at(0), at(1), at(2)])
    };
    let uses_shared = context.symbols.iter().any(|s| s.space == Space::Shared) || context.uses_dynamic();
    let narrow_shared = context
        .accesses
        .iter()
        .any(|a| a.width < 4 && (a.space == Space::Shared || (a.space == Space::Generic && uses_shared)));
    let param_bytes = context.params.last().map_or(0, |p| p.offset + p.bytes);
    Kernel {
        name: func.name.clone(),
        rpo: blocks.numbers(context.code.len()),
        rows: context.rows.max(1),
        preds: context.preds,
        undefined,
        row_names,
        param_bytes,
        shared_bytes,
        local_bytes: context.local_bytes(),
        maxntid: axis("maxntid"),
        reqntid: axis("reqntid"),
        ordered_atomics: context.ordered_atomics(),
        narrow_shared,
        code: context.code,
        source: context.source,
        locs: context.locs,
        files: context.facts.module.files.clone(),
        constants: context.constant_rows,
        lists: context.lists,
        targets: context.targets,
        accesses: context.accesses,
        syscalls: context.syscalls,
        params: context.params,
        symbols: context.symbols,
        lints: context.lints,
    }
}
