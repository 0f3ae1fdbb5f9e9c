//! Writes the seeds into a folder, one file each: `cargo run --no-default-features --example seeds -- FOLDER`

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("seeds: no folder to write to; usage: seeds FOLDER");
        std::process::exit(2);
    };
    std::fs::create_dir_all(&folder)?;
    for (number, seed) in pollux_fuzz::seeds::seeds().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:03}")), seed.encode())?;
    }
    Ok(())
}
