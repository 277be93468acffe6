//! Tensor-core products of the virtual GPU, alone: products per second of the forms that kernels use, in every mode of float sums.
#![allow(clippy::unwrap_used)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use earlybird::vgpu::exec::mma::{Acc, Elem, Form};
use earlybird::vgpu::ir::{File, Ins, Isa, MmaMode, Row};
use earlybird::vgpu::prof::Class;

fn form(k: usize, a: Elem, c: Acc) -> Form {
    Form { m: 16, k, a, b: a, c, d: c, sat: false, and: false, a_col: false, b_row: false }
}

fn run(bench: &mut Criterion, form: Form, mode: MmaMode, isa: Isa) {
    let registers = form.registers();
    let count: usize = registers.iter().sum();
    let mut rows = vec![Row([0x3c00_3c00; 32]); count];
    let mut preds = [u32::MAX, 0, 0, 0];
    let lists: Vec<u16> = (0..count as u16).collect();
    let file = File { rows: rows.as_mut_ptr(), preds: preds.as_mut_ptr(), lists: lists.as_ptr() };
    let ins = Ins { imm: form.pack(), ..Ins::row(form.row_fns(mode).pick(isa), Class::Mma) };
    let mut group = bench.benchmark_group("mma");
    group.throughput(Throughput::Elements(1));
    group.bench_function(format!("{} {mode:?} {isa:?}", form.name()), |b| {
        b.iter(|| {
            // SAFETY: the file has all rows and list entries of the form.
            unsafe { (ins.row)(&file, &ins, u32::MAX) }
        })
    });
    group.finish();
}

fn all(bench: &mut Criterion) {
    let best = Isa::detect();
    run(bench, form(32, Elem::S8, Acc::S32), MmaMode::Fast, best);
    run(bench, form(32, Elem::S8, Acc::S32), MmaMode::Fast, Isa::Base);
    run(bench, form(64, Elem::S4, Acc::S32), MmaMode::Fast, best);
    for (k, elem) in [(16, Elem::F16), (16, Elem::Bf16), (8, Elem::Tf32), (32, Elem::E4m3)] {
        for mode in [MmaMode::Fast, MmaMode::Ref, MmaMode::Sm80, MmaMode::Sm90] {
            run(bench, form(k, elem, Acc::F32), mode, best);
        }
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
