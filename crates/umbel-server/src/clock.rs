//! What time it is. The round engine has no clock: this is the only place of the server where its time comes from.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use umbel_protocol::Timestamp;

/// Tells the time since the run began.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Time since the run began, in no case less than it was told before.
    fn now(&self) -> Timestamp;
}

/// The system's clock. It goes on while the server is down, so that a deadline stays where it was; a clock that is set back stands
/// still until it has caught up.
#[derive(Debug)]
pub struct SystemClock {
    started: Duration,
    latest: AtomicU64,
}

impl SystemClock {
    /// A clock for a run that began `started` after 1970.
    pub fn since(started: Duration) -> Self {
        Self {
            started,
            latest: AtomicU64::new(0),
        }
    }

    /// The system's time, since 1970.
    pub fn system_time() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Self::system_time().saturating_sub(self.started);
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let latest = self.latest.fetch_max(micros, Ordering::Relaxed).max(micros);
        Timestamp::new(Duration::from_micros(latest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_and_begins_at_zero() {
        let ahead = SystemClock::since(SystemClock::system_time() + Duration::from_secs(1000));
        assert_eq!(ahead.now(), Timestamp::default());
        let clock = SystemClock::since(SystemClock::system_time().saturating_sub(Duration::from_secs(5)));
        assert!(clock.now() >= Timestamp::new(Duration::from_secs(5)));
        clock.latest.store(u64::MAX / 2, Ordering::Relaxed);
        assert_eq!(clock.now().since_start(), Duration::from_micros(u64::MAX / 2));
    }
}
