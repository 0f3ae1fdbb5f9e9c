//! The device side of a virtqueue, ours beside virtio-queue: direct and indirect requests of three
//! descriptors, split and packed, in batches of 1, 8 and 64. Figures are for a batch; the throughput is in
//! requests. At the end `pollux bench ring`'s table, ns a request and ratios.

use std::num::NonZeroU32;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use pollux_bench::ring::{self, DeviceSide, Fixture, PassSide, ReferenceSide, RingPlan, Shape};
use pollux_dataplane::ring::RingFeatures;

fn ring(criterion: &mut Criterion) {
    for (format, packed) in [("split", false), ("packed", true)] {
        for (layout, indirect) in [("direct", false), ("indirect", true)] {
            let mut features = RingFeatures::EVENT_IDX;
            features.set(RingFeatures::RING_PACKED, packed);
            features.set(RingFeatures::INDIRECT_DESC, indirect);
            let mut group = criterion.benchmark_group(format!("{format}/{layout}"));
            for batch in [1, 8, 64] {
                let segments = 1;
                let shape = Shape {
                    features,
                    batch,
                    segments,
                };
                group.throughput(Throughput::Elements(u64::from(batch)));
                let id = |who| BenchmarkId::new(who, batch);
                group.bench_function(id("pollux"), |b| {
                    let mut fixture = Fixture::new(shape);
                    let mut side = DeviceSide::new(&fixture);
                    b.iter_custom(|batches| ring::time(&mut fixture, &mut side, batches));
                });
                let mut fixture = Fixture::new(shape);
                if let Some(mut side) = ReferenceSide::new(&fixture) {
                    group.bench_function(id("virtio-queue"), |b| {
                        b.iter_custom(|batches| ring::time(&mut fixture, &mut side, batches));
                    });
                }
                for (name, every, logs) in [
                    ("pass", 1, true),
                    ("pass, 1 in 64 timed", 64, true),
                    ("pass, 1 in 64 timed, no log", 64, false),
                ] {
                    let every = NonZeroU32::new(every).expect("not zero");
                    group.bench_function(id(name), |b| {
                        let mut fixture = Fixture::new(shape);
                        let mut side = PassSide::new(&fixture, every, logs);
                        b.iter_custom(|batches| ring::time(&mut fixture, &mut side, batches));
                    });
                }
            }
            group.finish();
        }
    }
}

criterion_group!(benches, ring);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    let plan = RingPlan {
        rounds: 3,
        turn: Duration::from_millis(50),
    };
    println!("{}", ring::compare(plan, |_| {}));
}
