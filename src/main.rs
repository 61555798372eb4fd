//! The `gong` command.

/// Many threads allocate little things for each message: with the system's allocator
/// messages over HTTP are a tenth slower (docs/BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    #[cfg(feature = "failpoints")]
    gong::failpoint::arm();
    gong::cli::main()
}
