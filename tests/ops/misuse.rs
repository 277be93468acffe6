//! Spans that do not fit: clear errors that name the operator, never a panic or a stray write.

use earlybird::Error;
use earlybird::ops::Kernel;
use earlybird::ops::add::Add;
use earlybird::ops::conv2d::{Conv2d, Conv2dAttr};
use earlybird::ops::select::Select;
use earlybird::ops::softmax_xent::SoftmaxXent;
use earlybird::ops::{Metrics, Shape};

use crate::device::Device;

for_each_device!(
    short_spans_are_refused,
    memory_of_another_device_is_refused,
    outputs_over_inputs_are_refused,
    indices_out_of_range_are_refused
);

fn refused(result: Result<(), Error>, words: &str) {
    let message = result.expect_err("must be refused").to_string();
    assert!(words.split(' ').all(|word| message.contains(word)), "{message} should speak of {words}");
}

fn short_spans_are_refused(device: &Device) {
    let p = Conv2d::new(2, Shape::new(5, 5, 3), &Conv2dAttr::square(4, 3, 1, 1)).unwrap();
    let (x, w, y) = (device.out(p.x_len()), device.out(p.w_len()), device.out(p.y_len()));
    let (ws, short) = (device.workspace(&Kernel::Conv2dFwd(p)), device.out(p.w_len() - 1));
    let run = |x: &earlybird::backend::Memory, w: &earlybird::backend::Memory| {
        device.backend.conv2d_fwd_f32(&p, x.all(), w.all(), None, y.all(), ws.all())
    };
    refused(run(&x, &short), "conv2d_fwd_f32 bytes");
    run(&x, &w).unwrap();
    assert!(x.span(4, x.bytes()).is_err(), "a span cannot leave its memory");
}

fn memory_of_another_device_is_refused(device: &Device) {
    let other = earlybird::backend::cpu::Cpu::new();
    let (own, foreign) = (device.out(8), other.alloc(32).unwrap());
    let p = Add { n: 8 };
    refused(device.backend.add_fwd_f32(&p, own.all(), foreign.all(), own.all()), "device");
    refused(device.backend.upload(&[0; 32], foreign.all()), "device");
}

fn outputs_over_inputs_are_refused(device: &Device) {
    let memory = device.out(100);
    let p = Conv2d::new(1, Shape::new(3, 3, 1), &Conv2dAttr::square(1, 1, 1, 0)).unwrap();
    let (x, w, y) = (memory.span(0, 36).unwrap(), memory.span(40, 4).unwrap(), memory.span(32, 36).unwrap());
    let ws = device.workspace(&Kernel::Conv2dFwd(p));
    refused(device.backend.conv2d_fwd_f32(&p, x, w, None, y, ws.all()), "conv2d_fwd_f32 overlaps");
}

fn indices_out_of_range_are_refused(device: &Device) {
    if !device.checks_indices {
        return label_out_of_range_makes_the_loss_nan(device);
    }
    let p = Select { rows: 2, c: 3, k: 1 };
    let (x, index, y) = (device.out(6), device.put(&[3u32]), device.out(2));
    refused(device.backend.select_fwd_f32(&p, x.all(), index.all(), y.all()), "channel 3");
    let p = SoftmaxXent { n: 1, classes: 3 };
    let (logits, labels, metrics) = (device.put(&[0.0f32; 3]), device.put(&[7u32]), device.put(&[Metrics::default()]));
    let probs = device.out(3);
    let result = device.backend.softmax_xent_fwd_f32(&p, logits.all(), labels.all(), probs.all(), metrics.all());
    refused(result, "label 7");
}

/// Where nobody looks at labels beforehand, a wrong one must not go unseen: in rows that a warp holds in shared memory, and in longer ones.
fn label_out_of_range_makes_the_loss_nan(device: &Device) {
    for classes in [3u32, 330] {
        let p = SoftmaxXent { n: 2, classes };
        let (logits, labels) = (device.put(&vec![0.0f32; 2 * classes as usize]), device.put(&[1u32, u32::MAX]));
        let (metrics, probs) = (device.put(&[Metrics::default()]), device.out(2 * classes as usize));
        device.backend.softmax_xent_fwd_f32(&p, logits.all(), labels.all(), probs.all(), metrics.all()).unwrap();
        let got = device.get::<Metrics>(&metrics)[0];
        assert!(got.loss_sum.is_nan() && got.top1 == 0 && got.count == 2, "{classes} classes: {got:?}");
    }
}
