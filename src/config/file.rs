//! The YAML file of `--config.file`. May block: the file and the key files can be on a network file system.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de};

use super::{
    AccountConfig, Config, ConfigError,
    egress::{EgressGroup, EgressGroups, EgressYaml},
    examples::{ACCOUNTS_EXAMPLE, EXAMPLES},
    labels,
    load::ConfiguredShare,
    paths::resolve_path,
    routes::{Env, ProxyEnvironment, RouteSettingNames, RouteSettings, Routes},
    validate::{
        self, DEFAULT_INTERVAL, SHARE_FLAG, SettingNames, UnvalidatedAccount, UnvalidatedCurrencies,
        UnvalidatedRisk, UnvalidatedTiming, UnvalidatedUrls,
    },
    watch::{AmountYaml, WatchYaml},
};
use crate::{
    clock::UnixTime,
    exchange::{ApiVersion, BaseUrl, KeyHalf, KeySource, QUOTE, Share, Wallet},
    files,
    quoting::{quote_existing_path, quote_value},
    shard::Shard,
    yaml::{self, required_value},
};

/// The longest configuration file that is read; one with 5 000 accounts is shorter.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

const FILE_NAMES: SettingNames = SettingNames {
    api: "api",
    base_url: "base_urls",
    futures_usdt: "futures_usdt_base_urls",
    futures_coin: "futures_coin_base_urls",
    user_center: "user_center_base_url",
    route: RouteSettingNames {
        proxy_url: "proxy_url",
        proxy_credentials_file: "proxy_credentials_file",
        ca_file: "ca_file",
    },
    wallet: "wallets",
    futures_risk: "futures_risk",
    watch: "watch",
    interval: "poll_interval",
    timeout: "poll_timeout",
    max_age: "max_age",
    share: "limits.share",
};

/// The part of the accounts and of the rate limits that the flags give this process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProcessPart {
    pub shard: Shard,
    /// `None` if no flag sets it.
    pub share: Option<Share>,
}

/// Loads the file at `path`. `env` looks up an environment variable, and `now` is the current Unix time.
///
/// # Errors
/// The first error found, with the path.
pub(super) fn load(
    path: &Path,
    env: Env<'_>,
    part: ProcessPart,
    now: UnixTime,
) -> Result<Config, ConfigError> {
    let unreadable = |why: &dyn fmt::Display| {
        ConfigError(format!("cannot read --config.file{}: {why}", quote_existing_path(path)))
    };
    let bytes = files::read(path, FILE_MAX_BYTES).map_err(|error| unreadable(&error))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| unreadable(&"not UTF-8: it must be a YAML file"))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    read_part(text, folder, env, part, now)
        .map_err(|ConfigError(why)| ConfigError(format!("--config.file {}: {why}", path.display())))
}

impl Config {
    /// Parses and validates the `text` of a file. Paths in it are relative to `folder`. `env` looks up an environment
    /// variable, for proxies, and `now` is the current Unix time. May block.
    ///
    /// # Errors
    /// The first error found.
    pub fn from_yaml(text: &str, folder: &Path, env: Env<'_>, now: UnixTime) -> Result<Self, ConfigError> {
        read_part(text, folder, env, ProcessPart::default(), now)
    }
}

/// Parses and validates the whole file, and keeps the accounts of the shard in `part`.
fn read_part(
    text: &str,
    folder: &Path,
    env: Env<'_>,
    part: ProcessPart,
    now: UnixTime,
) -> Result<Config, ConfigError> {
    let file: FileYaml = yaml::read(text, &EXAMPLES).map_err(ConfigError)?;
    let taken = file.choose_share(part.share)?;
    let mut routes = Routes::new(ProxyEnvironment::read(env), folder);
    let groups = EgressGroups::new(&file.egress).map_err(ConfigError)?;
    let accounts = file.validate_accounts(&groups, folder, &mut routes, now)?;
    let prices_timing = file.prices.is_some().then(|| file.timing());
    let mut config = validate::build_config(accounts, part.shard, prices_timing, taken, &FILE_NAMES)?;
    config.egress = groups.all();
    if let Some(prices) = config.prices.as_mut().filter(|_| !file.egress.is_empty()) {
        // Prices belong to no account, so they leave by the default group.
        let route = |base: &BaseUrl| routes.route(base, file.default_routes(), FILE_NAMES.route);
        prices.hosts = prices.hosts.clone().with_routes(route).map_err(ConfigError)?;
    }
    Ok(config)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileYaml {
    #[serde(default, deserialize_with = "required_value")]
    api: Option<ApiYaml>,
    #[serde(default, deserialize_with = "required_value")]
    base_urls: Option<Vec<String>>,
    #[serde(default, deserialize_with = "required_value")]
    futures_usdt_base_urls: Option<Vec<String>>,
    #[serde(default, deserialize_with = "required_value")]
    futures_coin_base_urls: Option<Vec<String>>,
    #[serde(default, deserialize_with = "required_value")]
    user_center_base_url: Option<String>,
    #[serde(default, deserialize_with = "required_value")]
    proxy_url: Option<String>,
    #[serde(default, deserialize_with = "required_value")]
    proxy_credentials_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "required_value")]
    ca_file: Option<PathBuf>,
    #[serde(default = "default_interval")]
    poll_interval: DurationYaml,
    #[serde(default = "default_timeout")]
    poll_timeout: DurationYaml,
    #[serde(default, deserialize_with = "required_value")]
    max_age: Option<DurationYaml>,
    #[serde(default, deserialize_with = "required_value")]
    prices: Option<QuoteYaml>,
    #[serde(default, deserialize_with = "required_value")]
    limits: Option<LimitsYaml>,
    #[serde(default)]
    egress: Vec<EgressYaml>,
    accounts: Vec<AccountYaml>,
}

/// How the process uses the exchange's rate limits.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsYaml {
    share: ShareYaml,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountYaml {
    name: String,
    access_key_file: PathBuf,
    secret_key_file: PathBuf,
    #[serde(default = "default_wallets")]
    wallets: Vec<WalletYaml>,
    #[serde(default)]
    watch: BTreeMap<String, WatchYaml>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    currencies: CurrenciesYaml,
    #[serde(default)]
    futures_risk: bool,
    #[serde(default, deserialize_with = "required_value")]
    max_positions: Option<u64>,
    #[serde(default, deserialize_with = "required_value")]
    liquidation_distance: Option<DistancesYaml>,
    #[serde(default, deserialize_with = "required_value")]
    api: Option<ApiYaml>,
    #[serde(default, deserialize_with = "required_value")]
    base_urls: Option<Vec<String>>,
    #[serde(default, deserialize_with = "required_value")]
    futures_usdt_base_urls: Option<Vec<String>>,
    #[serde(default, deserialize_with = "required_value")]
    futures_coin_base_urls: Option<Vec<String>>,
    #[serde(default, deserialize_with = "required_value")]
    user_center_base_url: Option<String>,
    #[serde(default, deserialize_with = "required_value")]
    egress: Option<String>,
    #[serde(default, deserialize_with = "required_value")]
    proxy_url: Option<String>,
    #[serde(default, deserialize_with = "required_value")]
    proxy_credentials_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "required_value")]
    ca_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "required_value")]
    poll_interval: Option<DurationYaml>,
    #[serde(default, deserialize_with = "required_value")]
    poll_timeout: Option<DurationYaml>,
    #[serde(default, deserialize_with = "required_value")]
    max_age: Option<DurationYaml>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct CurrenciesYaml {
    only: Vec<String>,
    exclude: Vec<String>,
    hide_zero: bool,
}

/// Distances to liquidation, as parts of the mark price.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DistancesYaml {
    warn: AmountYaml,
    page: AmountYaml,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ApiYaml {
    V1,
    V4,
}

impl From<ApiYaml> for ApiVersion {
    fn from(api: ApiYaml) -> Self {
        match api {
            ApiYaml::V1 => Self::V1,
            ApiYaml::V4 => Self::V4,
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct WalletYaml(Wallet);

impl TryFrom<String> for WalletYaml {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

/// The currency of prices. There is only one.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct QuoteYaml;

impl TryFrom<String> for QuoteYaml {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        (text == QUOTE).then_some(Self).ok_or_else(|| format!("the only currency of prices is {QUOTE}"))
    }
}

/// A part of the rate limits, such as `1/2`.
#[derive(Clone, Copy)]
struct ShareYaml(Share);

impl<'de> Deserialize<'de> for ShareYaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|why| de::Error::custom(format!("{} {why}", quote_value(&text))))
    }
}

/// A duration such as `30s`.
#[derive(Clone, Copy)]
struct DurationYaml(Duration);

impl<'de> Deserialize<'de> for DurationYaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Self).map_err(|_| {
            let why = if text.parse::<f64>().is_ok() { "has no unit" } else { "is not a duration" };
            de::Error::custom(format!("{} {why}", quote_value(&text)))
        })
    }
}

fn default_interval() -> DurationYaml {
    DurationYaml(DEFAULT_INTERVAL)
}

fn default_timeout() -> DurationYaml {
    DurationYaml(DEFAULT_TIMEOUT)
}

fn default_wallets() -> Vec<WalletYaml> {
    vec![WalletYaml(Wallet::Spot)]
}

impl FileYaml {
    /// The route settings of the file, without those of an account or an egress group.
    fn default_routes(&self) -> RouteSettings<'_> {
        RouteSettings {
            proxy_url: self.proxy_url.as_deref(),
            proxy_credentials_file: self.proxy_credentials_file.as_deref(),
            ca_file: self.ca_file.as_deref(),
        }
    }

    /// The timing of accounts that set none of their own, and of prices.
    fn timing(&self) -> UnvalidatedTiming {
        UnvalidatedTiming {
            interval: self.poll_interval.0,
            timeout: self.poll_timeout.0,
            max_age: self.max_age.map(|span| span.0),
        }
    }

    /// The share of the file or of `--limits.share`, with the setting that it comes from.
    fn choose_share(&self, flag: Option<Share>) -> Result<ConfiguredShare, ConfigError> {
        let of_file = |share| ConfiguredShare { share, setting: FILE_NAMES.share };
        match (&self.limits, flag) {
            (Some(_), Some(_)) => {
                let why = "both set the share: remove one of them";
                Err(ConfigError(format!("{} and {SHARE_FLAG} {why}", FILE_NAMES.share)))
            }
            (None, Some(share)) => Ok(ConfiguredShare { share, setting: SHARE_FLAG }),
            (Some(LimitsYaml { share: ShareYaml(share) }), None) => Ok(of_file(*share)),
            (None, None) => Ok(of_file(Share::ALL)),
        }
    }

    fn validate_accounts(
        &self,
        groups: &EgressGroups<'_>,
        folder: &Path,
        routes: &mut Routes,
        now: UnixTime,
    ) -> Result<Vec<AccountConfig>, ConfigError> {
        if self.accounts.is_empty() {
            return Err(ConfigError(format!("accounts is empty: write `{ACCOUNTS_EXAMPLE}`")));
        }
        let mut names = HashSet::new();
        for (index, AccountYaml { name, .. }) in self.accounts.iter().enumerate() {
            validate::check_account_name(name)
                .map_err(|error| ConfigError(format!("accounts[{index}].name: the name {error}")))?;
            if !names.insert(name) {
                return Err(ConfigError(format!("two accounts are named '{name}': rename one of them")));
            }
        }
        let file = FileContext { file: self, groups, folder, now };
        self.accounts.iter().map(|account| account.validate(&file, routes)).collect()
    }
}

/// What every account of the file needs for its validation.
struct FileContext<'a> {
    file: &'a FileYaml,
    groups: &'a EgressGroups<'a>,
    folder: &'a Path,
    now: UnixTime,
}

impl AccountYaml {
    fn validate(&self, context: &FileContext<'_>, routes: &mut Routes) -> Result<AccountConfig, ConfigError> {
        let FileContext { file, groups, folder, now } = *context;
        let context = format!("account '{}': ", self.name);
        let watch = self.watch.iter().map(|(name, watch)| watch.validate(name)).collect::<Result<_, _>>();
        let watch = watch.map_err(|why| ConfigError(format!("{context}watch: {why}")))?;
        let labels = labels::validate(&self.labels).map_err(|why| ConfigError(format!("{context}{why}")))?;
        let urls = self.urls(file).map_err(|why| ConfigError(format!("{context}{why}")))?;
        let group = self.find_group(groups).map_err(|why| ConfigError(format!("{context}{why}")))?;
        let CurrenciesYaml { only, exclude, hide_zero } = &self.currencies;
        let account = UnvalidatedAccount {
            context,
            settings: &FILE_NAMES,
            name: &self.name,
            labels,
            api: self.api.or(file.api).map(ApiVersion::from),
            urls,
            routes: self.routes(file, group),
            egress: group.map(|group| group.egress.clone()).unwrap_or_default(),
            wallets: self.wallets.iter().map(|WalletYaml(wallet)| *wallet).collect(),
            watch,
            currencies: UnvalidatedCurrencies { only, exclude, hide_zero: *hide_zero },
            risk: UnvalidatedRisk {
                is_enabled: self.futures_risk,
                max_positions: self.max_positions,
                distances: self
                    .liquidation_distance
                    .as_ref()
                    .map(|distance| (distance.warn.0, distance.page.0)),
            },
            timing: UnvalidatedTiming {
                interval: self.poll_interval.unwrap_or(file.poll_interval).0,
                timeout: self.poll_timeout.unwrap_or(file.poll_timeout).0,
                max_age: self.max_age.or(file.max_age).map(|span| span.0),
            },
        };
        let key_half = |path: &Path| KeyHalf::File(resolve_path(folder, path));
        let keys =
            KeySource { access: key_half(&self.access_key_file), secret: key_half(&self.secret_key_file) };
        account.validate(keys, routes, now)
    }

    /// The egress group of the account, if the file has groups.
    fn find_group<'a, 'b>(
        &self,
        groups: &'b EgressGroups<'a>,
    ) -> Result<Option<&'b EgressGroup<'a>>, String> {
        let group = groups.find(self.egress.as_deref())?;
        if group.is_some() && (self.proxy_url.is_some() || self.proxy_credentials_file.is_some()) {
            return Err("the egress group decides about the proxy: remove proxy_url and proxy_credentials_file of the account".to_owned());
        }
        Ok(group)
    }

    /// The route settings of the account's egress group, or else its own, or the file's. The file's password is for the
    /// file's proxy only.
    fn routes<'a>(&'a self, file: &'a FileYaml, group: Option<&'a EgressGroup<'_>>) -> RouteSettings<'a> {
        if let Some(group) = group {
            return group.routes(self.ca_file.as_deref().or(file.ca_file.as_deref()));
        }
        let file_credentials = file.proxy_credentials_file.as_deref().filter(|_| self.proxy_url.is_none());
        RouteSettings {
            proxy_url: self.proxy_url.as_deref().or(file.proxy_url.as_deref()),
            proxy_credentials_file: self.proxy_credentials_file.as_deref().or(file_credentials),
            ca_file: self.ca_file.as_deref().or(file.ca_file.as_deref()),
        }
    }

    /// The account's own base URLs, or the file's.
    fn urls<'a>(&'a self, file: &'a FileYaml) -> Result<UnvalidatedUrls<'a>, String> {
        let own = UnvalidatedUrls {
            base: self.base_urls.as_deref(),
            futures_usdt: self.futures_usdt_base_urls.as_deref(),
            futures_coin: self.futures_coin_base_urls.as_deref(),
            user_center: self.user_center_base_url.as_deref(),
        };
        // The file's futures hosts may belong to another exchange than the account's own hosts.
        if own.base.is_some() {
            return Ok(own);
        }
        let version = |api: Option<ApiYaml>| api.map(ApiVersion::from).unwrap_or_default();
        if self.api.is_some() && version(self.api) != version(file.api) && file.base_urls.is_some() {
            return Err("its api differs from the api of the file, so it cannot use the base_urls of the file: set base_urls for this account".to_owned());
        }
        // An account with another version than the file cannot use the file's user center, which only v4 has.
        let is_v4 = version(self.api.or(file.api)) == ApiVersion::V4;
        let file_user_center = file.user_center_base_url.as_deref().filter(|_| is_v4);
        Ok(UnvalidatedUrls {
            base: file.base_urls.as_deref(),
            futures_usdt: own.futures_usdt.or(file.futures_usdt_base_urls.as_deref()),
            futures_coin: own.futures_coin.or(file.futures_coin_base_urls.as_deref()),
            user_center: own.user_center.or(file_user_center),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::yaml::accepted_keys;

    const KEYS: &str = "access_key_file: k, secret_key_file: s";

    #[test]
    fn every_key_has_an_example() {
        for (parent, text) in [
            ("", "unknown: 1"),
            ("accounts[].", "accounts: [{unknown: 1}]"),
            ("egress[].", "egress: [{unknown: 1}]"),
            ("accounts[].currencies.", "accounts: [{currencies: {unknown: 1}}]"),
            ("accounts[].liquidation_distance.", "accounts: [{liquidation_distance: {unknown: 1}}]"),
            ("accounts[].watch.*.", "accounts: [{watch: {usdt: {unknown: 1}}}]"),
            ("limits.", "limits: {unknown: 1}"),
        ] {
            let accepted: BTreeSet<_> = accepted_keys::<FileYaml>(text).into_iter().collect();
            let paths = EXAMPLES.lines.iter().filter_map(|(path, _)| path.strip_prefix(parent));
            let in_table: BTreeSet<_> =
                paths.filter(|key| !key.is_empty() && !key.contains(['.', '[', '*'])).collect();
            assert!(!accepted.is_empty());
            assert_eq!(in_table, accepted, "{parent}");
        }
    }

    #[test]
    fn every_example_is_right_in_its_place() {
        for (path, lines) in EXAMPLES.lines {
            for line in lines.split('`').step_by(2) {
                let account = |key: &str| match key {
                    "name" => format!("accounts: [{{{line}, {KEYS}}}]"),
                    "access_key_file" => format!("accounts: [{{name: a, {line}, secret_key_file: s}}]"),
                    "secret_key_file" => format!("accounts: [{{name: a, access_key_file: k, {line}}}]"),
                    _ => format!("accounts: [{{name: a, {KEYS}, {line}}}]"),
                };
                let text = match path.split('.').collect::<Vec<_>>().as_slice() {
                    ["" | "accounts"] => line.to_owned(),
                    ["accounts[]"] => format!("accounts:\n{line}"),
                    ["limits", _] => format!("limits: {{{line}}}\naccounts: [{{name: a, {KEYS}}}]"),
                    ["accounts[]", key] => account(key),
                    ["egress[]"] => format!("egress:\n{line}\naccounts: [{{name: a, {KEYS}}}]"),
                    ["egress[]", "name"] => format!("egress: [{{{line}}}]\naccounts: [{{name: a, {KEYS}}}]"),
                    ["egress[]", _] => {
                        format!("egress: [{{name: a, {line}}}]\naccounts: [{{name: a, {KEYS}}}]")
                    }
                    ["accounts[]", key, "*", level] => {
                        let other = if *level == "warn" { "page: 1" } else { "warn: 1" };
                        format!("accounts: [{{name: a, {KEYS}, {key}: {{usdt: {{{line}, {other}}}}}}}]")
                    }
                    ["accounts[]", key @ "liquidation_distance", level] => {
                        let other = if *level == "warn" { "page: 0.1" } else { "warn: 0.2" };
                        format!("accounts: [{{name: a, {KEYS}, {key}: {{{line}, {other}}}}}]")
                    }
                    ["accounts[]", key, _] => format!("accounts: [{{name: a, {KEYS}, {key}: {{{line}}}}}]"),
                    _ => format!("{line}\naccounts: [{{name: a, {KEYS}}}]"),
                };
                let read = yaml::read::<FileYaml>(&text, &EXAMPLES);
                assert_eq!(read.err(), None, "{path}: {text}");
            }
        }
    }
}
