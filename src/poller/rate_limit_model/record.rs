//! The outputs of a simulation: every call with its result. Plain data, which `checker` judges.

use std::{sync::Arc, time::Duration};

/// One call, as the exchange sees it. Prices are read as if for one more account, without a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RecordedCall {
    /// The number of starts of processes before the process of this call.
    pub process: usize,
    pub account: usize,
    pub key: usize,
    /// The address at which the exchange sees it.
    pub address: usize,
    /// The address that it leaves by, as the configuration writes it. A lent call counts there too.
    pub configured_address: Arc<str>,
    /// Whether a second reader makes it, with a permit of the process.
    pub is_lent: bool,
    pub host: String,
    pub path: String,
    /// The path and the parameters that choose the wallet; `None` for the clock, for positions and for prices.
    pub wallet: Option<String>,
    /// `None` for the clock and for prices.
    pub nonce: Option<u64>,
    pub timeout: Duration,
    pub start: Duration,
    pub end: Duration,
    /// Whether it read a wallet or prices.
    pub good: bool,
}

/// An event of a call, which is identified by its index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Event {
    Start(usize),
    End(usize, CallResult),
}

/// The meaning of the exchange's reply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CallResult {
    Good,
    /// A limit reply, with its `Retry-After`.
    Limit(Option<Duration>),
    /// The key or its signature was refused.
    Refused,
    /// The nonce was outside the window.
    Nonce,
    Other,
}

/// Everything that happened in a simulation. Times count from its start, and include the time of suspends.
#[derive(Debug)]
pub(super) struct Record {
    pub calls: Vec<RecordedCall>,
    pub log: Vec<(Duration, Event)>,
    /// Sentences of `/-/healthy` about pollers that were not stuck.
    pub false_alarms: Vec<String>,
    /// Start and end of the period in which every account must be read regularly.
    pub recovered: (Duration, Duration),
    /// The processes that run in that period.
    pub last_processes: Vec<usize>,
    /// The end of the fault period.
    pub faults_until: Duration,
    /// How long the timers ran; the time of suspends does not count.
    pub driven: Duration,
    /// The time between two polls of each account's wallets.
    pub slots: Vec<Duration>,
    /// The part of its share of the rate limits that the polls of a process use: 1 is all of it.
    pub load: f64,
    /// Polls per second of all accounts of a process together.
    pub rate: f64,
}
