//! The program: hands the command line to [`aigaq::cli`] and its exit code to the system. Nothing else lives here.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    aigaq::cli::main()
}
