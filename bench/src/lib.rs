//! Benchmarks of Pollux and its peers.
