//! The inputs of a simulation: accounts, hosts, faults and disruptions. Plain data; runs nothing.

use std::{collections::HashMap, time::Duration};

use fastrand::Rng;

use super::egress::{ADDRESSES_MAX, ModelEgress};

/// The key of calls without a key.
pub(super) const NO_KEY: usize = usize::MAX;

/// The inputs of one simulation.
#[allow(clippy::struct_excessive_bools, reason = "each of them is drawn on its own")]
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub accounts: usize,
    /// The shortest interval, in milliseconds.
    pub interval: u64,
    /// Whether accounts have intervals of their own, up to four times the shortest.
    pub varied: bool,
    /// The most wallets of an account; all have as many unless `varied`.
    pub wallets: usize,
    pub hosts: usize,
    /// Number of accounts that share a key.
    pub sharing: usize,
    /// The timeout of a poll, in thousandths of its interval.
    pub timeout: u64,
    /// Whether to keep a load that the configuration would reject.
    pub over_limit: bool,
    /// Whether the accounts use v4 and watch two currencies that its list leaves out, instead of v1.
    pub is_v4: bool,
    /// Whether the open positions of futures are read too. Only v4 has them.
    pub reads_positions: bool,
    /// Whether prices are read too, every shortest interval, and once an hour the list of markets.
    pub reads_prices: bool,
    /// Number of processes that poll the same accounts at the same time, each with its share of the limits.
    pub processes: u32,
    /// Number of addresses, each with an egress group; with one address the file has no groups.
    pub addresses: usize,
    /// Whether a second reader calls the exchange with permits of the process.
    pub has_second_reader: bool,
    pub faults: FaultRates,
    /// The disruptions of the processes, in turn, each with its time in thousandths of the fault period.
    pub disruptions: Vec<(u64, Disruption)>,
    pub seed: u64,
}

/// How often each fault occurs during the fault period, in thousandths of all calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FaultRates {
    pub unreachable: u32,
    pub hanging: u32,
    pub unavailable: u32,
    pub limited: u32,
    pub refused: u32,
    pub nonce: u32,
    pub empty: u32,
    pub garbage: u32,
    /// The longest latency, in thousandths of the call's timeout. Some calls take exactly their timeout.
    pub latency: u64,
    /// The permanent fault of each host.
    pub hosts: [HostFault; 3],
}

impl FaultRates {
    /// Whether there is no fault.
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum HostFault {
    #[default]
    None,
    Unreachable,
    Hanging,
    /// Every call takes almost its whole timeout.
    Slow,
    /// The host does not answer calls for its time.
    NoServerTime,
    /// The host answers a time that is wrong by this many seconds, and refuses nonces by its correct clock.
    WrongServerTime(i64),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Disruption {
    /// The process is killed, and starts again after this many milliseconds.
    Restart(u64),
    /// The machine is suspended for this many seconds.
    Suspend(u64),
    /// Another configuration is loaded, drawn from this seed.
    Reload(u64),
}

/// The settings of an account or, with [`NO_KEY`], of prices.
#[derive(Clone, Debug)]
pub(super) struct ModelAccount {
    pub index: usize,
    /// Whether it uses v4, see [`Scenario::is_v4`].
    pub is_v4: bool,
    /// Whether a currency is watched.
    pub has_watch: bool,
    /// Whether the positions of its futures wallets are read.
    pub reads_positions: bool,
    pub interval: Duration,
    pub timeout: Duration,
    pub wallets: usize,
    pub key: usize,
    pub egress: Option<ModelEgress>,
}

impl ModelAccount {
    /// The time between two polls of the account's wallets.
    pub(super) fn slot(&self) -> Duration {
        self.interval / u32::try_from(self.wallets).unwrap_or(1)
    }

    /// Calls of one poll, on average over the wallets, at most. With v4 a poll of spot reads the list, the hidden currency
    /// and at first the missing one. A poll of futures reads the balances and, if they are on, the positions.
    fn calls_per_poll(&self) -> f64 {
        if self.key == NO_KEY || !self.is_v4 {
            return 1.0;
        }
        let wallets = f64::from(u32::try_from(self.wallets).unwrap_or(1));
        let futures_calls = if self.reads_positions { 2.0 } else { 1.0 };
        (3.0 + (wallets - 1.0) * futures_calls) / wallets
    }

    fn calls_per_second(&self) -> f64 {
        self.calls_per_poll() / self.slot().as_secs_f64()
    }
}

impl Scenario {
    /// The accounts, and prices if they are read. Intervals are stretched to the rate limits, unless `over_limit`.
    pub(super) fn create_accounts(&self, rng: &mut Rng) -> Vec<ModelAccount> {
        let create = |index: usize, rng: &mut Rng| {
            let factor = if self.varied { rng.u64(100..=400) } else { 100 };
            let interval = self.interval * factor / 100;
            ModelAccount {
                index,
                is_v4: self.is_v4,
                has_watch: false,
                reads_positions: self.reads_positions,
                interval: Duration::from_millis(interval),
                timeout: Duration::ZERO,
                wallets: if self.varied { rng.usize(1..=self.wallets) } else { self.wallets },
                key: index / self.sharing,
                egress: ModelEgress::initial(index / self.sharing, self.addresses),
            }
        };
        let mut accounts: Vec<_> = (0..self.accounts).map(|index| create(index, rng)).collect();
        accounts.extend(self.reads_prices.then(|| ModelAccount {
            index: self.accounts,
            is_v4: self.is_v4,
            has_watch: false,
            reads_positions: false,
            interval: Duration::from_millis(self.interval),
            timeout: Duration::ZERO,
            wallets: 1,
            key: NO_KEY,
            egress: None,
        }));
        if !self.over_limit {
            let share = 1.0 / f64::from(self.processes);
            let stretch = (find_busiest_address_rate(&accounts) / 15.0)
                .max(find_busiest_key_rate(&accounts) / 2.0)
                / share;
            if stretch > 1.0 {
                for account in &mut accounts {
                    account.interval = account.interval.mul_f64(stretch);
                }
            }
        }
        for account in &mut accounts {
            let timeout = account.interval * u32::try_from(self.timeout).unwrap_or(1) / 1_000;
            account.timeout = timeout.max(Duration::from_millis(1));
        }
        accounts
    }
}

/// Calls per second of all accounts together, at most.
pub(super) fn sum_rates(accounts: &[ModelAccount]) -> f64 {
    accounts.iter().map(ModelAccount::calls_per_second).sum()
}

/// Calls per second of the key that makes the most.
pub(super) fn find_busiest_key_rate(accounts: &[ModelAccount]) -> f64 {
    accounts.chunk_by(|a, b| a.key == b.key).map(sum_rates).max_by(f64::total_cmp).unwrap_or(0.0)
}

/// Calls per second of the address that makes the most.
pub(super) fn find_busiest_address_rate(accounts: &[ModelAccount]) -> f64 {
    let mut rates = HashMap::<_, f64>::new();
    for account in accounts {
        *rates.entry(account.egress).or_default() += account.calls_per_second();
    }
    rates.into_values().max_by(f64::total_cmp).unwrap_or(0.0)
}

/// Draws another configuration: some accounts are removed, some get a watched currency or lose
/// their positions, some are polled less often, and the egress groups change.
pub(super) fn change_accounts(accounts: &[ModelAccount], seed: u64) -> Vec<ModelAccount> {
    let mut rng = Rng::with_seed(seed);
    let mut change = |account: &ModelAccount| match rng.u8(0..8) {
        0..2 => None,
        2..4 => Some(ModelAccount { has_watch: true, reads_positions: false, ..account.clone() }),
        4 => Some(ModelAccount { interval: account.interval * 2, ..account.clone() }),
        5 => Some(ModelAccount { wallets: 1, ..account.clone() }),
        _ => Some(account.clone()),
    };
    let mut changed: Vec<_> = accounts.iter().filter_map(&mut change).collect();
    // A configuration has at least one account.
    if changed.iter().all(|account| account.key == NO_KEY) {
        changed = accounts.to_vec();
    }
    change_egress(&mut changed, &mut rng);
    changed
}

/// Draws other groups for `accounts`, whose file has at least two groups.
fn change_egress(accounts: &mut [ModelAccount], rng: &mut Rng) {
    let mut groups: Vec<_> = accounts.iter().filter_map(|account| account.egress).collect();
    groups.sort_unstable();
    groups.dedup();
    let Some(drawn) = rng.choice(&groups).copied() else { return };
    let next = groups.iter().cycle().skip_while(|group| **group != drawn).nth(1).copied().unwrap_or(drawn);
    let (kind, moved) = (rng.u8(0..6), rng.usize(0..2));
    for account in accounts.iter_mut().filter(|account| account.key != NO_KEY) {
        let Some(egress) = account.egress else { continue };
        account.egress = match kind {
            // Some accounts move to another group, all with the same key together.
            0 if account.key % 2 == moved => Some(drawn),
            // A group gets another name.
            1 if egress == drawn => Some(ModelEgress { name: egress.name + ADDRESSES_MAX, ..egress }),
            // Two groups exchange their addresses.
            2 if egress == drawn => Some(ModelEgress { configured: next.configured, ..egress }),
            2 if egress == next => Some(ModelEgress { configured: drawn.configured, ..egress }),
            // A group is removed.
            3 if egress == drawn => Some(next),
            // A group leaves by another proxy of the same machine.
            4 if egress == drawn => {
                Some(ModelEgress { configured: egress.configured + ADDRESSES_MAX, ..egress })
            }
            // The file has no groups any more.
            5 => None,
            _ => Some(egress),
        };
    }
}
