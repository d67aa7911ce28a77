//! Writes the first inputs of every target into `corpus/TARGET/`.

use catenary_testkit::sha256_hex;

fn main() -> std::io::Result<()> {
    for (target, inputs) in catenary_fuzz::seeds::all() {
        let folder = std::path::Path::new("corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        for input in inputs {
            std::fs::write(folder.join(&sha256_hex(&input)[..16]), input)?;
        }
    }
    Ok(())
}
