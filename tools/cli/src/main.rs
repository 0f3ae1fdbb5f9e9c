//! Serves virtio-blk disks through VDUSE from polling threads.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    Vm(vm::VmArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Vm(args) => vm::main(args),
    }
}
