//! The clock of leases: it counts while the machine sleeps and nobody can set it.

use std::time::Duration;

/// Time since boot, sleep included.
#[cfg(target_os = "linux")]
pub fn since_boot() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    // It cannot fail on Linux since 2.6.39; a zero would make every lease look expired or be refused below.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// Elsewhere the monotonic clock must do; it may stand still while the machine sleeps.
#[cfg(not(target_os = "linux"))]
pub fn since_boot() -> Duration {
    use std::{sync::OnceLock, time::Instant};
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed() + Duration::from_secs(1)
}
