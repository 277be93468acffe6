//! Sums in f64 in the order that a warp adds in: lane l takes terms l, l + 32, .. in order, then lanes 16, 8, 4, 2, 1 apart are added. What 8-bit steps add in floating point is added so on
//! every device ([`crate::backend::Int8`], [`crate::ops::classifier`]).

/// Lanes of a warp.
pub(super) const LANES: usize = 32;

/// Adds lanes pairwise at distances 16, 8, 4, 2, 1; M sums at once.
pub(super) fn add_up<const M: usize>(mut lanes: [[f64; M]; LANES]) -> [f64; M] {
    let mut distance = LANES / 2;
    while distance > 0 {
        let (low, high) = lanes.split_at_mut(distance);
        for (low, high) in low.iter_mut().zip(high) {
            low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
        }
        distance /= 2;
    }
    lanes[0]
}

/// The sum of `count` terms.
pub(super) fn in_lanes<const M: usize>(count: usize, term: impl Fn(usize) -> [f64; M]) -> [f64; M] {
    let mut lanes = [[0.0f64; M]; LANES];
    for i in 0..count {
        let lane = &mut lanes[i % LANES];
        lane.iter_mut().zip(term(i)).for_each(|(lane, term)| *lane += term);
    }
    add_up(lanes)
}
