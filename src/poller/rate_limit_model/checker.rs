//! What the exchange would have seen: every call with its start and its end, and an opinion on
//! them that shares no code with the guard it judges.

use std::{collections::HashMap, time::Duration};

use super::model::{CallResult, Event, NO_KEY, RecordedCall};
use crate::clock::UnixTime;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// Promised: calls of a key in any second, wherever between start and end each is counted, and
/// whichever life of the process made it.
const KEY_CALLS_MAX: usize = 2;
/// Promised: calls of one life of the process in any minute, counted in the same way.
const PROCESS_CALLS_MAX: usize = 900;
/// Promised: calls of the process sent in any second, over all its lives.
const SECOND_CALLS_MAX: usize = 15;
/// Promised: calls of the process sent in any minute, however often it is restarted.
const ADDRESS_CALLS_MAX: usize = 900;
const PAUSE: Duration = Duration::from_mins(10);
const PAUSE_MAX: Duration = Duration::from_hours(24);
const AUTH: Duration = Duration::from_mins(5);

/// The most intervals that one closed window of length `span` can touch. A window that touches the
/// most can be moved until it ends at a start; it then touches all that have started by then but
/// those that ended before it began.
pub(super) fn max_concurrent(intervals: impl Iterator<Item = (Duration, Duration)>, span: Duration) -> usize {
    let (mut starts, mut ends): (Vec<_>, Vec<_>) = intervals.unzip();
    starts.sort_unstable();
    ends.sort_unstable();
    let mut gone = 0;
    let touched = |(started, start): (usize, &Duration)| {
        while ends.get(gone).is_some_and(|end| *end + span < *start) {
            gone += 1;
        }
        started + 1 - gone
    };
    starts.iter().enumerate().map(touched).max().unwrap_or(0)
}

/// The first promise that was broken, if any.
pub(super) fn check_record(calls: &[RecordedCall], log: &[(Duration, Event)]) -> Result<(), String> {
    rates(calls)?;
    let mut lives: HashMap<usize, ProcessHistory> = HashMap::new();
    for (at, event) in log {
        let (Event::Start(id) | Event::End(id, _)) = *event;
        let call = &calls[id];
        let life = lives.entry(call.life).or_default();
        let broken = match event {
            Event::Start(_) => life.start(*at, call),
            Event::End(_, verdict) => {
                life.end(*at, call, *verdict);
                None
            }
        };
        if let Some(broken) = broken {
            return Err(format!("{broken}: call {id} {call:?}"));
        }
    }
    Ok(())
}

fn rates(calls: &[RecordedCall]) -> Result<(), String> {
    let within = |what: &str, count: usize, limit: usize| {
        (count <= limit).then_some(()).ok_or_else(|| format!("{count} calls of {what}, {limit} promised"))
    };
    let whole = |call: &RecordedCall| (call.start, call.end);
    let sent = |call: &RecordedCall| (call.start, call.start);
    let mut keys: HashMap<usize, Vec<_>> = HashMap::new();
    let mut lives: HashMap<usize, Vec<_>> = HashMap::new();
    for call in calls {
        if call.key != NO_KEY {
            keys.entry(call.key).or_default().push(whole(call));
        }
        lives.entry(call.life).or_default().push(whole(call));
    }
    for (key, calls) in keys {
        within(&format!("key {key} in a second"), max_concurrent(calls.into_iter(), SECOND), KEY_CALLS_MAX)?;
    }
    for (life, calls) in lives {
        within(
            &format!("life {life} in a minute"),
            max_concurrent(calls.into_iter(), MINUTE),
            PROCESS_CALLS_MAX,
        )?;
    }
    within("the process in a second", max_concurrent(calls.iter().map(sent), SECOND), SECOND_CALLS_MAX)?;
    within("all lives in a minute", max_concurrent(calls.iter().map(sent), MINUTE), ADDRESS_CALLS_MAX)
}

/// What one life of the process must remember.
#[derive(Default)]
struct ProcessHistory {
    accounts_in_flight: HashMap<usize, usize>,
    keys_in_flight: HashMap<usize, usize>,
    /// The last nonce of a key at a host that the host may accept; none once a host has told its time since.
    nonces: HashMap<(usize, String), u64>,
    limited: HashMap<usize, Duration>,
    keys_paused: HashMap<usize, Duration>,
    all_paused: Duration,
    /// Of each key and wallet, the last try.
    tried: HashMap<usize, HashMap<String, KeyAttempt>>,
}

/// A call with a key for a wallet that was answered.
#[derive(Clone, Copy)]
struct KeyAttempt {
    worked: bool,
    /// The exchange's time that its nonce stood for.
    exchange_time: UnixTime,
    start: Duration,
    end: Duration,
}

impl ProcessHistory {
    fn start(&mut self, at: Duration, call: &RecordedCall) -> Option<&'static str> {
        let before = |until: Option<&Duration>| until.is_some_and(|until| at < *until);
        let accounts = self.accounts_in_flight.entry(call.account).or_default();
        let keys = self.keys_in_flight.entry(call.key).or_default();
        *accounts += 1;
        *keys += 1;
        let last = call.nonce.and_then(|nonce| self.nonces.insert((call.key, call.host.clone()), nonce));
        let old = last >= call.nonce && last.is_some();
        match () {
            () if *accounts > 1 => Some("two calls of an account in flight"),
            () if *keys > 1 => Some("two calls of a key in flight"),
            () if old => Some("a nonce that has not grown"),
            () if before(self.keys_paused.get(&call.key)) => Some("a call during the key's pause"),
            () if at < self.all_paused => Some("a call while all are paused"),
            () if self.is_refused(at, call) => Some("a call within five minutes of a refused key"),
            () if call.timeout.is_zero() => Some("a call without any time to be answered in"),
            () => None,
        }
    }

    /// Whether the key has been refused in the last five minutes: everywhere, so that nothing may be
    /// asked with it, or for the wallet of this call. A call that goes by another clock than the refused one may be
    /// made: its nonce is what was wrong.
    fn is_refused(&self, at: Duration, call: &RecordedCall) -> bool {
        let (Some(tried), Some(wallet), Some(nonce)) = (self.tried.get(&call.key), &call.wallet, call.nonce)
        else {
            return false;
        };
        let nonce = UnixTime::from_millis(nonce);
        let recent = |last: &KeyAttempt| {
            let is_same_clock =
                (last.exchange_time + at.saturating_sub(last.start)).abs_diff(nonce) <= SECOND;
            !last.worked && at < last.end + AUTH && is_same_clock
        };
        if tried.values().all(|last| !last.worked) {
            tried.values().any(recent)
        } else {
            tried.get(wallet).is_some_and(recent)
        }
    }

    fn end(&mut self, at: Duration, call: &RecordedCall, verdict: CallResult) {
        match (call.nonce, verdict) {
            (Some(_), CallResult::Nonce | CallResult::Refused) => {
                self.nonces.remove(&(call.key, call.host.clone()));
            }
            // A clock that was corrected is followed down, also by hosts whose own was never read.
            (None, CallResult::Good) if call.key != NO_KEY => self.nonces.clear(),
            _ => {}
        }
        *self.accounts_in_flight.entry(call.account).or_default() -= 1;
        *self.keys_in_flight.entry(call.key).or_default() -= 1;
        match verdict {
            CallResult::Limit(retry_after) => {
                let until = at + retry_after.unwrap_or_default().max(PAUSE).min(PAUSE_MAX);
                let mut others = self.limited.iter().filter(|(account, _)| **account != call.account);
                if others.any(|(_, replied)| at <= *replied + MINUTE) {
                    self.all_paused = self.all_paused.max(until);
                }
                self.limited.insert(call.account, at);
                let key = self.keys_paused.entry(call.key).or_default();
                *key = until.max(*key);
            }
            CallResult::Good | CallResult::Refused => {
                if let (Some(wallet), Some(nonce)) = (&call.wallet, call.nonce) {
                    let (worked, exchange_time) = (verdict == CallResult::Good, UnixTime::from_millis(nonce));
                    let last = KeyAttempt { worked, exchange_time, start: call.start, end: at };
                    self.tried.entry(call.key).or_default().insert(wallet.clone(), last);
                }
            }
            CallResult::Nonce | CallResult::Other => {}
        }
    }
}
