//! File, flags and environment → only valid accounts. Whoever holds a [`Config`] need not ask again
//! whether a name is fit, a key readable or the load within the exchange's limits.
//! Opens no socket.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use humantime::format_duration;
use serde::{Deserialize, Deserializer, de};
use smol_str::SmolStr;
use zeroize::Zeroizing;

use crate::{
    cli::{AccountFlags, PollFlags, Quote},
    exchange::{
        ApiVersion, BaseUrl, Credentials, Endpoints, KEY_CALLS, KeyHalf, KeyId, KeySource, PROCESS_CALLS,
        QUOTE, Secret, Wallet, currency_name,
    },
    files,
    quoting::{quote_existing_path, quote_short},
    snapshot::wallet::{CurrencyFilter, WatchedCurrency},
    yaml,
};

/// Everything about the accounts and their prices, valid.
#[derive(Debug)]
pub struct Config {
    /// At least one; names differ.
    pub accounts: Vec<AccountConfig>,
    /// How prices are asked for, if they are.
    pub prices: Option<PricesConfig>,
}

/// How the prices of all accounts are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct PricesConfig {
    /// That of the first account: prices are those of one exchange, and so must the accounts be.
    pub endpoints: Endpoints,
    /// Time from one reading to the next.
    pub poll_interval: Duration,
    /// The most time a reading may take; under the interval.
    pub poll_timeout: Duration,
    /// From this age on prices are unknown; at least the interval.
    pub max_age: Duration,
}

/// One account to watch.
#[derive(Debug)]
pub struct AccountConfig {
    /// The `account` label.
    pub name: Box<str>,
    /// Where to ask, and in which version of the API; base URLs for all of `wallets`.
    pub endpoints: Endpoints,
    /// What to sign with.
    pub credentials: Credentials,
    /// What to read, in the order of [`Wallet`]; at least one, none twice.
    pub wallets: Vec<Wallet>,
    /// Always shown in that wallet; sorted.
    pub watch: Vec<(Wallet, WatchedCurrency)>,
    /// Which of the others are shown.
    pub filter: CurrencyFilter,
    /// Time from one poll to the next.
    pub poll_interval: Duration,
    /// The most time a poll may take; under the interval.
    pub poll_timeout: Duration,
    /// From this age on an answer is unknown; at least the interval.
    pub max_age: Duration,
}

/// What is wrong with the configuration, in a sentence that names the remedy.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    /// On one line and not without end, whatever of a file is quoted in it. What is too long loses
    /// its middle: the beginning says where, the end how to mend it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEAD: usize = 300;
        const TAIL: usize = 200;
        let mut text = String::with_capacity(self.0.len());
        for c in self.0.chars() {
            if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
        }
        let count = text.chars().count();
        if count <= HEAD + TAIL {
            return f.write_str(&text);
        }
        let head: String = text.chars().take(HEAD).collect();
        let tail: String = text.chars().skip(count - TAIL).collect();
        write!(f, "{head} … {tail}")
    }
}

impl std::error::Error for ConfigError {}

/// The environment, as far as it concerns keys.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

const KEY_VARIABLES: [&str; 4] =
    ["XT_ACCESS_KEY_FILE", "XT_SECRET_KEY_FILE", "XT_ACCESS_KEY", "XT_SECRET_KEY"];
const NAME_MAX_BYTES: usize = 64;
/// The longest configuration file that is read; one of 5 000 accounts is shorter.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Far enough to mean never, near enough that sums of it do not overflow.
const MAX_DURATION: Duration = Duration::from_hours(8784);

impl Config {
    /// Settles what the flags, the file they may name and the environment say. `poll` is `None` for
    /// commands that poll but once. `unix` is the time now. May block.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(
        flags: &AccountFlags,
        poll: Option<&PollFlags>,
        env: Env<'_>,
        unix: Duration,
    ) -> Result<Self, ConfigError> {
        match &flags.config_file {
            Some(path) => Self::from_file(path, env, unix),
            None => Self::from_flags(flags, poll, env, unix),
        }
    }

    /// Settles what the `text` of a file in `folder` says. `unix` is the time now. May block.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_yaml(text: &str, folder: &Path, unix: Duration) -> Result<Self, ConfigError> {
        let file: FileYaml = yaml::read(text).map_err(ConfigError)?;
        let accounts = file.accounts(folder, unix)?;
        let timing = file.prices.is_some().then(|| file.timing());
        Self { prices: PricesConfig::of(&accounts, timing, &FILE_NAMES)?, accounts }.check_rate_limits()
    }

    fn from_flags(
        flags: &AccountFlags,
        poll: Option<&PollFlags>,
        env: Env<'_>,
        unix: Duration,
    ) -> Result<Self, ConfigError> {
        let watch = flags.watch.iter().map(|text| parse_watch_flag(text)).collect::<Result<Vec<_>, _>>()?;
        let timing = UnvalidatedTiming {
            interval: poll
                .map_or(DEFAULT_INTERVAL.max(flags.timeout.saturating_mul(2)), |poll| poll.interval),
            timeout: flags.timeout,
            max_age: poll.and_then(|poll| poll.max_age),
        };
        let spec = UnvalidatedAccount {
            place: String::new(),
            words: &FLAG_NAMES,
            name: &flags.account,
            api: flags.api,
            urls: UnvalidatedUrls {
                base: non_empty(&flags.base_url),
                futures_usdt: non_empty(&flags.futures_usdt_base_url),
                futures_coin: non_empty(&flags.futures_coin_base_url),
            },
            wallets: flags.wallet.clone(),
            watch,
            currencies: CurrenciesYaml::default(),
            timing,
        };
        let accounts = vec![spec.account(&key_source(flags, env)?, unix)?];
        let timing = flags.prices.map(|Quote::Usdt| timing);
        Self { prices: PricesConfig::of(&accounts, timing, &FLAG_NAMES)?, accounts }.check_rate_limits()
    }

    fn from_file(path: &Path, env: Env<'_>, unix: Duration) -> Result<Self, ConfigError> {
        let shown = path.display();
        if let Some(name) = KEY_VARIABLES.iter().find(|name| env(name).is_some()) {
            return Err(ConfigError(format!(
                "{name} is set, and --config.file{} names the keys too: unset the one or leave out the other",
                quote_existing_path(path)
            )));
        }
        let unread = |why: &dyn fmt::Display| {
            ConfigError(format!("cannot read --config.file{}: {why}", quote_existing_path(path)))
        };
        let bytes = files::read(path, FILE_MAX_BYTES).map_err(|error| unread(&error))?;
        if bytes.len() as u64 > FILE_MAX_BYTES {
            return Err(unread(&format!("it is over {FILE_MAX_BYTES} bytes: is it the right file?")));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| unread(&"it is not UTF-8: it must be YAML"))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::from_yaml(text, folder, unix)
            .map_err(|ConfigError(why)| ConfigError(format!("--config.file {shown}: {why}")))
    }

    /// Refuses a load that the exchange would lock accounts for.
    fn check_rate_limits(self) -> Result<Self, ConfigError> {
        let rate =
            |account: &AccountConfig| float(account.wallets.len()) / account.poll_interval.as_secs_f64();
        let prices = self.prices.iter().map(|prices| 1.0 / prices.poll_interval.as_secs_f64());
        let per_minute: f64 = self.accounts.iter().map(rate).chain(prices).sum::<f64>() * 60.0;
        if per_minute > float(PROCESS_CALLS) + 1e-6 {
            return Err(ConfigError(format!(
                "the {} accounts{} together make {per_minute:.0} calls a minute and {PROCESS_CALLS} is the most that is safe for one address: raise poll_interval or read fewer wallets",
                self.accounts.len(),
                if self.prices.is_some() { " and the prices" } else { "" },
            )));
        }
        let mut keys: HashMap<KeyId, (f64, Vec<&str>)> = HashMap::new();
        for account in &self.accounts {
            let (per_second, names) = keys.entry(account.credentials.pair().id()).or_default();
            *per_second += rate(account);
            names.push(&account.name);
        }
        match keys.values().find(|(per_second, _)| *per_second > float(KEY_CALLS) + 1e-9) {
            Some((per_second, names)) => Err(ConfigError(format!(
                "the key of account '{}' makes {per_second:.1} calls a second and {KEY_CALLS} is the most that is safe for one key: raise poll_interval or read fewer wallets",
                names.join("', '"),
            ))),
            None => Ok(self),
        }
    }
}

impl PricesConfig {
    /// Prices for `accounts`, if there is a `timing` for them.
    fn of(
        accounts: &[AccountConfig],
        timing: Option<UnvalidatedTiming>,
        words: &SettingNames,
    ) -> Result<Option<Self>, ConfigError> {
        let (Some(timing), Some(first)) = (timing, accounts.first()) else { return Ok(None) };
        if let Some(other) =
            accounts.iter().find(|account| is_other_exchange(&account.endpoints, &first.endpoints))
        {
            return Err(ConfigError(format!(
                "prices are asked for, and those of account '{}' may not be those of account '{}', whose {} are of another exchange: watch each exchange with an exporter of its own, or leave prices out",
                first.name, other.name, words.base_url,
            )));
        }
        let (poll_interval, poll_timeout, max_age) =
            timing.validate(words).map_err(|why| ConfigError(format!("prices: {why}")))?;
        Ok(Some(Self { endpoints: first.endpoints.clone(), poll_interval, poll_timeout, max_age }))
    }
}

/// Whether the base URLs show that two venues are of different exchanges: one is XT and the other is
/// not, or both speak the same version of the API and have no host in common.
#[must_use]
pub fn is_other_exchange(one: &Endpoints, other: &Endpoints) -> bool {
    let hosts = |endpoints: &Endpoints| endpoints.base_urls.iter().map(BaseUrl::host).collect::<Vec<_>>();
    let (here, there) = (hosts(one), hosts(other));
    let own: Vec<_> = [ApiVersion::V1, ApiVersion::V4].into_iter().flat_map(own_base_urls).collect();
    let is_own = |hosts: &[String]| {
        own.iter()
            .filter_map(|url| url.strip_prefix("https://"))
            .any(|own| hosts.iter().any(|host| host == own))
    };
    match (is_own(&here), is_own(&there)) {
        (true, true) => false,
        (false, false) => one.api == other.api && !here.iter().any(|host| there.contains(host)),
        _ => true,
    }
}

/// XT's own hosts for all but futures.
fn own_base_urls(api: ApiVersion) -> &'static [&'static str] {
    match api {
        ApiVersion::V1 => &["https://api.xt.com", "https://api.xt.pub"],
        ApiVersion::V4 => &["https://sapi.xt.com"],
    }
}

/// When to poll, as it was written.
#[derive(Clone, Copy)]
struct UnvalidatedTiming {
    interval: Duration,
    timeout: Duration,
    max_age: Option<Duration>,
}

impl UnvalidatedTiming {
    /// Interval, timeout and greatest age, if they go together; else why not.
    fn validate(self, words: &SettingNames) -> Result<(Duration, Duration, Duration), String> {
        let SettingNames { interval, timeout, max_age, .. } = *words;
        let shown = format_duration;
        let longest = [self.interval, self.timeout, self.max_age.unwrap_or_default()].into_iter().max();
        if longest.is_some_and(|longest| longest > MAX_DURATION) {
            return Err(format!("{interval}, {timeout} and {max_age} must be under a year"));
        }
        if self.interval < MIN_INTERVAL {
            return Err(format!(
                "{interval} is {} and must be at least {}",
                shown(self.interval),
                shown(MIN_INTERVAL)
            ));
        }
        if self.timeout.is_zero() || self.timeout >= self.interval {
            return Err(format!(
                "{timeout} is {} and must be above 0 and under {interval}, {}: lower the one or raise the other",
                shown(self.timeout),
                shown(self.interval),
            ));
        }
        let oldest = self.max_age.unwrap_or(self.interval * 3);
        if oldest < self.interval {
            return Err(format!(
                "{max_age} is {} and must be at least {interval}, {}: otherwise what was read comes and goes between polls",
                shown(oldest),
                shown(self.interval),
            ));
        }
        Ok((self.interval, self.timeout, oldest))
    }
}

/// An account as it was written, before it is known to be valid.
struct UnvalidatedAccount<'a> {
    /// What to begin a complaint with.
    place: String,
    words: &'static SettingNames,
    name: &'a str,
    api: ApiVersion,
    urls: UnvalidatedUrls<'a>,
    wallets: Vec<Wallet>,
    /// In all wallets if none is named.
    watch: Vec<(Option<Wallet>, WatchedCurrency)>,
    currencies: CurrenciesYaml,
    timing: UnvalidatedTiming,
}

/// The base URLs that were written down. `None` stands for the exchange's own; what is empty was
/// written so.
#[derive(Clone, Copy)]
struct UnvalidatedUrls<'a> {
    base: Option<&'a [String]>,
    futures_usdt: Option<&'a [String]>,
    futures_coin: Option<&'a [String]>,
}

/// Flags that are not given have no values.
fn non_empty(values: &[String]) -> Option<&[String]> {
    Some(values).filter(|values| !values.is_empty())
}

/// What the settings are called where they were written.
struct SettingNames {
    name: &'static str,
    api: &'static str,
    base_url: &'static str,
    futures_usdt: &'static str,
    futures_coin: &'static str,
    wallet: &'static str,
    watch: &'static str,
    interval: &'static str,
    timeout: &'static str,
    max_age: &'static str,
}

const FLAG_NAMES: SettingNames = SettingNames {
    name: "--xt.account",
    api: "--xt.api",
    base_url: "--xt.base-url",
    futures_usdt: "--xt.futures-usdt-base-url",
    futures_coin: "--xt.futures-coin-base-url",
    wallet: "--xt.wallet",
    watch: "--balance.watch",
    interval: "--poll.interval",
    timeout: "--poll.timeout",
    max_age: "--poll.max-age",
};

const FILE_NAMES: SettingNames = SettingNames {
    name: "name",
    api: "api",
    base_url: "base_urls",
    futures_usdt: "futures_usdt_base_urls",
    futures_coin: "futures_coin_base_urls",
    wallet: "wallets",
    watch: "watch",
    interval: "poll_interval",
    timeout: "poll_timeout",
    max_age: "max_age",
};

impl UnvalidatedAccount<'_> {
    fn account(mut self, keys: &KeySource, unix: Duration) -> Result<AccountConfig, ConfigError> {
        let SettingNames { name, wallet, watch, .. } = self.words;
        let fit = !self.name.is_empty()
            && self.name.len() <= NAME_MAX_BYTES
            && !self.name.chars().any(char::is_control);
        if !fit || self.name.trim() != self.name {
            return Err(ConfigError(format!(
                "{name} must be 1 to {NAME_MAX_BYTES} bytes without blanks around it or control characters"
            )));
        }
        if self.wallets.is_empty() {
            return self.error(format!(
                "{wallet} is empty: name at least one of {}, or leave it out",
                self.supported_wallets()
            ));
        }
        self.wallets.sort_unstable();
        if let Some(twice) = find_duplicate(&self.wallets, |a, b| a == b) {
            return self.error(format!("{wallet} names '{twice}' twice: name it once"));
        }
        let endpoints = self.endpoints()?;
        let elsewhere = |wallet: &Wallet| !self.wallets.contains(wallet);
        if let Some(absent) = self.watch.iter().filter_map(|(wallet, _)| *wallet).find(elsewhere) {
            return self.error(format!("{watch} names a currency of wallet '{absent}', which {wallet} does not: add it there, or leave '{absent}/' out"));
        }
        let in_wallets = |(wallet, mark): &(Option<Wallet>, WatchedCurrency)| {
            let wallets = wallet.map_or_else(|| self.wallets.clone(), |wallet| vec![wallet]);
            let mark = mark.clone();
            wallets.into_iter().map(move |wallet| (wallet, mark.clone()))
        };
        let mut watched: Vec<_> = self.watch.iter().flat_map(in_wallets).collect();
        watched.sort_unstable_by(|(wallet, a), (other, b)| (wallet, &a.currency).cmp(&(other, &b.currency)));
        if let Some((_, twice)) =
            find_duplicate(&watched, |(wallet, a), (other, b)| (wallet, &a.currency) == (other, &b.currency))
        {
            return self.error(format!("{watch} names '{}' twice: name it once", twice.currency));
        }
        for (_, mark) in &watched {
            // A mark that nothing can sink below is an alert that cannot fire.
            if let Some(threshold) =
                mark.threshold.filter(|threshold| !(threshold.is_finite() && *threshold > 0.0))
            {
                return self.error(format!(
                    "{watch}: the threshold of '{}' is {threshold} and must be above 0: leave it out to watch without one",
                    mark.currency
                ));
            }
        }
        let filter = self.filter()?;
        let (poll_interval, poll_timeout, max_age) = match self.timing.validate(self.words) {
            Ok(settled) => settled,
            Err(why) => return self.error(why),
        };
        let credentials = match Credentials::open(keys.clone(), unix) {
            Ok(credentials) => credentials,
            Err(why) => return self.error(why),
        };
        Ok(AccountConfig {
            name: self.name.into(),
            endpoints,
            credentials,
            wallets: self.wallets,
            watch: watched,
            filter,
            poll_interval,
            poll_timeout,
            max_age,
        })
    }

    /// Settles which hosts are asked. The exchange's own stand in only where none was named: a key
    /// shall reach no host of one exchange that belongs to another.
    fn endpoints(&self) -> Result<Endpoints, ConfigError> {
        let Self { api, urls, words, .. } = self;
        let SettingNames { base_url, futures_usdt, futures_coin, wallet, .. } = *words;
        if let Some(strange) =
            self.wallets.iter().find(|wallet| !api.wallets().any(|known| known == **wallet))
        {
            return self.error(format!(
                "{wallet} names '{strange}', which API {} does not have: it has {}. Name one of these, or set {} to {}",
                api.label(),
                self.supported_wallets(),
                words.api,
                if *api == ApiVersion::V1 { ApiVersion::V4.label() } else { ApiVersion::V1.label() },
            ));
        }
        let futures = [
            (Wallet::FuturesUsdt, futures_usdt, urls.futures_usdt),
            (Wallet::FuturesCoin, futures_coin, urls.futures_coin),
        ];
        for (wallet, name, given) in futures {
            let is_read = self.wallets.contains(&wallet);
            match (urls.base, given) {
                (Some(_), None) if is_read => {
                    return self.error(format!("{base_url} is given and {name} is not: give the wallet '{wallet}' its hosts of the same exchange too, or leave out both for XT's own"));
                }
                (None, Some(_)) => {
                    return self.error(format!("{name} is given and {base_url} is not: give the hosts of the same exchange that tell the time, or leave out both for XT's own"));
                }
                _ => {}
            }
        }
        let if_read = |wallet: Wallet, own: &'static [&'static str]| -> &[&str] {
            if self.wallets.contains(&wallet) { own } else { &[] }
        };
        Ok(Endpoints {
            api: *api,
            base_urls: self.parse_urls(base_url, urls.base, own_base_urls(*api))?,
            futures_usdt: self.parse_urls(
                futures_usdt,
                urls.futures_usdt,
                if_read(Wallet::FuturesUsdt, &["https://fapi.xt.com"]),
            )?,
            futures_coin: self.parse_urls(
                futures_coin,
                urls.futures_coin,
                if_read(Wallet::FuturesCoin, &["https://dapi.xt.com"]),
            )?,
        })
    }

    fn parse_urls(
        &self,
        name: &str,
        given: Option<&[String]>,
        own: &[&str],
    ) -> Result<Vec<BaseUrl>, ConfigError> {
        let urls = match given {
            Some([]) => return self.error(format!("{name} is empty: name at least one, or leave it out")),
            Some(urls) => urls.iter().map(|url| BaseUrl::parse(url)).collect::<Result<_, _>>(),
            None => own.iter().map(|url| BaseUrl::parse(url)).collect(),
        };
        let urls: Vec<BaseUrl> = urls.or_else(|why| self.error(format!("{name}: {why}")))?;
        let mut shown: Vec<_> = urls.iter().map(BaseUrl::to_string).collect();
        shown.sort_unstable();
        match find_duplicate(&shown, |a, b| a == b) {
            // One host cannot confirm what it says itself.
            Some(twice) => self.error(format!("{name} names {twice} twice: remove one of the two")),
            None => Ok(urls),
        }
    }

    /// The wallets of the API in words.
    fn supported_wallets(&self) -> String {
        let names: Vec<_> = self.api.wallets().map(Wallet::label).collect();
        match names.as_slice() {
            [first @ .., last] => format!("{} and {last}", first.join(", ")),
            [] => String::new(),
        }
    }

    fn filter(&self) -> Result<CurrencyFilter, ConfigError> {
        let CurrenciesYaml { only, exclude, hide_zero } = &self.currencies;
        let names = |list: &[String]| -> Result<Vec<SmolStr>, ConfigError> {
            list.iter()
                .map(|name| parse_currency(name).or_else(|why| self.error(format!("currencies: {why}"))))
                .collect()
        };
        let (only, exclude) = (names(only)?, names(exclude)?);
        let wanted = self.watch.iter().map(|(_, watch)| &watch.currency).chain(&only);
        if let Some(both) = wanted.into_iter().find(|name| exclude.contains(name)) {
            return self.error(format!("currencies.exclude names '{both}', which `watch` or currencies.only asks for: remove it from one"));
        }
        Ok(CurrencyFilter { only, exclude, hide_zero: *hide_zero })
    }

    fn error<T>(&self, why: impl fmt::Display) -> Result<T, ConfigError> {
        Err(ConfigError(format!("{}{why}", self.place)))
    }
}

/// The first of two equal neighbours.
fn find_duplicate<T>(sorted: &[T], same: impl Fn(&T, &T) -> bool) -> Option<&T> {
    sorted.windows(2).find_map(|pair| match pair {
        [a, b] if same(a, b) => Some(a),
        _ => None,
    })
}

fn parse_currency(text: &str) -> Result<SmolStr, String> {
    currency_name(text)
        .ok_or_else(|| format!("{} is no currency name: write one such as usdt", quote_short(text)))
}

/// Reads `usdt`, or `spot/usdt` for that of one wallet.
fn parse_watched_name(text: &str) -> Result<(Option<Wallet>, SmolStr), String> {
    let Some((wallet, name)) = text.split_once('/') else { return Ok((None, parse_currency(text)?)) };
    let wallet = wallet.trim().parse().map_err(|why| format!("{}: {why}", quote_short(text)))?;
    Ok((Some(wallet), parse_currency(name)?))
}

/// Reads `usdt`, `usdt=500` or `spot/usdt=500`.
fn parse_watch_flag(text: &str) -> Result<(Option<Wallet>, WatchedCurrency), ConfigError> {
    let (name, threshold) = match text.rsplit_once('=') {
        Some((name, amount)) => (name, Some(amount)),
        None => (text, None),
    };
    let (wallet, currency) =
        parse_watched_name(name).map_err(|why| ConfigError(format!("--balance.watch: {why}")))?;
    let threshold = threshold.map(|amount| {
        let read = amount.trim().parse::<f64>();
        read.map_err(|_| {
            ConfigError(format!(
                "--balance.watch: {} is no number: write it like usdt=500",
                quote_short(amount)
            ))
        })
    });
    Ok((wallet, WatchedCurrency { currency, threshold: threshold.transpose()? }))
}

/// Finds the one source of each half of the key pair.
fn key_source(flags: &AccountFlags, env: Env<'_>) -> Result<KeySource, ConfigError> {
    let [access_file, secret_file, access, secret] = KEY_VARIABLES;
    Ok(KeySource {
        access: select_key_half(
            "access key",
            "--xt.access-key-file",
            flags.access_key_file.as_deref(),
            access_file,
            access,
            env,
        )?,
        secret: select_key_half(
            "secret key",
            "--xt.secret-key-file",
            flags.secret_key_file.as_deref(),
            secret_file,
            secret,
            env,
        )?,
    })
}

fn select_key_half(
    what: &str,
    flag: &str,
    file: Option<&Path>,
    file_variable: &str,
    variable: &str,
    env: Env<'_>,
) -> Result<KeyHalf, ConfigError> {
    let from_flag = file.map(|path| (flag, KeyHalf::File(path.to_owned())));
    let from_file = env(file_variable).map(|path| (file_variable, KeyHalf::File(path.into())));
    let from_value = match env(variable) {
        Some(value) => {
            // What is no text is refused as what is not visible ASCII.
            let value = Zeroizing::new(value.into_string().unwrap_or_else(|_| "\u{0}".to_owned()));
            let secret = Secret::new(&value).map_err(|why| ConfigError(format!("{variable} {why}")))?;
            Some((variable, KeyHalf::Given(secret)))
        }
        None => None,
    };
    let mut sources = [from_flag, from_file, from_value].into_iter().flatten();
    match (sources.next(), sources.next()) {
        (Some((_, half)), None) => Ok(half),
        (Some((first, _)), Some((second, _))) => {
            Err(ConfigError(format!("{first} and {second} both give the {what}: leave one of them out")))
        }
        (None, _) => Err(ConfigError(format!(
            "there is no {what}: give {flag} FILE, or set {file_variable} or {variable}. \
             For many accounts give --config.file FILE; to look around without a key run the command demo"
        ))),
    }
}

/// The file of `--config.file`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileYaml {
    #[serde(default)]
    api: ApiYaml,
    base_urls: Option<Vec<String>>,
    futures_usdt_base_urls: Option<Vec<String>>,
    futures_coin_base_urls: Option<Vec<String>>,
    #[serde(default = "default_interval")]
    poll_interval: DurationYaml,
    #[serde(default = "default_timeout")]
    poll_timeout: DurationYaml,
    max_age: Option<DurationYaml>,
    prices: Option<QuoteYaml>,
    accounts: Vec<AccountYaml>,
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
    watch: BTreeMap<String, Option<f64>>,
    #[serde(default)]
    currencies: CurrenciesYaml,
    api: Option<ApiYaml>,
    base_urls: Option<Vec<String>>,
    futures_usdt_base_urls: Option<Vec<String>>,
    futures_coin_base_urls: Option<Vec<String>>,
    poll_interval: Option<DurationYaml>,
    poll_timeout: Option<DurationYaml>,
    max_age: Option<DurationYaml>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct CurrenciesYaml {
    only: Vec<String>,
    exclude: Vec<String>,
    hide_zero: bool,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum ApiYaml {
    #[default]
    V1,
    V4,
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

/// What prices are in: only one thing so far.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct QuoteYaml;

impl TryFrom<String> for QuoteYaml {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        (text == QUOTE).then_some(Self).ok_or_else(|| {
            format!("prices is {} and can only be {QUOTE}: write that, or leave it out", quote_short(&text))
        })
    }
}

/// A duration as people write it: `30s`.
#[derive(Clone, Copy)]
struct DurationYaml(Duration);

impl<'de> Deserialize<'de> for DurationYaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = humantime::parse_duration(&text);
        read.map(Self).map_err(|_| {
            de::Error::custom(format!(
                "{} is no duration: write it like 30s, 1m30s or 500ms",
                quote_short(&text)
            ))
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
    /// That of whatever is not set per account.
    fn timing(&self) -> UnvalidatedTiming {
        UnvalidatedTiming {
            interval: self.poll_interval.0,
            timeout: self.poll_timeout.0,
            max_age: self.max_age.map(|span| span.0),
        }
    }

    fn accounts(&self, folder: &Path, unix: Duration) -> Result<Vec<AccountConfig>, ConfigError> {
        let mut names = HashSet::new();
        for account in &self.accounts {
            if !names.insert(account.name.as_str()) {
                return Err(ConfigError(format!(
                    "two accounts are named '{}': give each its own name",
                    account.name
                )));
            }
        }
        if self.accounts.is_empty() {
            return Err(ConfigError("accounts is empty: name at least one".to_owned()));
        }
        self.accounts.iter().map(|account| account.account(self, folder, unix)).collect()
    }
}

impl AccountYaml {
    fn account(&self, file: &FileYaml, folder: &Path, unix: Duration) -> Result<AccountConfig, ConfigError> {
        let place = format!("account '{}': ", self.name);
        let watch = self.watch.iter().map(|(name, threshold)| {
            let (wallet, currency) =
                parse_watched_name(name).map_err(|why| ConfigError(format!("{place}watch: {why}")))?;
            Ok((wallet, WatchedCurrency { currency, threshold: *threshold }))
        });
        let watch = watch.collect::<Result<Vec<_>, _>>()?;
        let CurrenciesYaml { only, exclude, hide_zero } = &self.currencies;
        let api = self.api.unwrap_or(file.api);
        let own = UnvalidatedUrls {
            base: self.base_urls.as_deref(),
            futures_usdt: self.futures_usdt_base_urls.as_deref(),
            futures_coin: self.futures_coin_base_urls.as_deref(),
        };
        // The file's hosts may be another exchange's than the account's, and speak another version.
        let urls = if own.base.is_some() {
            own
        } else {
            if api != file.api && file.base_urls.is_some() {
                return Err(ConfigError(format!(
                    "{place}api is not that of the file, whose base_urls it can therefore not use: give it base_urls of its own"
                )));
            }
            UnvalidatedUrls {
                base: file.base_urls.as_deref(),
                futures_usdt: own.futures_usdt.or(file.futures_usdt_base_urls.as_deref()),
                futures_coin: own.futures_coin.or(file.futures_coin_base_urls.as_deref()),
            }
        };
        let spec = UnvalidatedAccount {
            place,
            words: &FILE_NAMES,
            name: &self.name,
            api: match api {
                ApiYaml::V1 => ApiVersion::V1,
                ApiYaml::V4 => ApiVersion::V4,
            },
            urls,
            wallets: self.wallets.iter().map(|WalletYaml(wallet)| *wallet).collect(),
            watch,
            currencies: CurrenciesYaml {
                only: only.clone(),
                exclude: exclude.clone(),
                hide_zero: *hide_zero,
            },
            timing: UnvalidatedTiming {
                interval: self.poll_interval.unwrap_or(file.poll_interval).0,
                timeout: self.poll_timeout.unwrap_or(file.poll_timeout).0,
                max_age: self.max_age.or(file.max_age).map(|span| span.0),
            },
        };
        let half = |path: &Path| KeyHalf::File(folder.join(path));
        let keys = KeySource { access: half(&self.access_key_file), secret: half(&self.secret_key_file) };
        spec.account(&keys, unix)
    }
}

/// Counts of accounts and wallets stay far below 2^53, where an f64 would begin to round them.
#[expect(clippy::cast_precision_loss)]
fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::{Command, parse};

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    const NOW: Duration = Duration::from_secs(1_700_000_000);
    const KEYS: &[(&str, &str)] = &[("XT_ACCESS_KEY", "k"), ("XT_SECRET_KEY", "s")];
    const ONE: &str = "accounts: [{name: main, access_key_file: k, secret_key_file: s}]";

    /// A folder with the access keys `k` and `k2`, the secret key `s`, and `empty`.
    fn folder() -> std::io::Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        for (name, text) in [("k", "key-one\n"), ("k2", "key-two"), ("s", "secret"), ("empty", " \n")] {
            fs::write(folder.path().join(name), text)?;
        }
        Ok(folder)
    }

    fn load(line: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        let words = ["xt-balance-exporter"].into_iter().chain(line.split_whitespace()).map(OsString::from);
        let Command::Serve(serve) = parse(words).map_err(|error| error.render().to_string())? else {
            return Err("not serve".to_owned());
        };
        let env = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Config::load(&serve.account, Some(&serve.poll), &env, NOW).map_err(|invalid| invalid.to_string())
    }

    fn from_yaml(text: &str) -> Result<Config, String> {
        let folder = folder().map_err(|error| error.to_string())?;
        let path = folder.path().join("accounts.yml");
        fs::write(&path, text).map_err(|error| error.to_string())?;
        load(&format!("--config.file {}", path.display()), &[])
    }

    fn shown(config: &Config) -> Vec<String> {
        let one = |account: &AccountConfig| {
            let AccountConfig { name, endpoints, wallets, watch, filter, .. } = account;
            let (interval, timeout, age) = (account.poll_interval, account.poll_timeout, account.max_age);
            let urls: Vec<_> = endpoints.base_urls.iter().map(ToString::to_string).collect();
            let watch: Vec<_> = watch
                .iter()
                .map(|(wallet, watch)| format!("{wallet}/{}={:?}", watch.currency, watch.threshold))
                .collect();
            let CurrencyFilter { only, exclude, hide_zero } = filter;
            format!(
                "{name} {urls:?} {wallets:?} {watch:?} {only:?} {exclude:?} {hide_zero} {interval:?} {timeout:?} {age:?}"
            )
        };
        config.accounts.iter().map(one).collect()
    }

    #[test]
    fn a_file_that_says_nothing_means_what_flags_that_say_nothing_mean() -> Outcome {
        let expected =
            r#"main ["https://api.xt.com", "https://api.xt.pub"] [Spot] [] [] [] false 30s 10s 90s"#;
        assert_eq!(shown(&load("", KEYS)?), [expected]);
        assert_eq!(shown(&from_yaml(ONE)?), [expected]);
        Ok(())
    }

    #[test]
    fn flags_are_read() -> Outcome {
        let line = "--xt.base-url https://api.a.top --xt.account desk --xt.wallet fiat --xt.wallet spot \
                    --balance.watch USDT=500.5 --balance.watch btc --balance.watch fiat/EUR=9 --poll.interval 1m --poll.timeout 5s --poll.max-age 2m";
        let expected = r#"desk ["https://api.a.top"] [Spot, Fiat] ["spot/btc=None", "spot/usdt=Some(500.5)", "fiat/btc=None", "fiat/eur=Some(9.0)", "fiat/usdt=Some(500.5)"] [] [] false 60s 5s 120s"#;
        assert_eq!(shown(&load(line, KEYS)?), [expected]);
        Ok(())
    }

    #[test]
    fn the_file_is_read_and_an_account_overrides_it() -> Outcome {
        let config = from_yaml(
            "
api: v1
base_urls: [https://api.a.top]
poll_interval: 40s
poll_timeout: 5s
max_age: 2m
accounts:
- name: one
  access_key_file: k
  secret_key_file: s
  watch: {USDT: 500, wallet/btc: ~}
  wallets: [wallet]
  currencies: {only: [ETH], exclude: [doge], hide_zero: true}
- name: two
  access_key_file: k2
  secret_key_file: s
  api: v1
  base_urls: [https://b.c]
  poll_interval: 1m
  poll_timeout: 6s
  max_age: 3m
",
        )?;
        let expected = [
            r#"one ["https://api.a.top"] [Wallet] ["wallet/btc=None", "wallet/usdt=Some(500.0)"] ["eth"] ["doge"] true 40s 5s 120s"#,
            r#"two ["https://b.c"] [Spot] [] [] [] false 60s 6s 180s"#,
        ];
        assert_eq!(shown(&config), expected);
        Ok(())
    }

    /// Version, and the hosts of spot, USDT-margined and coin-margined futures.
    fn endpoints(config: &Config) -> Vec<String> {
        let one = |AccountConfig { endpoints, wallets, .. }: &AccountConfig| {
            let hosts = |urls: &[BaseUrl]| urls.iter().map(BaseUrl::host).collect::<Vec<_>>().join(",");
            let wallets: Vec<_> = wallets.iter().map(|wallet| wallet.label()).collect();
            let Endpoints { api, base_urls, futures_usdt, futures_coin } = endpoints;
            format!(
                "{} {} {} {} {}",
                api.label(),
                wallets.join(","),
                hosts(base_urls),
                hosts(futures_usdt),
                hosts(futures_coin)
            )
        };
        config.accounts.iter().map(one).collect()
    }

    #[test]
    fn v4_has_hosts_and_wallets_of_its_own() -> Outcome {
        let own = "v4 spot,futures_usdt,futures_coin sapi.xt.com fapi.xt.com dapi.xt.com";
        let wallets = "--xt.wallet futures_coin --xt.wallet spot --xt.wallet futures_usdt";
        assert_eq!(endpoints(&load(&format!("--xt.api v4 {wallets}"), KEYS)?), [own]);
        let given = "--xt.base-url https://s.b --xt.futures-usdt-base-url https://f.b --xt.futures-usdt-base-url https://f.c --xt.futures-coin-base-url https://d.b";
        assert_eq!(
            endpoints(&load(&format!("--xt.api v4 {wallets} {given}"), KEYS)?),
            ["v4 spot,futures_usdt,futures_coin s.b f.b,f.c d.b"]
        );
        let config = from_yaml(
            "
api: v4
accounts:
- {name: one, access_key_file: k, secret_key_file: s, wallets: [futures_usdt]}
- {name: two, access_key_file: k2, secret_key_file: s, api: v1, wallets: [fiat]}
- name: three
  access_key_file: k2
  secret_key_file: s
  base_urls: [https://s.b]
  futures_coin_base_urls: [https://d.b]
  wallets: [spot, futures_coin]
",
        )?;
        let expected = [
            "v4 futures_usdt sapi.xt.com fapi.xt.com ",
            "v1 fiat api.xt.com,api.xt.pub  ",
            "v4 spot,futures_coin s.b  d.b",
        ];
        assert_eq!(endpoints(&config), expected);
        Ok(())
    }

    /// Where and when prices are asked for.
    fn priced(config: &Config) -> Option<String> {
        config.prices.as_ref().map(|prices| {
            let hosts: Vec<_> = prices.endpoints.base_urls.iter().map(BaseUrl::host).collect();
            let (interval, timeout) = (prices.poll_interval, prices.poll_timeout);
            format!(
                "{} {} {interval:?} {timeout:?} {:?}",
                prices.endpoints.api.label(),
                hosts.join(","),
                prices.max_age
            )
        })
    }

    #[test]
    fn prices_are_asked_for_only_when_wanted_where_the_first_account_is() -> Outcome {
        assert_eq!(priced(&load("", KEYS)?), None);
        assert_eq!(priced(&from_yaml(ONE)?), None);
        let own = Some("v1 api.xt.com,api.xt.pub 30s 10s 90s".to_owned());
        assert_eq!(priced(&load("--xt.prices usdt", KEYS)?), own);
        assert_eq!(priced(&from_yaml(&format!("prices: usdt\n{ONE}"))?), own);
        let line = "--xt.prices usdt --xt.api v4 --poll.interval 1m --poll.timeout 5s --poll.max-age 2m";
        assert_eq!(priced(&load(line, KEYS)?), Some("v4 sapi.xt.com 60s 5s 120s".to_owned()));
        let many = |base_urls: &str| {
            from_yaml(&format!(
                "prices: usdt\npoll_interval: 40s\nmax_age: 2m\naccounts:\n\
                 - {{name: a, access_key_file: k, secret_key_file: s, api: v4, poll_interval: 1m, {base_urls}}}\n\
                 - {{name: b, access_key_file: k2, secret_key_file: s, api: v1, poll_timeout: 1s}}"
            ))
        };
        // Both are XT's own, in whichever version.
        let first = Some("v4 sapi.xt.com 40s 10s 120s".to_owned());
        assert_eq!(priced(&many("")?), first);
        assert_eq!(priced(&many("base_urls: [https://sapi.xt.com]")?), first);
        let refused = many("base_urls: [https://sapi.xt.com.b]").err().unwrap_or_default();
        assert!(refused.contains("those of account 'a' may not be those of account 'b', whose base_urls are of another exchange: watch each exchange with an exporter of its own, or leave prices out"), "{refused}");
        Ok(())
    }

    #[test]
    fn accounts_are_apart_if_their_hosts_show_it() -> Outcome {
        let apart = |one: (ApiVersion, &[&str]), other: (ApiVersion, &[&str])| -> Result<bool, String> {
            let endpoints = |(api, urls): (ApiVersion, &[&str])| -> Result<Endpoints, String> {
                let base_urls = urls.iter().map(|url| BaseUrl::parse(url)).collect::<Result<_, _>>()?;
                Ok(Endpoints { api, base_urls, ..Endpoints::default() })
            };
            Ok(is_other_exchange(&endpoints(one)?, &endpoints(other)?))
        };
        let (own, spare): (&[&str], &[&str]) = (&["https://api.xt.com"], &["https://api.xt.pub"]);
        let (a, a2, b): (&[&str], &[&str], &[&str]) =
            (&["https://a.a"], &["https://c.a", "https://a.a"], &["https://b.b"]);
        for (one, other, expected) in [
            ((ApiVersion::V1, own), (ApiVersion::V1, spare), false),
            ((ApiVersion::V1, own), (ApiVersion::V4, &["https://sapi.xt.com"]), false),
            ((ApiVersion::V1, own), (ApiVersion::V1, a), true),
            ((ApiVersion::V4, a), (ApiVersion::V1, own), true),
            ((ApiVersion::V1, a), (ApiVersion::V1, a), false),
            ((ApiVersion::V1, a), (ApiVersion::V1, a2), false),
            ((ApiVersion::V1, a), (ApiVersion::V1, b), true),
            ((ApiVersion::V1, a), (ApiVersion::V4, b), false),
            ((ApiVersion::V1, own), (ApiVersion::V1, &["https://xt.com"]), true),
        ] {
            assert_eq!(apart(one, other)?, expected, "{one:?} {other:?}");
        }
        Ok(())
    }

    #[test]
    fn flags_are_refused_with_the_remedy() {
        let both_files: &[_] = &[("XT_ACCESS_KEY", "k"), ("XT_SECRET_KEY", "s"), ("XT_SECRET_KEY_FILE", "f")];
        for (line, env, said) in [
            (
                "",
                &[][..],
                "there is no access key: give --xt.access-key-file FILE, or set XT_ACCESS_KEY_FILE or XT_ACCESS_KEY",
            ),
            ("", &[("XT_ACCESS_KEY", "k")], "there is no secret key"),
            (
                "--xt.access-key-file f",
                KEYS,
                "--xt.access-key-file and XT_ACCESS_KEY both give the access key",
            ),
            ("", both_files, "XT_SECRET_KEY_FILE and XT_SECRET_KEY both give the secret key"),
            ("", &[("XT_ACCESS_KEY", ""), ("XT_SECRET_KEY", "s")], "XT_ACCESS_KEY is empty"),
            (
                "--xt.access-key-file /nonexistent --xt.secret-key-file x",
                &[],
                "the access key file cannot be read: No such file",
            ),
            (
                "--poll.interval 500ms --poll.timeout 100ms",
                KEYS,
                "--poll.interval is 500ms and must be at least 1s",
            ),
            (
                "--poll.timeout 30s",
                KEYS,
                "--poll.timeout is 30s and must be above 0 and under --poll.interval, 30s",
            ),
            ("--poll.timeout 0s", KEYS, "--poll.timeout is 0s and must be above 0"),
            ("--poll.max-age 29s", KEYS, "--poll.max-age is 29s and must be at least --poll.interval, 30s"),
            ("--poll.max-age 3years", KEYS, "must be under a year"),
            ("--poll.timeout 500000000000years", KEYS, "must be under a year"),
            (
                "--xt.base-url http://api.xt.com",
                KEYS,
                "--xt.base-url: the base URL would send the key in the clear",
            ),
            (
                "--xt.base-url https://a.test --xt.base-url https://A.test/",
                KEYS,
                "--xt.base-url names https://a.test twice: remove one of the two",
            ),
            ("--xt.wallet spot --xt.wallet spot", KEYS, "--xt.wallet names 'spot' twice"),
            (
                "--xt.wallet futures_usdt",
                KEYS,
                "--xt.wallet names 'futures_usdt', which API v1 does not have: it has spot, wallet and fiat. Name one of these, or set --xt.api to v4",
            ),
            (
                "--xt.api v4 --xt.wallet spot --xt.wallet fiat",
                KEYS,
                "--xt.wallet names 'fiat', which API v4 does not have: it has spot, futures_usdt and futures_coin",
            ),
            (
                "--xt.api v4 --xt.wallet futures_usdt --xt.base-url https://a.b",
                KEYS,
                "--xt.base-url is given and --xt.futures-usdt-base-url is not",
            ),
            (
                "--xt.api v4 --xt.wallet futures_coin --xt.futures-coin-base-url https://a.b",
                KEYS,
                "--xt.futures-coin-base-url is given and --xt.base-url is not",
            ),
            ("--balance.watch usdt --balance.watch USDT=5", KEYS, "--balance.watch names 'usdt' twice"),
            ("--balance.watch usdt=", KEYS, "\"\" is no number: write it like usdt=500"),
            ("--balance.watch usdt=nan", KEYS, "must be above 0"),
            ("--balance.watch usdt=0", KEYS, "the threshold of 'usdt' is 0 and must be above 0"),
            ("--balance.watch =5", KEYS, "\"\" is no currency name"),
            ("--balance.watch bank/usdt=5", KEYS, "--balance.watch: \"bank/usdt\": "),
            (
                "--balance.watch fiat/eur=5",
                KEYS,
                "--balance.watch names a currency of wallet 'fiat', which --xt.wallet does not",
            ),
            ("--balance.watch usdt --balance.watch spot/usdt=5", KEYS, "--balance.watch names 'usdt' twice"),
            (
                "--xt.wallet spot --xt.wallet wallet --xt.wallet fiat --poll.interval 1s --poll.timeout 900ms",
                KEYS,
                "the key of account 'main' makes 3.0 calls a second and 2 is the most",
            ),
            ("--config.file /nonexistent.yml", &[], "cannot read --config.file: No such file"),
            ("--config.file x.yml", KEYS, "XT_ACCESS_KEY is set, and --config.file names the keys too"),
        ] {
            let refused = load(line, env).err().unwrap_or_default();
            assert!(refused.contains(said), "{line}: {refused}");
        }
    }

    #[test]
    fn files_are_refused_with_the_remedy() {
        let account =
            |rest: &str| format!("accounts: [{{name: a, access_key_file: k, secret_key_file: s{rest}}}]");
        let twice = "accounts:\n- {name: a, access_key_file: k, secret_key_file: s}\n- {name: a, access_key_file: k2, secret_key_file: s}";
        for (yaml, said) in [
            ("accounts: []".to_owned(), "accounts is empty"),
            (String::new(), "accounts"),
            (format!("pollinterval: 5s\n{ONE}"), "expected one of api"),
            (account(", secret_key: x"), "secret_key"),
            ("accounts: [{name: a, access_key_file: k}]".to_owned(), "secret_key_file"),
            (format!("api: v2\n{ONE}"), "v2"),
            (format!("poll_interval: 30\n{ONE}"), "\"30\" is no duration"),
            (account(", wallets: [Spot]"), "the wallets are spot, wallet and fiat"),
            (account(", wallets: []"), "account 'a': wallets is empty"),
            (account(", base_urls: []"), "account 'a': base_urls is empty"),
            (
                format!("base_urls: [https://a.b]\n{}", account(", api: v4")),
                "account 'a': api is not that of the file, whose base_urls it can therefore not use",
            ),
            (
                format!("api: v4\nbase_urls: [https://a.b]\n{}", account(", wallets: [futures_coin]")),
                "account 'a': base_urls is given and futures_coin_base_urls is not",
            ),
            (
                format!("api: v4\nfutures_usdt_base_urls: [https://a.b]\n{}", account("")),
                "account 'a': futures_usdt_base_urls is given and base_urls is not",
            ),
            (account(", watch: {usdt: 1, USDT: 2}"), "watch names 'usdt' twice"),
            (account(", watch: {spot/usdt: 1, usdt: 2}"), "watch names 'usdt' twice"),
            (account(", watch: {fiat/eur: 1}"), "add it there, or leave 'fiat/' out"),
            (account(", watch: {usdt: -1}"), "the threshold of 'usdt' is -1 and must be above 0"),
            (account(", watch: {usdt: 1, usdt: 2}"), "a key is there twice"),
            (account(", watch: {usdt: 1}, currencies: {exclude: [USDT]}"), "currencies.exclude names 'usdt'"),
            (account(", currencies: {only: ['']}"), "is no currency name"),
            (
                account(", poll_timeout: 40s"),
                "account 'a': poll_timeout is 40s and must be above 0 and under poll_interval, 30s",
            ),
            (account("").replace("k,", "empty,"), "empty is empty"),
            (account("").replace("name: a", "name: \"a\\nb\""), "name must be 1 to 64 bytes"),
            (account("").replace("name: a", "name: ' a'"), "name must be 1 to 64 bytes"),
            (account("").replace("name: a", "name: ''"), "name must be 1 to 64 bytes"),
            (twice.to_owned(), "two accounts are named 'a'"),
            (
                format!("prices: btc\n{ONE}"),
                "prices is \"btc\" and can only be usdt: write that, or leave it out",
            ),
            (account(", prices: usdt"), "prices"),
            (
                format!("prices: usdt\npoll_timeout: 40s\n{}", account(", poll_timeout: 1s")),
                "prices: poll_timeout is 40s and must be above 0 and under poll_interval, 30s",
            ),
            ("accounts: [".to_owned(), "accounts.yml"),
        ] {
            let refused = from_yaml(&yaml).err().unwrap_or_default();
            assert!(refused.contains(said), "{yaml}: {refused}");
        }
    }

    #[test]
    fn a_refusal_is_one_line_that_a_person_can_read_whatever_the_file_says() {
        let account =
            |name: &str| format!("accounts: [{{name: {name}, access_key_file: k, secret_key_file: s}}]");
        let refused = from_yaml(&account("\"a\\n\\e[2J\"")).err().unwrap_or_default();
        assert!(
            refused.ends_with("name must be 1 to 64 bytes without blanks around it or control characters")
        );
        let wallets = ", wallets: [spot, spot]}]";
        let refused = from_yaml(&account("\"é\"").replace("}]", wallets)).err().unwrap_or_default();
        assert!(refused.contains("account 'é': wallets names 'spot' twice"), "{refused:?}");
    }

    #[test]
    fn a_load_the_exchange_would_lock_for_is_refused() {
        let row = |n: usize| format!("- {{name: a{n}, access_key_file: k{n}, secret_key_file: s}}\n");
        let many = |head: &str, count: usize| -> Result<Config, Box<dyn std::error::Error>> {
            let folder = folder()?;
            for n in 0..count {
                fs::write(folder.path().join(format!("k{n}")), format!("key-{n}"))?;
            }
            let path = folder.path().join("accounts.yml");
            fs::write(&path, format!("{head}accounts:\n{}", (0..count).map(row).collect::<String>()))?;
            Ok(load(&format!("--config.file {}", path.display()), &[])?)
        };
        assert!(many("", 450).is_ok(), "900 calls a minute are the most, and allowed");
        assert!(many("prices: usdt\n", 449).is_ok(), "prices are one more call");
        let refused = many("prices: usdt\n", 450).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("the 450 accounts and the prices together make 902 calls"), "{refused}");
        let refused = many("", 451).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(
            refused.contains("the 451 accounts together make 902 calls a minute and 900 is the most"),
            "{refused}"
        );
        let shared = "poll_interval: 1s\npoll_timeout: 500ms\naccounts:\n\
                      - {name: a, access_key_file: k, secret_key_file: s, wallets: [spot, fiat]}\n\
                      - {name: b, access_key_file: k, secret_key_file: s}";
        let refused = from_yaml(shared).err().unwrap_or_default();
        assert!(refused.contains("the key of account 'a', 'b' makes 3.0 calls a second"), "{refused}");
    }
}
