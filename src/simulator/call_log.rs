//! What the simulated exchange counted: the calls of each account and IP, and when each of them arrived.
//!
//! Only data: nothing here decides anything.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::Serialize;

use super::fault::SimulatedEndpoint;

/// Everything counted since the start.
#[derive(Clone, Debug, Default)]
pub struct CallLog {
    /// By the name of the account whose key the call carried.
    pub accounts: BTreeMap<String, CallCounts>,
    /// By the caller's address, calls with a known key included.
    pub ips: BTreeMap<IpAddr, CallCounts>,
    /// Requests for a path or method that the exchange does not have.
    pub unknown_requests: u64,
    /// The newest arrivals, oldest first, to recheck the limits with; at most 65 536.
    pub records: Vec<CallRecord>,
}

impl CallLog {
    /// Limits passed by anyone, for whatever reason.
    #[must_use]
    pub fn count_breaches(&self) -> u64 {
        let counts = self.accounts.values().chain(self.ips.values());
        counts.map(|counts| counts.breaches).sum()
    }

    /// When the asset calls with this account's key arrived, since the start.
    #[must_use]
    pub fn asset_call_times(&self, account: &str) -> Vec<Duration> {
        self.select_times(|record| record.account.as_deref() == Some(account) && record.endpoint.is_asset())
    }

    /// When the calls of any method from this address arrived, since the start.
    #[must_use]
    pub fn call_times_from(&self, ip: IpAddr) -> Vec<Duration> {
        self.select_times(|record| record.ip == ip)
    }

    fn select_times(&self, wanted: impl Fn(&CallRecord) -> bool) -> Vec<Duration> {
        let records = self.records.iter().filter(|record| wanted(record));
        records.map(|record| record.since_start).collect()
    }
}

/// The calls of one account or one IP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallCounts {
    /// Calls the exchange answered with data.
    pub accepted: u64,
    /// Calls the exchange refused.
    pub refused: BTreeMap<RefusalCause, u64>,
    /// Calls that a fault answered in the exchange's place.
    pub faulted: u64,
    /// Limits passed while not locked.
    pub breaches: u64,
    /// Locks begun.
    pub locks: u64,
    /// How much of a lock is left, in seconds rounded up; none while open.
    pub locked_for_seconds: Option<u64>,
}

impl CallCounts {
    /// Calls refused for this cause.
    #[must_use]
    pub fn count_refused(&self, cause: RefusalCause) -> u64 {
        self.refused.get(&cause).copied().unwrap_or(0)
    }

    /// All calls.
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

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRecord {
    /// Since the start of the simulator.
    pub since_start: Duration,
    /// The caller's address.
    pub ip: IpAddr,
    /// The account whose key the call carried, if the key is known.
    pub account: Option<String>,
    /// What was called.
    pub endpoint: SimulatedEndpoint,
    /// What became of it.
    pub outcome: CallOutcome,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// Answered with data, however slowly or cut short.
    Accepted,
    /// Answered with an error of the exchange.
    Refused(RefusalCause),
    /// A fault answered in the exchange's place.
    Faulted,
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCause {
    /// Parameters missing, malformed, sent twice, or an account that does not exist.
    Parameters,
    /// No such access key, or it was revoked.
    AccessKey,
    /// The key is not activated.
    Inactive,
    /// The caller's address is not on the key's list.
    Ip,
    /// The nonce is not 13 digits or outside the window; with v4 the timestamp.
    Nonce,
    /// A header of v4 is missing or not what it may be.
    Headers,
    /// The nonce is not above the last accepted one.
    Replay,
    /// The signature is missing or wrong.
    Signature,
    /// The key is not allowed to read.
    Permission,
    /// This call passed a limit.
    Limit,
    /// The account or the IP is locked.
    Locked,
}
