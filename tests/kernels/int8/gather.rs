//! Batchnorms that read some channels of a stream: gathered where their input is stored, scattered where their gradient meets others.
//!
//! Cases as those of [`super`], from one channel of one to 130 of more; which ones are kept goes by turns.

use super::*;

/// Channels that a batchnorm of about `c` reads, and how many the stream has: all, one, every second, the first or the last ones missing, gaps of all sizes.
fn kept(random: &mut Random, c: usize, way: usize) -> (Vec<u32>, usize) {
    let all = 0..c as u32;
    match way % 6 {
        0 => (all.collect(), c),
        1 => (vec![random.below(c as u32)], c),
        2 => (all.map(|i| 2 * i + 1).collect(), 2 * c + 1),
        3 => (all.map(|i| i + 9).collect(), c + 9),
        4 => (all.collect(), c + 40),
        _ => {
            let (mut at, mut index) = (0, Vec::new());
            for _ in all {
                index.push(at);
                at += 1 + random.below(2) * random.below(20);
            }
            (index, at as usize)
        }
    }
}

fn gather(gpus: &[Named], rows: usize, c: usize, way: usize) {
    same(gpus, &format!("gather of {c} channels, way {way}, {rows} rows"), |side| {
        let mut random = Random((rows * 1000 + c * 10 + way) as u64);
        let (index, wide) = kept(&mut random, c, way);
        let (c, step, i8) = (index.len(), side.put(&STEP), side.backend.clone());
        let (i8, index) = (i8.int8().unwrap(), side.put(&index));
        let [rows_, c_, wide_] = [rows, c, wide].map(|v| v as u32);
        for (form, stochastic) in [(Form::Bfp16, true), (Form::F32, false)] {
            let noise = noise(6, stochastic);
            let p = Store { rows: rows_, c: c_, form: form as u32, select: 1, from: wide_, noise };
            let [x, xe] = side.tensor(&mut random, form, rows, wide);
            let (q, e) = (side.out("gathered", rows * pad(c)), side.out("its exponents", blocks(rows, c)));
            let sums = side.out("its sums", rows.div_ceil(64) * pad(c) * size_of::<OutputSums>());
            i8.quantize_store_i8(&p, bfp(&x, &xe), index.all(), step.all(), bfp(&q, &e), sums.all()).unwrap();
        }
        // And all of a stream of 16 bits.
        let [x, xe] = side.tensor(&mut random, Form::Bfp16, rows, c);
        let (q, e) = (side.out("stored", rows * pad(c)), side.out("its exponents", blocks(rows, c)));
        let sums = side.out("its sums", rows.div_ceil(64) * pad(c) * size_of::<OutputSums>());
        let p = Store { form: Form::Bfp16 as u32, ..Store::all(rows, c, noise(7, true)) };
        let none = step.span(0, 0).unwrap();
        i8.quantize_store_i8(&p, bfp(&x, &xe), none, step.all(), bfp(&q, &e), sums.all()).unwrap();

        let [dz, dze] = side.tensor(&mut random, Form::Stored, rows, c);
        let [y, ye] = side.tensor(&mut random, Form::Stored, rows, c);
        let sums: Vec<GradientSums> = (0..rows.div_ceil(64) * pad(c))
            .map(|_| GradientSums { products: i32::from(random.between(-99, 99)), sum: 3, ..Default::default() })
            .collect();
        let sums = side.put(&sums);
        let [gamma, mean, invstd] = [(); 3].map(|()| side.put(&random.floats(c)));
        for (add, other, form) in [
            (1, Form::Bfp16, Form::Bfp16),
            (0, Form::F32, Form::Bfp16),
            (1, Form::F32, Form::F32),
            (1, Form::Stored, Form::Bfp16),
            (0, Form::F32, Form::F32),
        ] {
            let (other_, form_) = (other as u32, form as u32);
            let p =
                BatchNormBwdStreamI8 { rows: rows_, c: c_, add, other: other_, form: form_, select: 1, wide: wide_ };
            let [below, be] = side.tensor(&mut random, other, rows, wide);
            let (dgamma, dbeta) = (side.out("dgamma", c * 4), side.out("dbeta", c * 4));
            let ([dx, dxe], ws) = (side.stream(form, rows, wide), side.ws(&Kernel::BatchNormBwdStreamI8(p)));
            let [gamma, mean, invstd, dgamma, dbeta] = [&gamma, &mean, &invstd, &dgamma, &dbeta].map(Memory::all);
            let (dz, y, below, dx) = (bfp(&dz, &dze), bfp(&y, &ye), bfp(&below, &be), bfp(&dx, &dxe));
            let (sums, index, ws) = (sums.all(), index.all(), ws.all());
            i8.batchnorm_bwd_stream_i8(&p, dz, sums, y, gamma, mean, invstd, index, below, dgamma, dbeta, dx, ws)
                .unwrap();
        }
    });
}

pub(super) fn gathers(gpus: &[Named]) {
    let step = if everything() { 1 } else { 13 };
    for c in (1..=130).step_by(step).chain([16, 32, 64, 96]) {
        gather(gpus, 1 + c * 37 % 150, c, c / step);
    }
    // Each way with whole blocks of rows and channels, with runs over the edges of blocks, and with few of each.
    for way in 0..6 {
        for (rows, c) in [(128, 64), (70, 37), (3, 2)] {
            gather(gpus, rows, c, way);
        }
    }
    // One channel of very many, and no rows at all.
    gather(gpus, 5, 1800, 1);
    gather(gpus, 0, 20, 2);
}
