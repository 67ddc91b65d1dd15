//! The calls that a configuration makes, compared with the exchange's limits: of each address and of each key.

use std::collections::{BTreeMap, HashMap};

use super::{AccountConfig, Config, ConfigError};
use crate::{
    exchange::{
        DEFAULT_EGRESS, KeyId, LimitShares, MARKET_LIST_RETRY_INTERVAL, SINGLE_READ_INTERVAL, Share, Wallet,
    },
    shard::Shard,
    snapshot::wallet::WatchedCurrency,
};

/// The part of the rate limits that the process takes, and the setting that it was read from.
#[derive(Clone, Copy)]
pub(super) struct ConfiguredShare {
    pub share: Share,
    pub setting: &'static str,
}

/// The calls that leave by one address.
#[derive(Default)]
struct AddressLoad {
    accounts: usize,
    per_second: f64,
}

/// Rejects more calls than the process may make from one address or with one key.
pub(super) fn check_limits(config: &Config, taken: ConfiguredShare) -> Result<(), ConfigError> {
    check_address_limits(config, taken)?;
    check_key_limits(config, taken)
}

/// Calls that the polls of an account make in a second. Positions take a call of their own. Every watched currency that the list
/// of v4 spot leaves out costs one more call an hour, and all of them may be missing.
fn calls_per_second(account: &AccountConfig) -> f64 {
    let is_single = |(wallet, _): &&(Wallet, WatchedCurrency)| account.hosts.api.has_single_reads(*wallet);
    let singles = to_f64(account.watch.iter().filter(is_single).count());
    let calls = account.wallets.len() + account.position_wallets().count();
    to_f64(calls) / account.poll_interval.as_secs_f64() + singles / SINGLE_READ_INTERVAL.as_secs_f64()
}

/// Rejects more calls than the process may make from the IP address of one egress group. Prices leave by the default group.
fn check_address_limits(config: &Config, taken: ConfiguredShare) -> Result<(), ConfigError> {
    let price_calls = config.prices.iter().map(|prices| {
        1.0 / prices.poll_interval.as_secs_f64() + 1.0 / MARKET_LIST_RETRY_INTERVAL.as_secs_f64()
    });
    let mut loads =
        BTreeMap::from([(DEFAULT_EGRESS, AddressLoad { accounts: 0, per_second: price_calls.sum() })]);
    for account in &config.accounts {
        let group = account.hosts.egress().map_or(DEFAULT_EGRESS, |egress| &egress.name);
        let load = loads.entry(group).or_default();
        load.accounts += 1;
        load.per_second += calls_per_second(account);
    }
    let limit = LimitShares::from(taken.share).address_limit().calls_per_second() * 60.0;
    let Some((group, load)) = loads.iter().find(|(_, load)| load.per_second * 60.0 > limit + 1e-6) else {
        return Ok(());
    };
    let is_default = *group == DEFAULT_EGRESS;
    Err(ConfigError(format!(
        "{}{} accounts{} make {:.0} calls per minute, but {} for one IP address is {limit:.0}: {}{}",
        if is_default { String::new() } else { format!("egress '{group}': ") },
        load.accounts,
        if config.prices.is_some() && is_default { " and prices" } else { "" },
        (load.per_second * 60.0 - 1e-6).ceil(),
        taken.describe_limit(),
        if is_default { "" } else { "move accounts to another group, " },
        taken.describe_remedy(config, Some("divide the accounts with egress groups or --shard")),
    )))
}

/// Rejects a key of accounts in different shards, because each of their processes would use the whole limit of the key, and
/// in different egress groups, because a key is sent from one address only.
pub(super) fn check_divided_keys(accounts: &[AccountConfig], shard: Shard) -> Result<(), ConfigError> {
    let mut keys: HashMap<KeyId, &AccountConfig> = HashMap::new();
    for account in accounts {
        let first = keys.entry(account.credentials.pair().id()).or_insert(account);
        if shard.find(&first.name) != shard.find(&account.name) {
            return Err(ConfigError(format!(
                "accounts '{}' and '{}' have the same key, but belong to different shards, and the limit for one key is for all processes together: create a key for each of them",
                first.name, account.name
            )));
        }
        if first.hosts.egress() != account.hosts.egress() {
            return Err(ConfigError(format!(
                "accounts '{}' and '{}' have the same key, but belong to different egress groups: put both into one group, or create a key for each of them",
                first.name, account.name
            )));
        }
    }
    Ok(())
}

/// Rejects more calls than the process may make with one key.
fn check_key_limits(config: &Config, taken: ConfiguredShare) -> Result<(), ConfigError> {
    let mut keys: HashMap<KeyId, (f64, Vec<&str>)> = HashMap::new();
    for account in &config.accounts {
        let (per_second, names) = keys.entry(account.credentials.pair().id()).or_default();
        *per_second += calls_per_second(account);
        names.push(&account.name);
    }
    let limit = LimitShares::from(taken.share).key_limit().calls_per_second();
    match keys.values().find(|(per_second, _)| *per_second > limit + 1e-9) {
        Some((per_second, names)) => Err(ConfigError(format!(
            "the key of account '{}' makes {:.1} calls per second, but {} for one key is {}: {}",
            names.join("', '"),
            // Rounded up, because 2.0003 must not read as 2.0.
            (per_second * 10.0 - 1e-6).ceil() / 10.0,
            taken.describe_limit(),
            // Rounded down.
            (limit * 100.0 + 1e-6).floor() / 100.0,
            taken.describe_remedy(config, None),
        ))),
        None => Ok(()),
    }
}

impl ConfiguredShare {
    /// `the limit`, or a part of it with its setting.
    fn describe_limit(self) -> String {
        let Self { share, setting } = self;
        if share == Share::ALL { "the limit".to_owned() } else { format!("{share} of the limit ({setting})") }
    }

    /// The settings that help, with `more` of them.
    fn describe_remedy(self, config: &Config, more: Option<&str>) -> String {
        let has_positions = config.accounts.iter().any(|account| account.position_wallets().next().is_some());
        let futures_risk = has_positions.then_some("turn futures_risk off");
        let raise_share = (self.share != Share::ALL).then(|| format!("raise {}", self.setting));
        let remedies = ["raise poll_interval", "read fewer wallets"].into_iter();
        let remedies = remedies.chain(futures_risk).chain(more).chain(raise_share.as_deref());
        let mut remedies: Vec<_> = remedies.collect();
        let last = remedies.pop().unwrap_or_default();
        format!("{}, or {last}", remedies.join(", "))
    }
}

/// Converts a count of accounts, wallets or calls, which stays far below 2^53.
#[expect(clippy::cast_precision_loss)]
fn to_f64(count: usize) -> f64 {
    count as f64
}
