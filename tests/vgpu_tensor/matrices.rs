//! `ldmatrix`, `stmatrix` and `movmatrix`: which lane gets which element, from the ISA's picture.

use earlybird::vgpu::exec::mma::matrix::{ldmatrix_row, stmatrix_rows};
use earlybird::vgpu::ir::MmaMode;

use super::machine::{Machine, isas};

/// Element [r][c] is 16 r + c + 1.
fn rows() -> [[u8; 16]; 8] {
    let mut rows = [[0; 16]; 8];
    for (r, row) in rows.iter_mut().enumerate() {
        for c in 0..8 {
            row[2 * c..2 * c + 2].copy_from_slice(&element(r, c).to_le_bytes());
        }
    }
    rows
}

fn element(r: usize, c: usize) -> u16 {
    (256 * r + 16 * c + 1) as u16
}

#[test]
fn a_lane_holds_two_elements_of_its_row() {
    let lanes = ldmatrix_row(&rows(), false);
    for (lane, value) in lanes.into_iter().enumerate() {
        let (r, c) = (lane / 4, 2 * (lane % 4));
        assert_eq!((value as u16, (value >> 16) as u16), (element(r, c), element(r, c + 1)), "lane {lane}");
    }
    assert_eq!(stmatrix_rows(&lanes, false), rows());
}

#[test]
fn transposed_a_lane_holds_two_elements_of_its_column() {
    let lanes = ldmatrix_row(&rows(), true);
    for (lane, value) in lanes.into_iter().enumerate() {
        let (c, r) = (lane / 4, 2 * (lane % 4));
        assert_eq!((value as u16, (value >> 16) as u16), (element(r, c), element(r + 1, c)), "lane {lane}");
    }
    assert_eq!(stmatrix_rows(&lanes, true), rows());
}

#[test]
fn movmatrix_transposes_in_registers() {
    for isa in isas() {
        let mut machine = Machine::new(isa, MmaMode::Fast);
        machine.declare("%a", 4);
        machine.declare("%d", 4);
        machine.set("%a", &ldmatrix_row(&rows(), false).map(u64::from));
        let code = machine.lower("movmatrix.sync.aligned.m8n8.trans.b16 %d, %a").unwrap();
        machine.run(&code[0]);
        assert_eq!(machine.get("%d"), ldmatrix_row(&rows(), true).map(u64::from));
        let code = machine.lower("movmatrix.sync.aligned.m8n8.trans.b16 %d, %d").unwrap();
        machine.run(&code[0]);
        assert_eq!(machine.get("%d"), machine.get("%a"), "twice is once not at all");
    }
}
