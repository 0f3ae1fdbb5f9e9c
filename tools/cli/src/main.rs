//! Serves virtio-blk disks through VDUSE from polling threads.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod vm;

/// Serves virtio-blk disks through VDUSE from polling threads
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::BenchArgs),
    Vm(vm::VmArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Bench(args) => bench::main(args),
        Command::Vm(args) => vm::main(args),
    }
}
