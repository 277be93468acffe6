//! A test of the machine's code for tiles on machines without AMX: each of its instructions is illegal there, the system says so by a signal, and the handler decodes what the assembler made of it, has the emulation
//! do it and goes on behind it. What is run is the very code that a processor with AMX gets. Linux on x86-64 only.

#![allow(clippy::unwrap_used)] // all of it is a test

use std::sync::atomic::{AtomicU32, Ordering};

use super::amx::{compare, there};
use super::choice::IntegerPath;
use super::emulated_tiles::{idle, run};
use super::lanes::Unit;
use super::tiles::Configuration;

/// How often each instruction came: ldtilecfg, tilerelease, tilezero, tileloadd, tilestored, tdpbssd.
static SEEN: [AtomicU32; 6] = [const { AtomicU32::new(0) }; 6];

/// Places of the registers 0 to 15 in the context of a signal.
const REGISTERS: [libc::c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Does the instruction at `code` and returns its length; `None` if it is none of ours. Encodings: Intel's manual, volume 2, VEX prefix of three bytes and the pages of each instruction.
///
/// # Safety
/// There is an instruction at `code`, and its operands are valid.
unsafe fn step(code: *const u8, register: &dyn Fn(usize) -> u64) -> Option<usize> {
    // SAFETY: the longest of ours has eleven bytes; what follows them is still code of this program.
    let code: [u8; 11] = unsafe { code.cast::<[u8; 11]>().read_unaligned() };
    let [0xc4, first, second, opcode, modrm, ..] = code else { return None };
    // Map 0F38, W0, 128 bits.
    if first & 0x1f != 2 || second & 0x84 != 0 {
        return None;
    }
    let extended = |bit: u8, low: u8| usize::from(low & 7) | if first >> bit & 1 == 0 { 8 } else { 0 };
    let (prefix, third, mode) = (second & 3, usize::from(!second >> 3 & 15), modrm >> 6);
    let (reg, rm) = (extended(7, modrm >> 3), extended(5, modrm));
    // Length, address and stride of an operand in memory.
    let memory = || {
        let (base, index, mut length) = if modrm & 7 == 4 {
            (extended(5, code[5]), Some((extended(6, code[5] >> 3), code[5] >> 6)), 6)
        } else {
            (rm, None, 5)
        };
        let index = index.filter(|(index, _)| *index != 4);
        let more = match mode {
            0 => {
                assert_ne!(base & 7, 5, "an address without a base");
                0
            }
            1 => i64::from(code[length] as i8),
            _ => i64::from(i32::from_le_bytes(std::array::from_fn(|i| code[length + i]))),
        };
        length += [0, 1, 4][usize::from(mode)];
        let stride = index.map(|(index, scale)| register(index) << scale);
        (length, register(base).wrapping_add_signed(more) as usize, stride)
    };
    let count = |kind: usize| SEEN[kind].fetch_add(1, Ordering::Relaxed);
    let length = match (opcode, prefix, mode) {
        (0x49, 0, 0..3) if reg == 0 => {
            count(0);
            let (length, at, stride) = memory();
            assert_eq!((stride, at % 64), (None, 0));
            // SAFETY: the operand is valid.
            run(|tiles| tiles.configure(unsafe { &*(at as *const Configuration) }));
            length
        }
        (0x49, 0, 3) if modrm == 0xc0 => {
            count(1);
            run(|tiles| {
                tiles.release();
                Ok(())
            });
            5
        }
        (0x49, 3, 3) if rm == 0 => {
            count(2);
            run(|tiles| tiles.zero(reg));
            5
        }
        (0x4b, 3, 0..3) => {
            count(3);
            let (length, at, stride) = memory();
            // SAFETY: the operand is valid.
            run(|tiles| unsafe { tiles.load(reg, at as *const u8, stride.unwrap() as usize) });
            length
        }
        (0x4b, 2, 0..3) => {
            count(4);
            let (length, at, stride) = memory();
            // SAFETY: the operand is valid.
            run(|tiles| unsafe { tiles.store(reg, at as *mut u8, stride.unwrap() as usize) });
            length
        }
        (0x5e, 3, 3) => {
            count(5);
            run(|tiles| tiles.dot(reg, rm, third));
            5
        }
        _ => return None,
    };
    Some(length)
}

extern "C" fn handler(signal: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system gives a handler of this kind a context, and nobody else has it.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let at = registers[libc::REG_RIP as usize] as usize;
    // SAFETY: the processor stopped at this instruction.
    match unsafe { step(at as *const u8, &|number| registers[REGISTERS[number] as usize] as u64) } {
        Some(length) => registers[libc::REG_RIP as usize] += length as i64,
        // SAFETY: the instruction comes again and ends the process, as without this handler.
        None => unsafe {
            libc::signal(signal, libc::SIG_DFL);
        },
    }
}

#[test]
fn the_code_for_tiles_does_what_the_emulation_does() {
    if there().is_ok() {
        println!("skipped: this machine has tiles, and `amx()` has tried them out");
        return;
    }
    // SAFETY: all zero is an empty action; the handler has the form that SA_SIGINFO asks for.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut())
    };
    assert_eq!(installed, 0);
    // SAFETY: each instruction is done by the handler.
    let unit = unsafe { Unit::new(IntegerPath::Amx) };
    assert!(!idle());
    // SAFETY: `compare` answers for the pointers.
    let outcome = compare(&|rows, columns, steps, fresh| unsafe { unit.multiply(rows, columns, steps, fresh) });
    drop(unit);
    assert_eq!(outcome, Ok(()));
    assert!(idle());
    let seen: Vec<u32> = SEEN.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    println!("ldtilecfg, tilerelease, tilezero, tileloadd, tilestored, tdpbssd: {seen:?}");
    assert_eq!(seen[..2], [1, 1]);
    // Sums are written as often as they are begun, half of them fresh; every product needs two loads or shares one.
    assert!(seen[4] == 2 * seen[2] && seen[5] > 100 && seen[3] > seen[5]);
}
