//! From a descriptor chain to a request, by its number of data segments, ours beside virtio-queue: take,
//! walk, parse, status, return, in batches of 8 through indirect tables.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pollux_bench::ring::{self, DeviceSide, Fixture, ReferenceSide, Shape};
use pollux_dataplane::ring::RingFeatures;

fn parse(criterion: &mut Criterion) {
    let batch = 8;
    for (format, packed) in [("split", false), ("packed", true)] {
        let mut features = RingFeatures::EVENT_IDX | RingFeatures::INDIRECT_DESC;
        features.set(RingFeatures::RING_PACKED, packed);
        let mut group = criterion.benchmark_group(format!("parse/{format}"));
        for segments in [1, 4, 16, 64, 254] {
            let shape = Shape {
                features,
                batch,
                segments,
            };
            group.throughput(Throughput::Elements(u64::from(batch)));
            let mut fixture = Fixture::new(shape);
            let mut side = DeviceSide::new(&fixture);
            group.bench_function(BenchmarkId::new("pollux", segments), |b| {
                b.iter_custom(|batches| ring::time(&mut fixture, &mut side, batches));
            });
            let mut fixture = Fixture::new(shape);
            if let Some(mut side) = ReferenceSide::new(&fixture) {
                group.bench_function(BenchmarkId::new("virtio-queue", segments), |b| {
                    b.iter_custom(|batches| ring::time(&mut fixture, &mut side, batches));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, parse);
criterion_main!(benches);
