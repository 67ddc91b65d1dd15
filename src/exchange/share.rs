//! The part of the exchange's limits that one process takes, and the limits that follow from it. Two processes with the
//! same keys or the same address divide the limits, and neither needs to know the other.
//!
//! Every limit is rounded down. A limit of less than one call becomes one call in a longer time. Pure.

use std::{fmt, str::FromStr, time::Duration};

/// Calls per key in any [`KEY_SPAN`] of a process with the whole share. XT allows 3.
pub const KEY_CALLS_PER_SECOND: usize = 2;
/// The window of [`KEY_CALLS_PER_SECOND`].
pub const KEY_SPAN: Duration = Duration::from_secs(1);
/// Calls of an address in any [`ADDRESS_SPAN`] by a process with the whole share. XT allows 1000.
pub const ADDRESS_CALLS_PER_MINUTE: usize = 900;
/// The window of [`ADDRESS_CALLS_PER_MINUTE`].
pub const ADDRESS_SPAN: Duration = Duration::from_mins(1);
/// Calls of an address sent in any [`PACE_SPAN`]: [`ADDRESS_CALLS_PER_MINUTE`], spread evenly. So a minute's calls are
/// never spent in its first seconds, and a process and its successor together send no more than one process.
pub(super) const PACE_CALLS: usize = 15;
/// The window of `PACE_CALLS`, and the time in which a new process with the whole share sends nothing.
pub const PACE_SPAN: Duration = KEY_SPAN;

/// The smallest share. A read of two or three calls must get its permits within a minute.
const MIN_SHARE: Share = Share { part: 1, whole: 20 };
/// The largest number in a fraction.
const NUMBER_MAX: u32 = 1_000;

/// A part of the exchange's limits, above 0 and at most 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    part: u32,
    whole: u32,
}

/// A limit: at most `calls` calls in any time of length `span`, which includes both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimit {
    /// At least 1.
    pub calls: usize,
    /// Above 0.
    pub span: Duration,
}

/// The shares of one process: of the calls with a key, and of the calls of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitShares {
    /// The share of each key.
    pub key: Share,
    /// The share of each address.
    pub address: Share,
}

impl Share {
    /// The whole.
    pub const ALL: Self = Self { part: 1, whole: 1 };

    /// `part` of `whole`; both are at most 1000.
    const fn from_parts(part: u32, whole: u32) -> Self {
        Self { part, whole }
    }

    /// Whether at most two processes can have a share of this size.
    #[must_use]
    pub const fn is_at_least_half(self) -> bool {
        2 * self.part >= self.whole
    }

    const fn times(self, other: Self) -> Self {
        Self { part: self.part * other.part, whole: self.whole * other.whole }
    }

    /// This share of `calls` in `span`.
    fn limit(self, calls: usize, span: Duration) -> CallLimit {
        let calls = calls as u128 * u128::from(self.part);
        match usize::try_from(calls / u128::from(self.whole)) {
            Ok(calls) if calls > 0 => CallLimit { calls, span },
            _ => CallLimit { calls: 1, span: scale_up(span, u128::from(self.whole), calls) },
        }
    }
}

/// `span * factor / divisor`, rounded up to a nanosecond.
fn scale_up(span: Duration, factor: u128, divisor: u128) -> Duration {
    let nanos = (span.as_nanos() * factor).div_ceil(divisor.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl FromStr for Share {
    type Err = String;

    /// Parses `1/2`, or `1` for the whole. The error is the predicate of a sentence.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| is_plain && (1..=NUMBER_MAX).contains(number))
        };
        let (part, whole) = text.split_once('/').unwrap_or((text, "1"));
        let share = number(part).zip(number(whole)).map(|(part, whole)| Self { part, whole });
        let share = share.filter(|share| share.part <= share.whole);
        let share = share.ok_or("is not a share: write a fraction such as 1/2, or 1 for the whole")?;
        if share.part * MIN_SHARE.whole < share.whole * MIN_SHARE.part {
            return Err(format!("is too small to poll with: write at least {MIN_SHARE}"));
        }
        Ok(share)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.part == self.whole { f.write_str("1") } else { write!(f, "{}/{}", self.part, self.whole) }
    }
}

impl CallLimit {
    /// Calls per second in the long run.
    #[must_use]
    pub fn calls_per_second(self) -> f64 {
        f64::from(u32::try_from(self.calls).unwrap_or(u32::MAX)) / self.span.as_secs_f64()
    }
}

impl LimitShares {
    /// The shares of a process that runs beside one with these shares, such as a `check` beside the daemon. The daemon leaves
    /// them free: XT allows a key 3 calls a second, and 2 and a quarter of 2 are fewer. It allows an address 1000 calls a
    /// minute, and 900 and a tenth of 900 are 990.
    #[must_use]
    pub const fn for_others(self) -> Self {
        Self {
            key: self.key.times(Share::from_parts(1, 4)),
            address: self.address.times(Share::from_parts(1, 10)),
        }
    }

    /// Calls with one key.
    #[must_use]
    pub fn key_limit(self) -> CallLimit {
        self.key.limit(KEY_CALLS_PER_SECOND, KEY_SPAN)
    }

    /// Calls of one address.
    #[must_use]
    pub fn address_limit(self) -> CallLimit {
        self.address.limit(ADDRESS_CALLS_PER_MINUTE, ADDRESS_SPAN)
    }

    /// Calls of one address, spread evenly: whole calls in a time that keeps the rate.
    pub(super) fn pace(self) -> CallLimit {
        let Share { part, whole } = self.address;
        let CallLimit { calls, .. } = self.address.limit(PACE_CALLS, PACE_SPAN);
        let divisor = PACE_CALLS as u128 * u128::from(part);
        CallLimit { calls, span: scale_up(PACE_SPAN, calls as u128 * u128::from(whole), divisor) }
    }

    /// The time after the start in which the process sends nothing: a process with the same shares that was killed just
    /// before may have used them up.
    #[must_use]
    pub fn startup_delay(self) -> Duration {
        self.key_limit().span.max(self.pace().span).max(PACE_SPAN)
    }
}

impl From<Share> for LimitShares {
    fn from(share: Share) -> Self {
        Self { key: share, address: share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> Share {
        text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    fn limit(calls: usize, millis: u64) -> CallLimit {
        CallLimit { calls, span: Duration::from_millis(millis) }
    }

    #[test]
    fn a_share_is_a_fraction_and_everything_else_an_error_that_shows_one() {
        for (text, shown) in
            [("1", "1"), ("1/1", "1"), ("7/7", "1"), ("1/2", "1/2"), ("2/4", "2/4"), ("1/20", "1/20")]
        {
            assert_eq!(text.parse::<Share>().map(|share| share.to_string()), Ok(shown.to_owned()), "{text}");
        }
        for text in [
            "",
            "0",
            "2",
            "0.5",
            "50%",
            "1/0",
            "0/2",
            "3/2",
            "1/",
            "/2",
            "1/2/3",
            " 1/2",
            "1 / 2",
            "-1/2",
            "+1/2",
            "½",
            "1001/1001",
            "1/99999999999",
            "one half",
        ] {
            let why = text.parse::<Share>().err().unwrap_or_default();
            assert!(why.contains("1/2") && why.contains("or 1 for the whole"), "{text}: {why}");
        }
        let why = "1/21".parse::<Share>().err().unwrap_or_default();
        assert!(why.contains("at least 1/20"), "{why}");
    }

    #[test]
    fn limits_are_rounded_down_and_a_window_grows_instead_of_holding_no_call() {
        for (text, key, address, pace) in [
            ("1", limit(2, 1_000), 900, limit(15, 1_000)),
            ("3/4", limit(1, 1_000), 675, CallLimit { calls: 11, span: Duration::from_nanos(977_777_778) }),
            ("1/2", limit(1, 1_000), 450, CallLimit { calls: 7, span: Duration::from_nanos(933_333_334) }),
            ("1/3", limit(1, 1_500), 300, limit(5, 1_000)),
            ("1/4", limit(1, 2_000), 225, limit(3, 800)),
            ("1/7", limit(1, 3_500), 128, CallLimit { calls: 2, span: Duration::from_nanos(933_333_334) }),
            ("1/20", limit(1, 10_000), 45, CallLimit { calls: 1, span: Duration::from_nanos(1_333_333_334) }),
        ] {
            let shares = LimitShares::from(share(text));
            let address = CallLimit { calls: address, span: ADDRESS_SPAN };
            assert_eq!(
                (shares.key_limit(), shares.address_limit(), shares.pace()),
                (key, address, pace),
                "{text}"
            );
        }
    }

    #[test]
    fn the_pace_keeps_the_rate_of_the_address() {
        for whole in 1..=20 {
            for part in 1..=whole {
                let shares = LimitShares::from(Share { part, whole });
                let (pace, address) = (shares.pace(), shares.address_limit());
                let difference = pace.calls_per_second() - address.calls_per_second();
                // A part of a call in a minute is rounded down.
                assert!((-1e-6..1.0 / 60.0).contains(&difference), "{part}/{whole}: {pace:?} {address:?}");
            }
        }
    }

    #[test]
    fn a_daemon_and_a_process_beside_it_pass_no_published_limit() {
        let daemon = LimitShares::from(Share::ALL);
        let beside = daemon.for_others();
        assert_eq!(beside.key_limit(), limit(1, 2_000));
        assert!(daemon.key_limit().calls + beside.key_limit().calls <= 3);
        assert!(daemon.address_limit().calls + beside.address_limit().calls <= 1_000);
        let pair = LimitShares::from(share("1/2"));
        let beside = pair.for_others();
        assert!(2 * pair.key_limit().calls + beside.key_limit().calls <= 3);
        assert!(2 * (pair.address_limit().calls + beside.address_limit().calls) <= 1_000);
    }
}
