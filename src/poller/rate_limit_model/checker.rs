//! Checks the record of a simulation against the promised limits. Shares no code with the rate limiter that it judges.

use std::{collections::HashMap, hash::Hash, time::Duration};

use super::{
    record::{CallResult, Event, RecordedCall},
    scenario::NO_KEY,
};
use crate::clock::UnixTime;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// The exchange's limit of a key in any second. Each call may count at any time between its start and end.
const PUBLISHED_KEY_CALLS_MAX: usize = 3;
/// The exchange's limit of an address in any minute.
const PUBLISHED_ADDRESS_CALLS_MAX: usize = 1000;
/// The limit of a key in any second, over all restarts. Each call may count at any time between its start and end.
const KEY_CALLS_MAX: usize = 2;
/// The limit of an address of one process in any minute, counted in the same way.
const PROCESS_CALLS_MAX: usize = 900;
/// The limit of calls that an address sends in any second, over all restarts.
const SECOND_CALLS_MAX: usize = 15;
/// The limit of calls that an address sends in any minute, over all restarts.
const ADDRESS_CALLS_MAX: usize = 900;
const PAUSE: Duration = Duration::from_mins(10);
const PAUSE_MAX: Duration = Duration::from_hours(24);
/// The time after a refused key in which it is not tried again.
const AUTH_BACKOFF: Duration = Duration::from_mins(5);

/// The largest number of intervals that a closed window of length `span` can touch. A window that touches the most can
/// be moved until it ends at a start. It then touches every interval that has started, except those that ended before
/// the window.
pub(super) fn count_max_in_window(
    intervals: impl Iterator<Item = (Duration, Duration)>,
    span: Duration,
) -> usize {
    let (mut starts, mut ends): (Vec<_>, Vec<_>) = intervals.unzip();
    starts.sort_unstable();
    ends.sort_unstable();
    let mut passed = 0;
    let count_touched = |(started, start): (usize, &Duration)| {
        while ends.get(passed).is_some_and(|end| *end + span < *start) {
            passed += 1;
        }
        started + 1 - passed
    };
    starts.iter().enumerate().map(count_touched).max().unwrap_or(0)
}

/// Checks every call. The limits of one process are stricter than the exchange's, and several `processes` at the same time
/// keep the exchange's.
///
/// # Errors
/// The first violation.
pub(super) fn check_record(
    calls: &[RecordedCall],
    log: &[(Duration, Event)],
    processes: u32,
) -> Result<(), String> {
    check_published_limits(calls)?;
    if processes == 1 {
        check_rates(calls)?;
    }
    let mut processes: HashMap<usize, ProcessHistory> = HashMap::new();
    for (at, event) in log {
        let (Event::Start(id) | Event::End(id, _)) = *event;
        let call = &calls[id];
        let process = processes.entry(call.process).or_default();
        let violation = match event {
            Event::Start(_) => process.record_start(*at, call),
            Event::End(_, result) => {
                process.record_end(*at, call, *result);
                None
            }
        };
        if let Some(violation) = violation {
            return Err(format!("{violation}: call {id} {call:?}"));
        }
    }
    Ok(())
}

/// Checks the limits that the exchange publishes, and nothing else.
fn check_published_limits(calls: &[RecordedCall]) -> Result<(), String> {
    check_keys(calls.iter(), PUBLISHED_KEY_CALLS_MAX)?;
    for (address, calls) in group_by(calls.iter(), |call| call.address) {
        let count = count_max_in_window(calls.into_iter().map(sent), MINUTE);
        check(&format!("address {address} in a minute"), count, PUBLISHED_ADDRESS_CALLS_MAX)?;
    }
    // A killed process and its successor together are counted by the time of sending only.
    for ((process, address), calls) in group_by(calls.iter(), |call| (call.process, call.address)) {
        let count = count_max_in_window(calls.into_iter().map(whole), MINUTE);
        let what = format!("process {process} by address {address} in a minute");
        check(&what, count, PUBLISHED_ADDRESS_CALLS_MAX)?;
    }
    Ok(())
}

fn check_keys<'a>(calls: impl Iterator<Item = &'a RecordedCall>, limit: usize) -> Result<(), String> {
    for (key, calls) in group_by(calls.filter(|call| call.key != NO_KEY), |call| call.key) {
        let count = count_max_in_window(calls.into_iter().map(whole), SECOND);
        check(&format!("key {key} in a second"), count, limit)?;
    }
    Ok(())
}

fn group_by<'a, K: Eq + Hash>(
    calls: impl Iterator<Item = &'a RecordedCall>,
    find_group: impl Fn(&'a RecordedCall) -> K,
) -> HashMap<K, Vec<&'a RecordedCall>> {
    let mut groups: HashMap<K, Vec<_>> = HashMap::new();
    for call in calls {
        groups.entry(find_group(call)).or_default().push(call);
    }
    groups
}

fn check(what: &str, count: usize, limit: usize) -> Result<(), String> {
    (count <= limit).then_some(()).ok_or_else(|| format!("{count} calls of {what}, {limit} promised"))
}

/// The times at which a call may count.
fn whole(call: &RecordedCall) -> (Duration, Duration) {
    (call.start, call.end)
}

fn sent(call: &RecordedCall) -> (Duration, Duration) {
    (call.start, call.start)
}

/// Checks the stricter limits of a process. Second readers have a share of their own of each key.
fn check_rates(calls: &[RecordedCall]) -> Result<(), String> {
    check_keys(calls.iter().filter(|call| !call.is_lent), KEY_CALLS_MAX)?;
    for (address, calls) in group_by(calls.iter(), |call| &*call.configured_address) {
        let sent = || calls.iter().map(|call| sent(call));
        let in_second = count_max_in_window(sent(), SECOND);
        check(&format!("{address} in a second"), in_second, SECOND_CALLS_MAX)?;
        let in_minute = count_max_in_window(sent(), MINUTE);
        check(&format!("{address} in a minute"), in_minute, ADDRESS_CALLS_MAX)?;
        for (process, calls) in group_by(calls.into_iter(), |call| call.process) {
            let count = count_max_in_window(calls.into_iter().map(whole), MINUTE);
            check(&format!("process {process} by {address} in a minute"), count, PROCESS_CALLS_MAX)?;
        }
    }
    Ok(())
}

/// The calls of one process, as far as the limits depend on them.
#[derive(Default)]
struct ProcessHistory {
    accounts_in_flight: HashMap<usize, usize>,
    keys_in_flight: HashMap<usize, usize>,
    /// The last nonce of each key at each host. Removed when the host refused it or a host answered its time.
    nonces: HashMap<(usize, String), u64>,
    /// The time and the address of the last limit reply to each account.
    limited: HashMap<usize, (Duration, usize)>,
    keys_paused: HashMap<usize, Duration>,
    addresses_paused: HashMap<usize, Duration>,
    /// The last call of each key and wallet.
    attempts: HashMap<usize, HashMap<String, KeyAttempt>>,
}

/// An answered call that reads a wallet.
#[derive(Clone, Copy)]
struct KeyAttempt {
    worked: bool,
    /// The exchange's time, according to the nonce.
    exchange_time: UnixTime,
    start: Duration,
    end: Duration,
}

impl ProcessHistory {
    fn record_start(&mut self, at: Duration, call: &RecordedCall) -> Option<&'static str> {
        let is_before = |until: Option<&Duration>| until.is_some_and(|until| at < *until);
        let is_paused =
            is_before(self.keys_paused.get(&call.key)) || is_before(self.addresses_paused.get(&call.address));
        if call.is_lent {
            return is_paused.then_some("a lent call during a pause");
        }
        let accounts = self.accounts_in_flight.entry(call.account).or_default();
        let keys = self.keys_in_flight.entry(call.key).or_default();
        *accounts += 1;
        *keys += 1;
        let last = call.nonce.and_then(|nonce| self.nonces.insert((call.key, call.host.clone()), nonce));
        let is_old = last >= call.nonce && last.is_some();
        match () {
            () if *accounts > 1 => Some("two calls of an account in flight"),
            () if *keys > 1 => Some("two calls of a key in flight"),
            () if is_old => Some("a nonce that has not grown"),
            () if is_before(self.keys_paused.get(&call.key)) => Some("a call during the key's pause"),
            () if is_before(self.addresses_paused.get(&call.address)) => {
                Some("a call during the address's pause")
            }
            () if self.is_refused(at, call) => Some("a call within five minutes of a refused key"),
            () if call.timeout.is_zero() => Some("a call with a timeout of zero"),
            () => None,
        }
    }

    /// Whether the key was refused in the last five minutes, for every wallet or for the wallet of this call. A call
    /// with another reading of the clock is allowed, because the nonce may have been the reason.
    fn is_refused(&self, at: Duration, call: &RecordedCall) -> bool {
        let (Some(attempts), Some(wallet), Some(nonce)) =
            (self.attempts.get(&call.key), &call.wallet, call.nonce)
        else {
            return false;
        };
        let nonce = UnixTime::from_millis(nonce);
        let is_recent = |last: &KeyAttempt| {
            let is_same_clock =
                (last.exchange_time + at.saturating_sub(last.start)).abs_diff(nonce) <= SECOND;
            !last.worked && at < last.end + AUTH_BACKOFF && is_same_clock
        };
        if attempts.values().all(|last| !last.worked) {
            attempts.values().any(is_recent)
        } else {
            attempts.get(wallet).is_some_and(is_recent)
        }
    }

    fn record_end(&mut self, at: Duration, call: &RecordedCall, result: CallResult) {
        if call.is_lent {
            return;
        }
        match (call.nonce, result) {
            (Some(_), CallResult::Nonce | CallResult::Refused) => {
                self.nonces.remove(&(call.key, call.host.clone()));
            }
            // After a reading of a corrected clock, nonces may be lower, also for hosts without a reading.
            (None, CallResult::Good) if call.key != NO_KEY => self.nonces.clear(),
            _ => {}
        }
        *self.accounts_in_flight.entry(call.account).or_default() -= 1;
        *self.keys_in_flight.entry(call.key).or_default() -= 1;
        match result {
            CallResult::Limit(retry_after) => {
                let until = at + retry_after.unwrap_or_default().max(PAUSE).min(PAUSE_MAX);
                let mut others = self.limited.iter().filter(|(account, _)| **account != call.account);
                if others.any(|(_, (replied, address))| *address == call.address && at <= *replied + MINUTE) {
                    let paused = self.addresses_paused.entry(call.address).or_default();
                    *paused = until.max(*paused);
                }
                self.limited.insert(call.account, (at, call.address));
                let key = self.keys_paused.entry(call.key).or_default();
                *key = until.max(*key);
            }
            CallResult::Good | CallResult::Refused => {
                if let (Some(wallet), Some(nonce)) = (&call.wallet, call.nonce) {
                    let (worked, exchange_time) = (result == CallResult::Good, UnixTime::from_millis(nonce));
                    let last = KeyAttempt { worked, exchange_time, start: call.start, end: at };
                    self.attempts.entry(call.key).or_default().insert(wallet.clone(), last);
                }
            }
            CallResult::Nonce | CallResult::Other => {}
        }
    }
}
