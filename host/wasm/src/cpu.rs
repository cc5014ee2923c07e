//! The CPU clock of the calling thread: what a guest is charged for.
//!
//! Wall time would punish a filter for a container that the kernel throttles; the thread's own clock does not.

use std::time::Duration;

/// CPU time that the calling thread has used since it started.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) fn thread_time() -> Duration {
    /// `struct timespec` of 64-bit Linux.
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }

    #[allow(unsafe_code, reason = "std has no access to CLOCK_THREAD_CPUTIME_ID")]
    // SAFETY: the declaration matches clock_gettime(2) of 64-bit Linux.
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
    }
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;

    let mut time = Timespec {
        seconds: 0,
        nanoseconds: 0,
    };
    #[allow(unsafe_code, reason = "std has no access to CLOCK_THREAD_CPUTIME_ID")]
    // SAFETY: `time` is a valid timespec that outlives the call, which writes nothing else.
    let result = unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if result != 0 {
        return Duration::ZERO;
    }
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    let nanoseconds = u64::try_from(time.nanoseconds).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

/// Elsewhere wall time stands in: stricter towards the guest than CPU time, never laxer.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub(crate) fn thread_time() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::thread_time;

    #[test]
    fn the_clock_advances_with_work() {
        let before = thread_time();
        let mut sum = 0_u64;
        while thread_time() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(thread_time() > before);
    }
}
