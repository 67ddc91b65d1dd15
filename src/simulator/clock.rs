//! The exchange's clock.
//!
//! Reads the machine's clock once, at the start. Afterwards time is an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::config::SimulatorConfig;

/// A Unix clock that starts at a configured time and can be set ahead or back.
pub(super) struct SimulatedClock {
    started: Instant,
    start_ms: i64,
    offset_ms: i64,
}

impl SimulatedClock {
    pub(super) fn new(config: &SimulatorConfig, now: Instant) -> Self {
        Self {
            started: now,
            start_ms: config.clock_start_ms.unwrap_or_else(machine_time_ms),
            offset_ms: config.clock_offset_ms,
        }
    }

    /// Start of the simulator.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Unix time in milliseconds.
    pub(super) fn unix_ms(&self, now: Instant) -> i64 {
        let elapsed = now.saturating_duration_since(self.started).as_millis();
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        self.start_ms.saturating_add(elapsed).saturating_add(self.offset_ms)
    }

    /// Sets the exchange's clock minus the machine's clock.
    pub(super) fn set_offset_ms(&mut self, offset_ms: i64) {
        self.offset_ms = offset_ms;
    }
}

/// Whole seconds until a time, rounded up; `None` once the time is reached.
pub(super) fn seconds_until(end: Option<Instant>, now: Instant) -> Option<u64> {
    let left = end?.checked_duration_since(now).filter(|left| !left.is_zero())?;
    Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))
}

fn machine_time_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
