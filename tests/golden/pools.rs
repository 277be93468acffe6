//! Pools, ReLU, add and select against PyTorch. Forward maxima, gathers and ReLUs are exact; sums carry a tolerance per term.

use earlybird::ops::add::Add;
use earlybird::ops::pool::Pool;
use earlybird::ops::relu::Relu;
use earlybird::ops::select::Select;

use super::device::Device;
use super::store::{Case, Golden, Tensor, U, sum_factor};

for_each_device!(
    maxpool_agrees_with_pytorch_and_the_first_of_equals_gets_the_gradient,
    avgpool_agrees_with_pytorch_with_padding_counted,
    global_avgpool_agrees_with_pytorch,
    relu_agrees_with_pytorch_and_passes_no_gradient_at_zero,
    add_agrees_with_pytorch_in_place_too,
    select_gathers_and_scatters_the_channels_pytorch_does,
);

fn exact(len: usize) -> Vec<f64> {
    vec![0.0; len]
}

/// Parameters of a windowed pool; the output's sides come from the golden itself.
fn pool(case: &Case, y: &Tensor) -> Pool {
    let [n, c, h, w] = ["n", "c", "h", "w"].map(|key| case.size(key) as u32);
    let side = |key: &str| case.size(key) as u32;
    let (p, q) = (y.dims[1] as u32, y.dims[2] as u32);
    let kernel = side("kernel");
    Pool { n, h, w, c, p, q, kernel_h: kernel, kernel_w: kernel, stride: side("stride"), padding: side("padding") }
}

/// Calls `each(x, y)` with every input that lies in the window of every output.
fn windows(p: &Pool, mut each: impl FnMut(usize, usize)) {
    for y in 0..p.n * p.p * p.q * p.c {
        let (ch, j, i, n) = (y % p.c, y / p.c % p.q, y / p.c / p.q % p.p, y / p.c / p.q / p.p);
        for (a, b) in (0..p.kernel_h).flat_map(|a| (0..p.kernel_w).map(move |b| (a, b))) {
            let (row, column) =
                ((i * p.stride + a).wrapping_sub(p.padding), (j * p.stride + b).wrapping_sub(p.padding));
            if row < p.h && column < p.w {
                each((((n * p.h + row) * p.w + column) * p.c + ch) as usize, y as usize);
            }
        }
    }
}

fn maximum(device: &Device, case: &Case) {
    let [x, dy, y, dx] = ["x", "dy", "y", "dx"].map(|name| case.tensor(name).channels_last());
    let p = pool(case, &y);
    let (bx, bdy) = (device.put(&x.f32()), device.put(&dy.f32()));
    let (out, index) = (device.out(y.data.len()), device.put(&vec![255u8; y.data.len()]));
    let index_span = index.span(0, y.data.len()).unwrap();
    device.backend.maxpool_fwd_f32(&p, bx.all(), out.all(), index_span).unwrap();
    case.close("y", &device.get(&out), &y.data, &exact(y.data.len()));
    let out = device.out(x.data.len());
    device.backend.maxpool_bwd_f32(&p, index_span, bdy.all(), out.all()).unwrap();
    // A pixel may win in several windows: at most all that hold it.
    let (mut sums, mut terms) = (exact(x.data.len()), vec![0; x.data.len()]);
    windows(&p, |i, o| {
        if x.data[i] == y.data[o] {
            sums[i] += dy.data[o].abs();
            terms[i] += 1;
        }
    });
    let bound: Vec<f64> = sums.iter().zip(terms).map(|(s, n)| if n > 1 { s * sum_factor(n) } else { 0.0 }).collect();
    case.close("dx", &device.get(&out), &dx.data, &bound);
}

fn mean(device: &Device, case: &Case) {
    let [x, dy, y, dx] = ["x", "dy", "y", "dx"].map(|name| case.tensor(name).channels_last());
    let p = pool(case, &y);
    let area = (p.kernel_h * p.kernel_w) as usize;
    let (mut sy, mut sx) = (exact(y.data.len()), exact(x.data.len()));
    windows(&p, |i, o| {
        sy[o] += x.data[i].abs() / area as f64;
        sx[i] += dy.data[o].abs() / area as f64;
    });
    // One rounding more for the division, one for each quotient that is summed.
    let scale = |sums: &[f64]| -> Vec<f64> { sums.iter().map(|s| s * (sum_factor(area) + 2.0 * U)).collect() };
    let (bx, bdy) = (device.put(&x.f32()), device.put(&dy.f32()));
    let out = device.out(y.data.len());
    device.backend.avgpool_fwd_f32(&p, bx.all(), out.all()).unwrap();
    case.close("y", &device.get(&out), &y.data, &scale(&sy));
    let out = device.out(x.data.len());
    device.backend.avgpool_bwd_f32(&p, bdy.all(), out.all()).unwrap();
    case.close("dx", &device.get(&out), &dx.data, &scale(&sx));
}

fn maxpool_agrees_with_pytorch_and_the_first_of_equals_gets_the_gradient(device: &Device) {
    Golden::open("ops").cases("maxpool").iter().for_each(|case| maximum(device, case));
}

fn avgpool_agrees_with_pytorch_with_padding_counted(device: &Device) {
    Golden::open("ops").cases("avgpool").iter().for_each(|case| mean(device, case));
}

fn global_avgpool_agrees_with_pytorch(device: &Device) {
    for case in Golden::open("ops").cases("global_avgpool") {
        let [x, dx] = ["x", "dx"].map(|name| case.tensor(name).channels_last());
        let (dy, y) = (case.tensor("dy"), case.tensor("y"));
        let [n, c, h, w] = ["n", "c", "h", "w"].map(|key| case.size(key) as u32);
        let p = Pool { n, h, w, c, p: 1, q: 1, kernel_h: h, kernel_w: w, stride: 1, padding: 0 };
        let (c, area) = (c as usize, (h * w) as usize);
        let bound: Vec<f64> = (0..y.data.len())
            .map(|o| {
                let pixels = (0..area).map(|i| x.data[((o / c) * area + i) * c + o % c].abs());
                (sum_factor(area) + 2.0 * U) * pixels.sum::<f64>() / area as f64
            })
            .collect();
        let (bx, bdy, out) = (device.put(&x.f32()), device.put(&dy.f32()), device.out(y.data.len()));
        device.backend.global_avgpool_fwd_f32(&p, bx.all(), out.all()).unwrap();
        case.close("y", &device.get(&out), &y.data, &bound);
        let out = device.out(x.data.len());
        device.backend.global_avgpool_bwd_f32(&p, bdy.all(), out.all()).unwrap();
        let bound: Vec<f64> = dx.data.iter().map(|v| 2.0 * U * v.abs()).collect();
        case.close("dx", &device.get(&out), &dx.data, &bound);
    }
}

fn relu_agrees_with_pytorch_and_passes_no_gradient_at_zero(device: &Device) {
    for case in Golden::open("ops").cases("relu") {
        let [x, dy, y, dx] = ["x", "dy", "y", "dx"].map(|name| case.tensor(name).channels_last());
        let p = Relu { n: x.data.len() as u32 };
        let (bx, bdy, out) = (device.put(&x.f32()), device.put(&dy.f32()), device.out(x.data.len()));
        device.backend.relu_fwd_f32(&p, bx.all(), out.all()).unwrap();
        case.close("y", &device.get(&out), &y.data, &exact(y.data.len()));
        let dx_out = device.out(x.data.len());
        device.backend.relu_bwd_f32(&p, out.all(), bdy.all(), dx_out.all()).unwrap();
        case.close("dx", &device.get(&dx_out), &dx.data, &exact(dx.data.len()));
        // In place.
        device.backend.relu_fwd_f32(&p, bx.all(), bx.all()).unwrap();
        device.backend.relu_bwd_f32(&p, bx.all(), bdy.all(), bdy.all()).unwrap();
        case.close("y in place", &device.get(&bx), &y.data, &exact(y.data.len()));
        case.close("dx in place", &device.get(&bdy), &dx.data, &exact(dx.data.len()));
    }
}

fn add_agrees_with_pytorch_in_place_too(device: &Device) {
    for case in Golden::open("ops").cases("add") {
        let [a, b, y] = ["a", "b", "y"].map(|name| case.tensor(name).channels_last());
        let bound: Vec<f64> = y.data.iter().map(|v| U * v.abs()).collect();
        let p = Add { n: y.data.len() as u32 };
        let (ba, bb, out) = (device.put(&a.f32()), device.put(&b.f32()), device.out(y.data.len()));
        device.backend.add_fwd_f32(&p, ba.all(), bb.all(), out.all()).unwrap();
        case.close("y", &device.get(&out), &y.data, &bound);
        device.backend.add_fwd_f32(&p, ba.all(), bb.all(), bb.all()).unwrap();
        case.close("y over b", &device.get(&bb), &y.data, &bound);
        let bb = device.put(&b.f32());
        device.backend.add_fwd_f32(&p, ba.all(), bb.all(), ba.all()).unwrap();
        case.close("y over a", &device.get(&ba), &y.data, &bound);
    }
}

fn select_gathers_and_scatters_the_channels_pytorch_does(device: &Device) {
    for case in Golden::open("ops").cases("select") {
        let [x, dy, y, dx] = ["x", "dy", "y", "dx"].map(|name| case.tensor(name).channels_last());
        let channels: Vec<u32> = case.list("channels").iter().map(|c| *c as u32).collect();
        let c = case.size("c");
        let p = Select { rows: (x.data.len() / c) as u32, c: c as u32, k: channels.len() as u32 };
        let (bx, bdy, index) = (device.put(&x.f32()), device.put(&dy.f32()), device.put(&channels));
        let out = device.out(y.data.len());
        device.backend.select_fwd_f32(&p, bx.all(), index.all(), out.all()).unwrap();
        case.close("y", &device.get(&out), &y.data, &exact(y.data.len()));
        let out = device.out(x.data.len());
        device.backend.select_bwd_f32(&p, bdy.all(), index.all(), out.all()).unwrap();
        case.close("dx", &device.get(&out), &dx.data, &exact(dx.data.len()));
    }
}
