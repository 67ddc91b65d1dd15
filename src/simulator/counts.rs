//! What the simulated exchange counted: the calls of each account and IP, and when each of them arrived.
//!
//! Only data: nothing here decides anything.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::Serialize;

use super::fault::Endpoint;

/// Everything counted since the start.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    /// By the name of the account whose key the call carried.
    pub accounts: BTreeMap<String, Counts>,
    /// By the caller's address, calls with a known key included.
    pub ips: BTreeMap<IpAddr, Counts>,
    /// Requests for a path or method that the exchange does not have.
    pub strays: u64,
    /// The newest arrivals, oldest first, to recheck the limits with; at most 65 536.
    pub arrivals: Vec<Arrival>,
}

impl Calls {
    /// Limits passed by anyone, for whatever reason.
    #[must_use]
    pub fn breaches(&self) -> u64 {
        let counts = self.accounts.values().chain(self.ips.values());
        counts.map(|counts| counts.breaches).sum()
    }

    /// When the asset calls with this account's key arrived, since the start.
    #[must_use]
    pub fn asset_calls_of(&self, account: &str) -> Vec<Duration> {
        self.times(|arrival| arrival.account.as_deref() == Some(account) && arrival.endpoint.is_asset())
    }

    /// When the calls of any method from this address arrived, since the start.
    #[must_use]
    pub fn calls_from(&self, ip: IpAddr) -> Vec<Duration> {
        self.times(|arrival| arrival.ip == ip)
    }

    fn times(&self, wanted: impl Fn(&Arrival) -> bool) -> Vec<Duration> {
        let arrivals = self.arrivals.iter().filter(|arrival| wanted(arrival));
        arrivals.map(|arrival| arrival.at).collect()
    }
}

/// The calls of one account or one IP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls the exchange answered with data.
    pub accepted: u64,
    /// Calls the exchange refused.
    pub refused: BTreeMap<Cause, u64>,
    /// Calls that a fault answered in the exchange's place.
    pub faulted: u64,
    /// Limits passed while not locked.
    pub breaches: u64,
    /// Locks begun.
    pub locks: u64,
    /// How much of a lock is left, in seconds rounded up; none while open.
    pub locked_for_seconds: Option<u64>,
}

impl Counts {
    /// Calls refused for this cause.
    #[must_use]
    pub fn refused_for(&self, cause: Cause) -> u64 {
        self.refused.get(&cause).copied().unwrap_or(0)
    }

    /// All calls.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.accepted + self.faulted + self.refused.values().sum::<u64>()
    }

    pub(super) fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Accepted => self.accepted += 1,
            Outcome::Refused(cause) => *self.refused.entry(cause).or_default() += 1,
            Outcome::Faulted => self.faulted += 1,
        }
    }
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Since the start of the simulator.
    pub at: Duration,
    /// The caller's address.
    pub ip: IpAddr,
    /// The account whose key the call carried, if the key is known.
    pub account: Option<String>,
    /// What was called.
    pub endpoint: Endpoint,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered with data, however slowly or cut short.
    Accepted,
    /// Answered with an error of the exchange.
    Refused(Cause),
    /// A fault answered in the exchange's place.
    Faulted,
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
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
