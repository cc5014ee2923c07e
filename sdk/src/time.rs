//! The host's clock.

use std::time::Duration;

use crate::hostcalls;
use crate::runtime::Timer;

/// Time since the Unix epoch by the host's clock, which may go backwards.
#[must_use]
pub fn now() -> Duration {
    Duration::from_nanos(hostcalls::now())
}

/// Waits. A stream is held meanwhile. The host's clock for this has a resolution of a millisecond, and needs the capability `timers`.
pub async fn sleep(duration: Duration) {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Timer::at(hostcalls::now().saturating_add(nanoseconds)).await;
}
