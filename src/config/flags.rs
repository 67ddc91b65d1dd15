//! The configuration that flags and environment variables describe, or the file that `--config.file` names. May
//! block: key files can be on a network file system.

use std::path::Path;

use zeroize::Zeroizing;

use super::{
    Config, ConfigError,
    file::{self, ProcessPart},
    load::ConfiguredShare,
    routes::{Env, ProxyEnvironment, RouteSettingNames, RouteSettings, Routes},
    validate::{
        self, DEFAULT_INTERVAL, SHARE_FLAG, SettingNames, UnvalidatedAccount, UnvalidatedCurrencies,
        UnvalidatedRisk, UnvalidatedTiming, UnvalidatedUrls,
    },
    watch::parse_watch_flag,
};
use crate::{
    cli::{AccountFlags, PollFlags, Quote},
    clock::UnixTime,
    exchange::{Egress, KeyHalf, KeySource, Secret, Share},
    quoting::quote_existing_path,
    shard::{Shard, ShardFlag},
    snapshot::store::AccountLabels,
};

/// Where the command line and the environment may give one half of the key pair.
struct KeyHalfSettings {
    /// The half's name in errors.
    half: &'static str,
    flag: &'static str,
    file_variable: &'static str,
    variable: &'static str,
}

const ACCESS_KEY: KeyHalfSettings = KeyHalfSettings {
    half: "access key",
    flag: "--xt.access-key-file",
    file_variable: "XT_ACCESS_KEY_FILE",
    variable: "XT_ACCESS_KEY",
};

const SECRET_KEY: KeyHalfSettings = KeyHalfSettings {
    half: "secret key",
    flag: "--xt.secret-key-file",
    file_variable: "XT_SECRET_KEY_FILE",
    variable: "XT_SECRET_KEY",
};

const FLAG_NAMES: SettingNames = SettingNames {
    api: "--xt.api",
    base_url: "--xt.base-url",
    futures_usdt: "--xt.futures-usdt-base-url",
    futures_coin: "--xt.futures-coin-base-url",
    user_center: "--xt.user-center-base-url",
    route: RouteSettingNames {
        proxy_url: "--xt.proxy-url",
        proxy_credentials_file: "--xt.proxy-credentials-file",
        ca_file: "--xt.ca-file",
    },
    wallet: "--xt.wallet",
    futures_risk: "--xt.futures-risk",
    watch: "--balance.watch",
    interval: "--poll.interval",
    timeout: "--poll.timeout",
    max_age: "--poll.max-age",
    share: SHARE_FLAG,
};

impl Config {
    /// Loads the configuration from the flags, the file that they may name, and the environment. `poll` is `None`
    /// for commands that poll only once. `now` is the current Unix time. May block.
    ///
    /// # Errors
    /// The first error found.
    pub fn load(
        flags: &AccountFlags,
        poll: Option<&PollFlags>,
        env: Env<'_>,
        now: UnixTime,
    ) -> Result<Self, ConfigError> {
        let Some(path) = &flags.config_file else { return from_flags(flags, poll, env, now) };
        let shard = flags.shard.map_or(Ok(Shard::default()), |shard| resolve_shard(shard, env))?;
        let variables =
            [ACCESS_KEY, SECRET_KEY].into_iter().flat_map(|half| [half.file_variable, half.variable]);
        match variables.into_iter().find(|name| env(name).is_some()) {
            Some(name) => Err(ConfigError(format!(
                "{name} is set, but the file of --config.file{} names the key files: unset {name}, or remove --config.file",
                quote_existing_path(path)
            ))),
            None => file::load(path, env, ProcessPart { shard, share: flags.share }, now),
        }
    }
}

fn resolve_shard(shard: ShardFlag, env: Env<'_>) -> Result<Shard, ConfigError> {
    let pod_name = env("POD_NAME").map_or_else(
        || rustix::system::uname().nodename().to_string_lossy().into_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    shard.resolve(&pod_name).map_err(|why| ConfigError(format!("--shard {why}")))
}

fn from_flags(
    flags: &AccountFlags,
    poll: Option<&PollFlags>,
    env: Env<'_>,
    now: UnixTime,
) -> Result<Config, ConfigError> {
    if flags.shard.is_some() {
        return Err(ConfigError(
            "--shard divides the accounts of a file, but --config.file is not set: set it, or remove --shard"
                .to_owned(),
        ));
    }
    validate::check_account_name(&flags.account)
        .map_err(|error| ConfigError(format!("--xt.account {error}")))?;
    let watch = flags.watch.iter().map(|text| parse_watch_flag(text)).collect::<Result<_, _>>();
    let watch = watch.map_err(|why| ConfigError(format!("{}: {why}", FLAG_NAMES.watch)))?;
    let timing = UnvalidatedTiming {
        // `once` and `check` have no interval: it must only be longer than the timeout.
        interval: poll.map_or(DEFAULT_INTERVAL.max(flags.timeout.saturating_mul(2)), |poll| poll.interval),
        timeout: flags.timeout,
        max_age: poll.and_then(|poll| poll.max_age),
    };
    let account = UnvalidatedAccount {
        context: String::new(),
        settings: &FLAG_NAMES,
        name: &flags.account,
        labels: AccountLabels::default(),
        api: flags.api,
        urls: UnvalidatedUrls {
            base: non_empty(&flags.base_url),
            futures_usdt: non_empty(&flags.futures_usdt_base_url),
            futures_coin: non_empty(&flags.futures_coin_base_url),
            user_center: flags.user_center_base_url.as_deref(),
        },
        routes: RouteSettings {
            proxy_url: flags.proxy_url.as_deref(),
            proxy_credentials_file: flags.proxy_credentials_file.as_deref(),
            ca_file: flags.ca_file.as_deref(),
        },
        egress: Egress::default(),
        wallets: flags.wallet.clone(),
        watch,
        currencies: UnvalidatedCurrencies::default(),
        risk: UnvalidatedRisk { is_enabled: flags.futures_risk, ..UnvalidatedRisk::default() },
        timing,
    };
    let keys = KeySource {
        access: ACCESS_KEY.find_source(flags.access_key_file.as_deref(), env)?,
        secret: SECRET_KEY.find_source(flags.secret_key_file.as_deref(), env)?,
    };
    let mut routes = Routes::new(ProxyEnvironment::read(env), Path::new(""));
    let accounts = vec![account.validate(keys, &mut routes, now)?];
    let prices_timing = flags.prices.map(|Quote::Usdt| timing);
    let taken = ConfiguredShare { share: flags.share.unwrap_or(Share::ALL), setting: SHARE_FLAG };
    validate::build_config(accounts, Shard::default(), prices_timing, taken, &FLAG_NAMES)
}

/// `None` for a flag that is not given.
fn non_empty(values: &[String]) -> Option<&[String]> {
    Some(values).filter(|values| !values.is_empty())
}

impl KeyHalfSettings {
    /// Finds the only source of this half. `file` is the value of its flag.
    fn find_source(&self, file: Option<&Path>, env: Env<'_>) -> Result<KeyHalf, ConfigError> {
        let Self { half, flag, file_variable, variable } = *self;
        let from_flag = file.map(|path| (flag, KeyHalf::File(path.to_owned())));
        let from_file = env(file_variable).map(|path| (file_variable, KeyHalf::File(path.into())));
        let from_value = match env(variable) {
            Some(value) => {
                // A value that is not UTF-8 is rejected like any other character that is not visible ASCII.
                let value = Zeroizing::new(value.into_string().unwrap_or_else(|_| "\u{0}".to_owned()));
                let secret = Secret::new(&value).map_err(|why| ConfigError(format!("{variable} {why}")))?;
                Some((variable, KeyHalf::Given(secret)))
            }
            None => None,
        };
        let mut sources = [from_flag, from_file, from_value].into_iter().flatten();
        match (sources.next(), sources.next()) {
            (Some((_, source)), None) => Ok(source),
            (Some((first, _)), Some((second, _))) => {
                Err(ConfigError(format!("{first} and {second} both set the {half}: remove one of them")))
            }
            (None, _) => Err(ConfigError(format!(
                "no {half}: set {flag} FILE, {file_variable} or {variable}. For several accounts use --config.file FILE; to try the exporter without a key run the command demo"
            ))),
        }
    }
}
