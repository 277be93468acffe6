//! Print a tree, read it again: the same tree.

use super::common;
use earlybird::vgpu::ptx::ast::{Func, Instr, Module, Pos, Stmt, Var};
use earlybird::vgpu::ptx::parse;

fn forget_var(var: &mut Var) {
    var.pos = Pos::default();
}

fn forget_instr(instr: &mut Instr) {
    instr.pos = Pos::default();
    instr.text.clear();
}

fn forget_body(body: &mut [Stmt]) {
    for stmt in body {
        match stmt {
            Stmt::Reg { pos, .. } | Stmt::Label { pos, .. } | Stmt::BranchTargets { pos, .. } => *pos = Pos::default(),
            Stmt::CallInfo { pos, prototype, .. } => {
                *pos = Pos::default();
                if let Some(func) = prototype {
                    forget_func(func);
                }
            }
            Stmt::Var(var) => forget_var(var),
            Stmt::Instr(instr) => forget_instr(instr),
            Stmt::Block(body) => forget_body(body),
            Stmt::Loc(_) | Stmt::Pragma(_) => {}
        }
    }
}

fn forget_func(func: &mut Func) {
    func.pos = Pos::default();
    func.rets.iter_mut().chain(&mut func.params).for_each(forget_var);
    if let Some(body) = &mut func.body {
        forget_body(body);
    }
}

/// The tree without places and without the text as written.
pub fn forget(mut module: Module) -> Module {
    module.vars.iter_mut().for_each(forget_var);
    module.funcs.iter_mut().for_each(forget_func);
    module.aliases.iter_mut().for_each(|a| a.pos = Pos::default());
    module.sections.iter_mut().for_each(|s| s.pos = Pos::default());
    module
}

/// Reads `text`, prints the tree, reads that, and compares.
pub fn check(name: &str, text: &str) -> Module {
    let module = parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
    let printed = module.to_string();
    let again = parse(&printed).unwrap_or_else(|e| panic!("{name}, printed: {e}\n{printed}"));
    let (before, after) = (forget(module.clone()), forget(again));
    if before != after {
        for (a, b) in before.funcs.iter().zip(&after.funcs) {
            assert_eq!(a, b, "{name}");
        }
        assert_eq!(before.vars, after.vars, "{name}");
        assert_eq!(before, after, "{name}");
    }
    module
}

#[test]
fn project_kernels() {
    if !common::have_kernels("project_kernels") {
        return;
    }
    for m in earlybird::driver::kernels::MODULES {
        let module = check(m.name, m.ptx);
        let entries: Vec<&str> = module.funcs.iter().filter(|f| f.entry).map(|f| f.name.as_str()).collect();
        assert_eq!(entries.len(), m.entries.len(), "{}: {entries:?}", m.name);
    }
}
