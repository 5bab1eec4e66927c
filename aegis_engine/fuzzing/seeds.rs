//! Writes the seeds of a crate's fuzz targets. Included by path.

use std::path::PathBuf;

/// Writes each target's seeds into `<folder>/<target>/`; the folder is the program's argument.
pub fn write<const N: usize>(all: [(&str, Vec<Vec<u8>>); N]) -> std::io::Result<()> {
    let root = PathBuf::from(std::env::args_os().nth(1).expect("a folder"));
    for (target, seeds) in all {
        let folder = root.join(target);
        std::fs::create_dir_all(&folder)?;
        for (n, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{n}")), seed)?;
        }
    }
    Ok(())
}
