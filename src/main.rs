//! The `gong` command.

fn main() -> std::process::ExitCode {
    #[cfg(feature = "failpoints")]
    gong::failpoint::arm();
    gong::cli::main()
}
