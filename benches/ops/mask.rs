//! Mask drawing and distances, on the host: three ratios from the scales of VGG16, its quarter, and ResNet-50.

use criterion::{BenchmarkId, Criterion, Throughput};
use earlybird::data::noise;
use earlybird::ticket::{Detector, DetectorOptions, draw};

use crate::group;

pub fn bench(c: &mut Criterion) {
    for channels in [4224usize, 1056, 26_560] {
        let scales = noise(channels, 1);
        let ratios = [0.3, 0.5, 0.7];
        let mut drawing = group(c, "mask_draw");
        drawing.throughput(Throughput::Elements(channels as u64));
        drawing.bench_function(BenchmarkId::new("host", channels), |b| b.iter(|| draw(&scales, &ratios).unwrap()));
        drawing.finish();
        let mask = draw(&scales, &ratios).unwrap().remove(0).mask;
        let mut detector = Detector::new(DetectorOptions::default());
        let mut judging = group(c, "mask_distance");
        judging.throughput(Throughput::Elements(channels as u64));
        judging.bench_function(BenchmarkId::new("host", channels), |b| b.iter(|| detector.update(&mask).unwrap()));
        judging.finish();
    }
}
