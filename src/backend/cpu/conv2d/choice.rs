//! Which instructions compute the products of the 8-bit convolutions: what the machine has, what a pass gains by them, and how their factors are packed.
//!
//! **The count.** Sums of 16 rows x 16 columns over a depth of `d` bytes are `256 d` multiply-adds. Cycles that the multiplications alone take, on cores as they are sold with the instructions:
//!
//! | products | a cycle multiplies | cycles |
//! |---|---|---|
//! | `tdpbssd` | one instruction in 16 cycles: 16 x 16 x 64 bytes; `d` rounded up to 64 | `16 ceil(d / 64)` |
//! | `vpdpbusd`, 512 bits | 2 x 64 bytes | `2 d` |
//! | `vpdpbusd`, 256 bits | 2 x 32 bytes | `4 d` |
//! | `vpmaddwd`, 256 bits | 2 x 16 pairs of bytes widened | `8 d` |
//! | the same by Winograd's algorithm, 4/9 of the multiplications | | `32/9 d` |
//!
//! So tiles win for every depth of 8 and more, against Winograd's algorithm from 5 on; what they lose on is a 1x1 convolution of four channels, whose depth of 4 they round up to 64. Winograd's algorithm does not fit into
//! tiles: its factors need 10 and 11 bits, and products of two bytes each are four products: 16/9 of the direct ones. Not here: the products ([`super::lanes`], [`super::tiles`]), and whether AMX can be used ([`super::amx`]).

use super::amx;

/// What lies in a word of packed factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Form {
    /// Two numbers of 16 bits.
    Pairs,
    /// Four bytes; those of rows are `x + 128`, without sign.
    Quads,
    /// Four bytes with sign, in steps of 16 words: a row of a tile.
    Tiles,
}

impl Form {
    /// Factors in a word.
    pub(in super::super) const fn depth(self) -> usize {
        match self {
            Form::Pairs => 2,
            Form::Quads | Form::Tiles => 4,
        }
    }

    /// Words that are multiplied at once come in multiples of this; behind the last there are zeros.
    pub(in super::super) const fn grain(self) -> usize {
        match self {
            Form::Pairs | Form::Quads => 1,
            Form::Tiles => 16,
        }
    }

    /// A word of rows that stands for zeros.
    pub(in super::super) const fn zero_row(self) -> u32 {
        match self {
            Form::Pairs | Form::Tiles => 0,
            Form::Quads => 0x8080_8080,
        }
    }
}

/// Which instructions compute the products of the 8-bit convolutions. All give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegerPath {
    /// The definition, loop by loop: the reference.
    Plain,
    /// `vpmaddwd` of AVX2.
    Avx2,
    /// `vpdpbusd` of AVX-VNNI, 256 bits.
    AvxVnni,
    /// `vpdpbusd` of AVX-512 VNNI.
    Avx512Vnni,
    /// `tdpbssd` of AMX.
    Amx,
    /// What [`IntegerPath::Avx512Vnni`] does, each instruction computed by its definition: for tests on machines without it.
    EmulatedVnni,
    /// The same for [`IntegerPath::Amx`].
    EmulatedAmx,
}

impl IntegerPath {
    /// All of them.
    pub const ALL: [IntegerPath; 7] = [
        IntegerPath::Plain,
        IntegerPath::Avx2,
        IntegerPath::AvxVnni,
        IntegerPath::Avx512Vnni,
        IntegerPath::Amx,
        IntegerPath::EmulatedVnni,
        IntegerPath::EmulatedAmx,
    ];

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            IntegerPath::Plain => "plain",
            IntegerPath::Avx2 => "avx2",
            IntegerPath::AvxVnni => "avx-vnni",
            IntegerPath::Avx512Vnni => "avx512-vnni",
            IntegerPath::Amx => "amx",
            IntegerPath::EmulatedVnni => "emulated-vnni",
            IntegerPath::EmulatedAmx => "emulated-amx",
        }
    }

    /// Whether this machine can. The first question about AMX asks the system for its use and tries it out ([`amx()`](super::super::amx)).
    pub fn available(self) -> bool {
        match self {
            IntegerPath::Plain | IntegerPath::EmulatedVnni | IntegerPath::EmulatedAmx => true,
            IntegerPath::Amx => amx::usable().is_ok(),
            #[cfg(target_arch = "x86_64")]
            _ => {
                use std::arch::is_x86_feature_detected as has;
                match self {
                    IntegerPath::Avx2 => has!("avx2"),
                    IntegerPath::AvxVnni => has!("avx2") && has!("avxvnni"),
                    _ => has!("avx2") && has!("avx512f") && has!("avx512bw") && has!("avx512vnni"),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The fastest of this machine.
    pub fn best() -> IntegerPath {
        if IntegerPath::Amx.available() { IntegerPath::Amx } else { IntegerPath::without_tiles() }
    }

    /// The fastest of this machine but for AMX.
    pub(super) fn without_tiles() -> IntegerPath {
        let order = [IntegerPath::Avx512Vnni, IntegerPath::AvxVnni, IntegerPath::Avx2];
        order.into_iter().find(|products| products.available()).unwrap_or(IntegerPath::Plain)
    }

    /// What is used in place of AMX where that loses.
    fn instead(self) -> IntegerPath {
        match self {
            IntegerPath::Amx => IntegerPath::without_tiles(),
            IntegerPath::EmulatedAmx => IntegerPath::EmulatedVnni,
            other => other,
        }
    }

    /// Ninths of a cycle that the multiplications of 16 x 16 sums take; see the top of the file. [`IntegerPath::Plain`] does not take part.
    const fn cost(self, depth: usize) -> usize {
        match self {
            IntegerPath::Plain => usize::MAX,
            // As cheap as Winograd's algorithm makes it.
            IntegerPath::Avx2 => 32 * depth,
            IntegerPath::AvxVnni => 9 * 4 * depth,
            IntegerPath::Avx512Vnni | IntegerPath::EmulatedVnni => 9 * 2 * depth,
            IntegerPath::Amx | IntegerPath::EmulatedAmx => 9 * 16 * depth.div_ceil(64),
        }
    }

    /// What computes a pass whose sums have `depth` terms: the same, or what has less to do.
    pub(in super::super) fn of_depth(self, depth: usize) -> IntegerPath {
        let instead = self.instead();
        if self.cost(depth) <= instead.cost(depth) { self } else { instead }
    }

    /// Columns of a panel: those of a register tile, so that a panel is read in a straight line.
    pub(in super::super) const fn panel(self) -> usize {
        match self {
            IntegerPath::Plain | IntegerPath::Avx2 | IntegerPath::AvxVnni => 16,
            _ => 32,
        }
    }

    /// How factors are packed; `None`: not at all.
    pub(in super::super) fn form(self) -> Option<Form> {
        match self {
            IntegerPath::Plain => None,
            IntegerPath::Avx2 => Some(Form::Pairs),
            IntegerPath::AvxVnni | IntegerPath::Avx512Vnni | IntegerPath::EmulatedVnni => Some(Form::Quads),
            IntegerPath::Amx | IntegerPath::EmulatedAmx => Some(Form::Tiles),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_left_where_the_count_says_so() {
        let on = |depth| IntegerPath::EmulatedAmx.of_depth(depth);
        assert_eq!((on(4), on(7)), (IntegerPath::EmulatedVnni, IntegerPath::EmulatedVnni));
        assert!((8..5000).all(|depth| on(depth) == IntegerPath::EmulatedAmx));
        // Winograd's algorithm needs 3x3 taps and eight channels.
        assert!((72..5000).all(|depth| IntegerPath::Amx.cost(depth) < IntegerPath::Avx2.cost(depth)));
        for products in IntegerPath::ALL.into_iter().filter(|products| products.form() != Some(Form::Tiles)) {
            assert_eq!(products.of_depth(4), products);
        }
    }
}
