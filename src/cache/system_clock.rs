//! The clocks of the machine.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use kms_agent_core::Clock;
use kms_agent_core::lifetime::Timestamp;

/// Longest timer before boot time is looked at again. The runtime's timers stand still while
/// the machine is suspended; this bounds by how much a sleep overshoots.
const LONGEST_NAP: Duration = Duration::from_secs(10);

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn boot(&self) -> Duration {
        boot()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    fn wall(&self) -> Timestamp {
        Timestamp::EPOCH.plus(
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or(Duration::ZERO),
        )
    }

    async fn sleep_until(&self, deadline: Duration) {
        loop {
            let left = deadline.saturating_sub(self.boot());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LONGEST_NAP)).await;
        }
    }
}

#[cfg(unix)]
fn boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    #[cfg(any(target_os = "linux", target_os = "android"))]
    const COUNTS_SUSPEND: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const COUNTS_SUSPEND: ClockId = ClockId::Monotonic;
    let now = clock_gettime(COUNTS_SUSPEND);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// Since the first call. What the standard library reads here counts suspend.
#[cfg(windows)]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads boot time"
)]
fn boot() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}
