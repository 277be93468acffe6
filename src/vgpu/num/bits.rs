//! Shifts, bit fields, permutations and counts. Amounts beyond the width are clamped as the ISA says, never masked by the host.
//!
//! Arithmetic on integers is in [`super::int`].

/// `shl.b32`: 0 beyond 31.
#[inline(always)]
pub fn shl_b32(a: u32, n: u32) -> u32 {
    if n > 31 { 0 } else { a << (n & 31) }
}

/// `shr.u32`/`.b32`: 0 beyond 31.
#[inline(always)]
pub fn shr_u32(a: u32, n: u32) -> u32 {
    if n > 31 { 0 } else { a >> (n & 31) }
}

/// `shr.s32`: the sign beyond 31.
#[inline(always)]
pub fn shr_s32(a: u32, n: u32) -> u32 {
    ((a as i32) >> if n > 31 { 31 } else { n }) as u32
}

/// `shl.b64`: 0 beyond 63.
#[inline(always)]
pub fn shl_b64(a: u64, n: u32) -> u64 {
    if n > 63 { 0 } else { a << (n & 63) }
}

/// `shr.u64`/`.b64`: 0 beyond 63.
#[inline(always)]
pub fn shr_u64(a: u64, n: u32) -> u64 {
    if n > 63 { 0 } else { a >> (n & 63) }
}

/// `shr.s64`: the sign beyond 63.
#[inline(always)]
pub fn shr_s64(a: u64, n: u32) -> u64 {
    ((a as i64) >> if n > 63 { 63 } else { n }) as u64
}

/// `shl.b16`, low 16 bits.
#[inline(always)]
pub fn shl_b16(a: u32, n: u32) -> u32 {
    shl_b32(a & 0xffff, n) & 0xffff
}

/// `shr.u16`/`.b16`.
#[inline(always)]
pub fn shr_u16(a: u32, n: u32) -> u32 {
    shr_u32(a & 0xffff, n)
}

/// `shr.s16`, low 16 bits.
#[inline(always)]
pub fn shr_s16(a: u32, n: u32) -> u32 {
    shr_s32((a as i16) as i32 as u32, n) & 0xffff
}

/// `shf.l.clamp`/`.wrap` (`WRAP`): the upper word of `b:a` shifted left.
#[inline(always)]
pub fn shf_l<const WRAP: bool>(a: u32, b: u32, c: u32) -> u32 {
    let n = if WRAP { c & 31 } else { c.min(32) };
    ((((b as u64) << 32 | a as u64) << n) >> 32) as u32
}

/// `shf.r.clamp`/`.wrap` (`WRAP`): the lower word of `b:a` shifted right.
#[inline(always)]
pub fn shf_r<const WRAP: bool>(a: u32, b: u32, c: u32) -> u32 {
    let n = if WRAP { c & 31 } else { c.min(32) };
    (((b as u64) << 32 | a as u64) >> n) as u32
}

/// `bfe.u32 d, a, pos, len` (low 8 bits of each count).
#[inline(always)]
pub fn bfe_u32(a: u32, pos: u32, len: u32) -> u32 {
    bfe_u64(a as u64, pos, len) as u32
}

/// `bfe.s32`: beyond the top the field is filled with its sign bit, bit `min(pos+len-1, 31)`.
#[inline(always)]
pub fn bfe_s32(a: u32, pos: u32, len: u32) -> u32 {
    bfe_s64(a as i32 as i64 as u64, pos, len) as u32
}

/// `bfe.u64`.
#[inline(always)]
pub fn bfe_u64(a: u64, pos: u32, len: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let v = shr_u64(a, pos);
    if len > 63 { v } else { v & ((1u64 << (len & 63)) - 1) }
}

/// `bfe.s64`; see [`bfe_s32`].
#[inline(always)]
pub fn bfe_s64(a: u64, pos: u32, len: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    // An arithmetic shift already fills with the top bit; a field that ends below the top takes its own.
    let v = shr_s64(a, pos) as i64;
    if len == 0 {
        0
    } else if len > 63 {
        v as u64
    } else {
        ((v << (64 - len)) >> (64 - len)) as u64
    }
}

/// `bfi.b32 f, a, b, pos, len`: `a`'s low bits into `b`; bits past the top are dropped.
#[inline(always)]
pub fn bfi_b32(a: u32, b: u32, pos: u32, len: u32) -> u32 {
    bfi_b64(a as u64, b as u64, pos, len) as u32
}

/// `bfi.b64`.
#[inline(always)]
pub fn bfi_b64(a: u64, b: u64, pos: u32, len: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let field = if len > 63 { u64::MAX } else { (1u64 << (len & 63)) - 1 };
    let mask = shl_b64(field, pos);
    (b & !mask) | (shl_b64(a, pos) & mask)
}

/// `bfind.u32`: index of the highest set bit or all ones. `SHIFT` (`.shiftamt`): how far left it is from the top.
#[inline(always)]
pub fn bfind_u32<const SHIFT: bool>(a: u32) -> u32 {
    if a == 0 {
        u32::MAX
    } else if SHIFT {
        a.leading_zeros()
    } else {
        31 - a.leading_zeros()
    }
}

/// `bfind.s32`: the highest bit that differs from the sign.
#[inline(always)]
pub fn bfind_s32<const SHIFT: bool>(a: u32) -> u32 {
    bfind_u32::<SHIFT>(a ^ ((a as i32) >> 31) as u32)
}

/// `bfind.u64`.
#[inline(always)]
pub fn bfind_u64<const SHIFT: bool>(a: u64) -> u32 {
    if a == 0 {
        u32::MAX
    } else if SHIFT {
        a.leading_zeros()
    } else {
        63 - a.leading_zeros()
    }
}

/// `bfind.s64`.
#[inline(always)]
pub fn bfind_s64<const SHIFT: bool>(a: u64) -> u32 {
    bfind_u64::<SHIFT>(a ^ ((a as i64) >> 63) as u64)
}

/// `fns.b32 d, mask, base, offset`: position of the `offset`-th set bit counted from `base` (upwards if positive, downwards if
/// negative, `base` itself counting as first); 0 offset asks whether bit `base` is set. All ones if there is none.
#[inline(always)]
pub fn fns(mask: u32, base: u32, offset: u32) -> u32 {
    let offset = offset as i32;
    if base > 31 {
        return u32::MAX;
    }
    if offset == 0 {
        return if mask >> base & 1 == 1 { base } else { u32::MAX };
    }
    let (mut pos, step, mut left) = (base as i32, offset.signum(), offset.unsigned_abs());
    while (0..32).contains(&pos) {
        if mask >> pos & 1 == 1 {
            left -= 1;
            if left == 0 {
                return pos as u32;
            }
        }
        pos += step;
    }
    u32::MAX
}

/// `bmsk.clamp`/`.wrap` (`WRAP`): a mask of `len` ones from `pos` up.
#[inline(always)]
pub fn bmsk<const WRAP: bool>(pos: u32, len: u32) -> u32 {
    let (pos, len) = if WRAP { (pos & 31, len & 31) } else { (pos, len) };
    let ones = if len > 31 { u32::MAX } else { (1u32 << (len & 31)) - 1 };
    shl_b32(ones, pos)
}

/// `szext.clamp`/`.wrap` (`WRAP`) `.u32`/`.s32` (`SIGNED`): extends the low `n` bits.
#[inline(always)]
pub fn szext<const WRAP: bool, const SIGNED: bool>(a: u32, n: u32) -> u32 {
    let n = if WRAP { n & 31 } else { n };
    if n == 0 {
        0
    } else if n > 31 {
        a
    } else if SIGNED {
        (((a << (32 - n)) as i32) >> (32 - n)) as u32
    } else {
        a & ((1u32 << n) - 1)
    }
}

/// `lop3.b32`: any function of three bits; `lut` bit `4a+2b+c`.
#[inline(always)]
pub fn lop3(a: u32, b: u32, c: u32, lut: u8) -> u32 {
    let mut r = 0;
    let mut i = 0;
    while i < 8 {
        let x = if i & 4 != 0 { a } else { !a };
        let y = if i & 2 != 0 { b } else { !b };
        let z = if i & 1 != 0 { c } else { !c };
        let on = 0u32.wrapping_sub((lut >> i & 1) as u32);
        r |= x & y & z & on;
        i += 1;
    }
    r
}

/// Modes of `prmt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Prmt {
    /// Four selector nibbles; bit 3 of each replicates the byte's sign.
    Index,
    F4e,
    B4e,
    Rc8,
    Ecl,
    Ecr,
    Rc16,
}

impl Prmt {
    /// Reads the modifier (`f4e`, ...).
    pub fn parse(s: &str) -> Option<Prmt> {
        Some(match s {
            "f4e" => Prmt::F4e,
            "b4e" => Prmt::B4e,
            "rc8" => Prmt::Rc8,
            "ecl" => Prmt::Ecl,
            "ecr" => Prmt::Ecr,
            "rc16" => Prmt::Rc16,
            _ => return None,
        })
    }

    /// The selector that [`prmt`] needs to do what this mode does with `c`.
    #[inline(always)]
    pub fn selector(self, c: u32) -> u32 {
        let i = (c & 3) as usize;
        match self {
            Prmt::Index => c & 0xffff,
            Prmt::F4e => [0x3210, 0x4321, 0x5432, 0x6543][i],
            Prmt::B4e => [0x5670, 0x6701, 0x7012, 0x0123][i],
            Prmt::Rc8 => [0x0000, 0x1111, 0x2222, 0x3333][i],
            Prmt::Ecl => [0x3210, 0x3211, 0x3222, 0x3333][i],
            Prmt::Ecr => [0x0000, 0x1110, 0x2210, 0x3210][i],
            Prmt::Rc16 => [0x1010, 0x3232, 0x1010, 0x3232][i],
        }
    }
}

/// `prmt.b32` with a nibble selector: bytes of `b:a`, bit 3 of a nibble replicates the sign of the byte chosen.
#[inline(always)]
pub fn prmt(a: u32, b: u32, sel: u32) -> u32 {
    // In 32 bits and without branches, so that it vectorises.
    let pick = |n: u32| {
        let word = a ^ ((a ^ b) & (n >> 2 & 1).wrapping_neg());
        let byte = word >> (8 * (n & 3)) & 0xff;
        let sign = (byte >> 7).wrapping_neg() & 0xff;
        byte ^ ((byte ^ sign) & (n >> 3 & 1).wrapping_neg())
    };
    pick(sel) | pick(sel >> 4) << 8 | pick(sel >> 8) << 16 | pick(sel >> 12) << 24
}
