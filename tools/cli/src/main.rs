//! Serves virtio-blk disks through VDUSE from polling threads.

#![deny(unsafe_code)]

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod attach;
mod bench;
mod config;
mod doctor;
mod log;
mod log_level;
mod membership;
mod metrics;
mod output;
mod package;
mod pause;
mod reload;
mod resize;
mod serve;
mod show;
mod top;
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
    Doctor(doctor::DoctorArgs),
    Serve(Box<serve::ServeArgs>),
    Add(Box<membership::AddArgs>),
    Remove(membership::RemoveArgs),
    Attach(attach::AttachArgs),
    Detach(attach::DetachArgs),
    List(show::ListArgs),
    Status(show::StatusArgs),
    Stats(show::StatsArgs),
    Top(top::TopArgs),
    Metrics(metrics::MetricsArgs),
    Resize(resize::ResizeArgs),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
    Reload(reload::ReloadArgs),
    LogLevel(log_level::LogLevelArgs),
    Config(config::ConfigArgs),
    Bench(bench::BenchArgs),
    Vm(vm::VmArgs),
    Completions(package::CompletionsArgs),
    #[command(hide = true)]
    Man(package::ManArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return output::refuse(&error),
    };
    match cli.command {
        Command::Doctor(args) => doctor::main(&args),
        Command::Serve(args) => serve::main(*args),
        Command::Add(args) => membership::add(&args),
        Command::Remove(args) => membership::remove(&args),
        Command::Attach(args) => attach::attach(&args),
        Command::Detach(args) => attach::detach(&args),
        Command::List(args) => show::list(&args),
        Command::Status(args) => show::status(&args),
        Command::Stats(args) => show::stats(&args),
        Command::Top(args) => top::main(&args),
        Command::Metrics(args) => metrics::main(&args),
        Command::Resize(args) => resize::main(&args),
        Command::Pause(args) => pause::pause(&args),
        Command::Resume(args) => pause::resume(&args),
        Command::Reload(args) => reload::main(&args),
        Command::LogLevel(args) => log_level::main(&args),
        Command::Config(args) => config::main(&args),
        Command::Bench(args) => bench::main(args),
        Command::Vm(args) => vm::main(args),
        Command::Completions(args) => package::completions(&args, Cli::command()),
        Command::Man(args) => package::man(&args, Cli::command()),
    }
}
