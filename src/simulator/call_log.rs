//! The call log of the simulated exchange: counts by account and IP, and a record of each call.
//!
//! Only data. Must not decide anything.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::Serialize;

use super::endpoint::SimulatedEndpoint;

/// Calls since the start.
#[derive(Clone, Debug, Default)]
pub struct CallLog {
    /// Counts by account name, for calls with a known key.
    pub accounts: BTreeMap<String, CallCounts>,
    /// Counts by the caller's address, for all calls.
    pub ips: BTreeMap<IpAddr, CallCounts>,
    /// Number of requests for a path or method that the exchange does not have.
    pub unknown_requests: u64,
    /// The newest calls, oldest first; at most 65 536. Tests check the limits against them.
    pub records: Vec<CallRecord>,
}

impl CallLog {
    /// Number of times that any caller exceeded a limit.
    #[must_use]
    pub fn count_breaches(&self) -> u64 {
        let counts = self.accounts.values().chain(self.ips.values());
        counts.map(|counts| counts.breaches).sum()
    }

    /// Arrival times of the asset calls with this account's key, since the start.
    #[must_use]
    pub fn asset_call_times(&self, account: &str) -> Vec<Duration> {
        self.select_times(|record| {
            record.account.as_deref() == Some(account) && record.endpoint.is_asset_call()
        })
    }

    /// Arrival times of all calls from this address, since the start.
    #[must_use]
    pub fn call_times_from(&self, ip: IpAddr) -> Vec<Duration> {
        self.select_times(|record| record.ip == ip)
    }

    fn select_times(&self, is_wanted: impl Fn(&CallRecord) -> bool) -> Vec<Duration> {
        let records = self.records.iter().filter(|record| is_wanted(record));
        records.map(|record| record.since_start).collect()
    }
}

/// Counts of the calls of one account or one IP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallCounts {
    /// Calls that the exchange answered with data.
    pub accepted: u64,
    /// Calls that the exchange refused, by cause.
    pub refused: BTreeMap<RefusalCause, u64>,
    /// Calls that a fault answered in place of the exchange.
    pub faulted: u64,
    /// Number of exceeded limits, calls during a lock excluded.
    pub breaches: u64,
    /// Number of locks.
    pub locks: u64,
    /// Seconds until the lock ends, rounded up; `None` without a lock.
    pub locked_for_seconds: Option<u64>,
}

impl CallCounts {
    /// Number of calls refused for this cause.
    #[must_use]
    pub fn count_refused(&self, cause: RefusalCause) -> u64 {
        self.refused.get(&cause).copied().unwrap_or(0)
    }

    /// Number of all calls.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.accepted + self.faulted + self.refused.values().sum::<u64>()
    }

    pub(super) fn add(&mut self, outcome: CallOutcome) {
        match outcome {
            CallOutcome::Accepted => self.accepted += 1,
            CallOutcome::Refused(cause) => *self.refused.entry(cause).or_default() += 1,
            CallOutcome::Faulted => self.faulted += 1,
        }
    }
}

/// Record of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRecord {
    /// Arrival time since the start of the simulator.
    pub since_start: Duration,
    /// Address of the caller.
    pub ip: IpAddr,
    /// Account of the call's key, if the key is known.
    pub account: Option<String>,
    /// Called endpoint.
    pub endpoint: SimulatedEndpoint,
    /// Outcome of the call.
    pub outcome: CallOutcome,
}

/// Outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// Answered with data, however slowly or cut short.
    Accepted,
    /// Answered with an error of the exchange.
    Refused(RefusalCause),
    /// Answered by a fault in place of the exchange.
    Faulted,
}

/// Cause of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCause {
    /// A parameter is missing, malformed, repeated, or selects an account that does not exist.
    Parameters,
    /// The access key is unknown or revoked.
    AccessKey,
    /// The key is not activated.
    Inactive,
    /// The caller's address is not on the key's IP whitelist.
    Ip,
    /// The nonce (v4: the timestamp) does not have 13 digits or is outside the window.
    Nonce,
    /// A v4 header is missing or has an invalid value.
    Headers,
    /// The nonce is not above the last accepted one.
    Replay,
    /// The signature is missing or wrong.
    Signature,
    /// The key is not allowed to read.
    Permission,
    /// This call exceeded a limit.
    Limit,
    /// The account or the IP is locked.
    Locked,
}
