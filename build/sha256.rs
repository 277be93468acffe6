//! SHA-256 (FIPS 180-4), for cache keys and for the hash that `earlybird kernels list` shows. Checked against the standard's examples in
//! `tests/build_script.rs`; 40 lines here spare every build eight crates.

/// Digest of `data` in hex.
pub fn hex(data: &[u8]) -> String {
    // The constants are the first 32 bits of the fractional parts of cube and square roots of primes (4.2.2, 5.3.3).
    let primes: Vec<u64> =
        (2u64..).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).take(64).collect();
    let k: Vec<u32> = primes.iter().map(|&p| fraction(p, 3)).collect();
    let mut h: Vec<u32> = primes[..8].iter().map(|&p| fraction(p, 2)).collect();

    let mut message = data.to_vec();
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend_from_slice(&(8 * data.len() as u64).to_be_bytes());

    for block in message.chunks_exact(64) {
        let mut w: Vec<u32> = block.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
        for t in 16..64 {
            let s0 = w[t - 15].rotate_right(7) ^ w[t - 15].rotate_right(18) ^ (w[t - 15] >> 3);
            let s1 = w[t - 2].rotate_right(17) ^ w[t - 2].rotate_right(19) ^ (w[t - 2] >> 10);
            w.push(w[t - 16].wrapping_add(s0).wrapping_add(w[t - 7]).wrapping_add(s1));
        }
        let mut v = h.clone();
        for t in 0..64 {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choose = (v[4] & v[5]) ^ (!v[4] & v[6]);
            let t1 = v[7].wrapping_add(s1).wrapping_add(choose).wrapping_add(k[t]).wrapping_add(w[t]);
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
            v.rotate_right(1); // the old h is now v[0] and is overwritten
            v[4] = v[4].wrapping_add(t1);
            v[0] = t1.wrapping_add(s0).wrapping_add(majority);
        }
        for (a, b) in h.iter_mut().zip(&v) {
            *a = a.wrapping_add(*b);
        }
    }
    h.iter().map(|v| format!("{v:08x}")).collect()
}

/// First 32 bits behind the point of the `degree`-th root of `p`, by bisection in integers.
fn fraction(p: u64, degree: u32) -> u32 {
    // The root times 2^32 is the largest x with x^degree <= p * 2^(32*degree); compared in 128-bit limbs.
    let (mut low, mut high) = (0u128, 32u128 << 32);
    while high - low > 1 {
        let x = (low + high) / 2;
        let fits = if degree == 2 { x * x <= u128::from(p) << 64 } else { cube_at_most(x, p) };
        if fits { low = x } else { high = x }
    }
    low as u32
}

/// `x^3 <= p * 2^96` for `x < 2^37`, without leaving 128 bits.
fn cube_at_most(x: u128, p: u64) -> bool {
    let square = x * x; // < 2^74
    let (high, low) = (square >> 48, square & ((1 << 48) - 1));
    let (a, b) = (high * x, low * x); // x^3 = a * 2^48 + b
    let carry = a + (b >> 48); // x^3 >> 48
    let rest = b & ((1 << 48) - 1);
    let limit = u128::from(p) << 48;
    carry < limit || (carry == limit && rest == 0)
}
