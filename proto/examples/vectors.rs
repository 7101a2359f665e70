//! Writes the golden vectors of `proto/vectors/` anew. Run it after a change of the protocol, and read the difference:
//! `cargo run --release -p aigaq-proto --example vectors`.

#[path = "../tests/golden/mod.rs"]
mod golden;

fn main() -> std::io::Result<()> {
    for (file, value) in golden::files() {
        let path = golden::path(file);
        std::fs::write(&path, format!("{value:#}\n"))?;
        println!("{}", path.display());
    }
    Ok(())
}
