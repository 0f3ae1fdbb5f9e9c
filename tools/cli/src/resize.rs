//! `pollux resize`.

use std::process::ExitCode;

use clap::Args;
use pollux_control::api::ResizeBody;
use pollux_control::device::parse_size;
use vduse::Name;

use crate::output::{Runtime, finish, json, line, size};

/// Gives a served disk another size, in use or not
#[derive(Debug, Args)]
#[command(after_help = "Example: pollux resize d0 16G

K, M, G and T are powers of 1024. The disk grows at once; what is on it does not: resize2fs /dev/vdX makes use of it.
Serve the device with the new size from then on, also after a daemon that was killed.")]
pub(crate) struct ResizeArgs {
    /// The device
    name: Name,
    /// Its size from now on, such as 16G
    #[arg(value_parser = parse_size)]
    size: u64,
    /// Shrink, too: what is beyond the new end is lost at once, mounted or not
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

pub(crate) fn main(args: &ResizeArgs) -> ExitCode {
    let wanted = ResizeBody {
        size_bytes: args.size,
        force: args.force,
    };
    match args.runtime.client().resize(args.name.as_str(), wanted) {
        Ok(resized) if args.json => finish(json(&resized)),
        Ok(resized) => {
            let (before, after) = (size(resized.before_bytes), size(resized.after_bytes));
            line(format_args!("{}: {before} -> {after}", resized.name));
            ExitCode::SUCCESS
        }
        Err(error) => finish(Err(error)),
    }
}
