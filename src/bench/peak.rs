//! The most memory this process held, as Linux counts it (proc(5): `VmHWM`).

/// Forgets the high-water mark, so that it tells of what comes now. Where the kernel
/// refuses, the mark goes on counting what came before.
pub fn reset() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Bytes resident at most since the last reset; 0 where the kernel does not say.
#[must_use]
pub fn read() -> u64 {
    of("self")
}

/// The same of a process by its id.
#[must_use]
pub fn of(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}
