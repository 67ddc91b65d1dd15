//! Every flag and command, in one place. Reads words; what they mean for accounts is settled in
//! `config`. A flag that a command has no use for is refused there and then.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser as _},
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    exchange::{ApiVersion, Wallet},
    quoting,
    web::{self, HostName},
};

/// Prometheus exporter for the balances of accounts on XT and exchanges with the same API.
///
/// Without a command it serves. Every flag may stand before or after the command; `COMMAND --help`
/// lists the flags of a command.
#[derive(Debug, Parser)]
#[command(name = "xt-balance-exporter", version, subcommand_required = true)]
#[command(override_usage = "xt-balance-exporter [COMMAND] [OPTIONS]")]
#[command(max_term_width = 100, arg_required_else_help = false, disable_help_subcommand = true)]
#[command(long_version = concat!(
    env!("CARGO_PKG_VERSION"), " (revision ", env!("XT_REVISION"), ", rustc ", env!("XT_RUSTVERSION"), ")"
))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Poll the accounts and serve /metrics: the daemon, and what is done without a command
    Serve(ServeFlags),
    /// The same daemon on a simulated exchange in the same process: no keys, no network
    Demo(DemoFlags),
    /// The simulated exchange alone, for alert fire-drills and other clients
    Simulate(SimulateFlags),
    /// Poll every account once and print the metrics; exit 1 if a poll failed
    Once(OnceFlags),
    /// Find out why it does not work: configuration, name, TLS, clock, key, permission
    Check(CheckFlags),
    /// Ask a running daemon whether it is healthy; exit 0 or 1
    Healthcheck(HealthcheckFlags),
}

impl Command {
    /// What to log, if the command logs anything.
    #[must_use]
    pub fn log(&self) -> Option<&LogFlags> {
        match self {
            Self::Serve(ServeFlags { log, .. })
            | Self::Demo(DemoFlags { log, .. })
            | Self::Once(OnceFlags { log, .. })
            | Self::Check(CheckFlags { log, .. }) => Some(log),
            Self::Simulate(_) | Self::Healthcheck(_) => None,
        }
    }

    /// Whether the user permits core dumps.
    #[must_use]
    pub fn allows_core_dumps(&self) -> bool {
        match self {
            Self::Serve(ServeFlags { account, .. })
            | Self::Once(OnceFlags { account, .. })
            | Self::Check(CheckFlags { account, .. }) => account.allow_core_dumps,
            Self::Demo(_) | Self::Simulate(_) | Self::Healthcheck(_) => false,
        }
    }
}

/// Flags of `serve`.
#[derive(Args, Debug)]
pub struct ServeFlags {
    /// Validate the configuration and exit
    #[arg(long = "config.check")]
    pub config_check: bool,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub account: AccountFlags,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub poll: PollFlags,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub web: WebFlags,
    /// Let a POST to /-/reload have the configuration read again, as SIGHUP does
    #[arg(long = "web.enable-lifecycle")]
    pub enable_lifecycle: bool,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub log: LogFlags,
}

/// Flags of `demo`.
#[derive(Args, Debug)]
#[expect(missing_docs)]
pub struct DemoFlags {
    #[command(flatten)]
    pub web: WebFlags,
    #[command(flatten)]
    pub log: LogFlags,
}

/// Flags of `simulate`.
#[derive(Args, Debug)]
pub struct SimulateFlags {
    /// Where the simulated exchange listens; an address of this machine
    #[arg(long = "listen", value_name = "ADDRESS", default_value = "127.0.0.1:8470")]
    pub listen: String,
}

/// Flags of `once`.
#[derive(Args, Debug)]
pub struct OnceFlags {
    /// Write to this file, whole or not at all, instead of standard output: for a textfile collector
    #[arg(long = "output", value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub account: AccountFlags,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub log: LogFlags,
}

/// Flags of `check`.
#[derive(Args, Debug)]
#[expect(missing_docs)]
pub struct CheckFlags {
    #[command(flatten)]
    pub account: AccountFlags,
    #[command(flatten)]
    pub log: LogFlags,
}

/// Flags of `healthcheck`.
#[derive(Args, Debug)]
pub struct HealthcheckFlags {
    /// Where the daemon listens
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:10770",
        env = "XT_WEB_LISTEN_ADDRESS"
    )]
    pub listen_address: String,
}

/// Which accounts to ask for, and how to ask.
#[derive(Args, Clone, Debug)]
pub struct AccountFlags {
    /// YAML file with any number of accounts; takes the place of the --xt, --balance and --poll flags
    #[arg(
        long = "config.file",
        value_name = "FILE",
        conflicts_with_all = [
            "xt.api", "xt.base-url", "xt.futures-usdt-base-url", "xt.futures-coin-base-url", "xt.account", "xt.access-key-file", "xt.secret-key-file", "xt.wallet",
            "xt.prices", "balance.watch", "poll.timeout",
        ],
    )]
    pub config_file: Option<PathBuf>,
    /// Version of the exchange's API: v4 for a key made at XT today, v1 for a sister exchange
    #[arg(
        id = "xt.api",
        long = "xt.api",
        value_name = "VERSION",
        default_value = "v1",
        value_parser = PossibleValuesParser::new([ApiVersion::V1.label(), ApiVersion::V4.label()]).map(|label| parse_api(&label)),
    )]
    pub api: ApiVersion,
    /// Where the exchange listens; the exchange's own hosts if empty.
    #[arg(
        id = "xt.base-url",
        long = "xt.base-url",
        value_name = "URL",
        help = "Where the exchange listens; repeatable, tried in order. Plain http:// only to this machine \
                [default: https://api.xt.com and https://api.xt.pub; with v4 https://sapi.xt.com]"
    )]
    pub base_url: Vec<String>,
    /// Where USDT-margined futures listen; the exchange's own hosts if empty.
    #[arg(
        id = "xt.futures-usdt-base-url",
        long = "xt.futures-usdt-base-url",
        value_name = "URL",
        help = "Where USDT-margined futures listen; repeatable [default: https://fapi.xt.com]"
    )]
    pub futures_usdt_base_url: Vec<String>,
    /// Where coin-margined futures listen; the exchange's own hosts if empty.
    #[arg(
        id = "xt.futures-coin-base-url",
        long = "xt.futures-coin-base-url",
        value_name = "URL",
        help = "Where coin-margined futures listen; repeatable [default: https://dapi.xt.com]"
    )]
    pub futures_coin_base_url: Vec<String>,
    /// Name of the account: the value of the label `account`, never the key or a login
    #[arg(id = "xt.account", long = "xt.account", value_name = "NAME", default_value = "main")]
    pub account: String,
    /// File that holds the access key. Or set `XT_ACCESS_KEY_FILE` or `XT_ACCESS_KEY`
    #[arg(id = "xt.access-key-file", long = "xt.access-key-file", value_name = "FILE")]
    pub access_key_file: Option<PathBuf>,
    /// File that holds the secret key. Or set `XT_SECRET_KEY_FILE` or `XT_SECRET_KEY`
    #[arg(id = "xt.secret-key-file", long = "xt.secret-key-file", value_name = "FILE")]
    pub secret_key_file: Option<PathBuf>,
    /// Wallet to read: spot, wallet or fiat, with v4 spot, `futures_usdt` or `futures_coin`; repeatable
    #[arg(id = "xt.wallet", long = "xt.wallet", value_name = "WALLET", default_value = "spot")]
    pub wallet: Vec<Wallet>,
    /// Also read what currencies cost in usdt, with one public call an interval, to tell what the
    /// account is worth
    #[arg(id = "xt.prices", long = "xt.prices", value_name = "QUOTE")]
    pub prices: Option<Quote>,
    /// Currency that is always shown, perhaps with a low-water mark: usdt or usdt=500, in all wallets,
    /// or spot/usdt=500 in one; repeatable
    #[arg(id = "balance.watch", long = "balance.watch", value_name = "[WALLET/]CURRENCY[=AMOUNT]")]
    pub watch: Vec<String>,
    /// The most time a poll may take, failover included; under the interval
    #[arg(id = "poll.timeout", long = "poll.timeout", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Allow core dumps when the program crashes. They contain the keys
    #[arg(long = "allow-core-dumps")]
    pub allow_core_dumps: bool,
}

/// When to ask, and how long an answer is good for.
#[derive(Args, Clone, Debug)]
pub struct PollFlags {
    /// Time from one poll of an account to the next; at least 1s
    #[arg(
        long = "poll.interval",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = parse_duration,
        conflicts_with = "config_file",
    )]
    pub interval: Duration,
    /// From this age on a balance is unknown and not shown; at least the interval [default: 3 intervals]
    #[arg(long = "poll.max-age", value_name = "DURATION", value_parser = parse_duration, conflicts_with = "config_file")]
    pub max_age: Option<Duration>,
}

/// How to serve.
#[derive(Args, Debug)]
pub struct WebFlags {
    /// Where to listen; repeatable. Balances are private: whoever reaches it can read them
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:10770",
        env = "XT_WEB_LISTEN_ADDRESS"
    )]
    pub listen_address: Vec<String>,
    /// Host name that requests may be for beside localhost, such as that of a reverse proxy; repeatable, or with
    /// commas. If given, other names are refused on every address
    #[arg(
        long = "web.allowed-hosts",
        value_name = "HOST",
        value_delimiter = ',',
        env = "XT_WEB_ALLOWED_HOSTS"
    )]
    pub allowed_hosts: Vec<HostName>,
    /// YAML file for TLS, clients' certificates, passwords and headers: that of Prometheus' exporter-toolkit
    #[arg(id = "web.config.file", long = "web.config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Path of the metrics
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics", value_parser = parse_telemetry_path)]
    pub telemetry_path: String,
    /// Scrapes answered at the same time; more get a 503. 0 for no limit
    #[arg(long = "web.max-requests", value_name = "N", default_value_t = 40)]
    pub max_requests: usize,
}

/// What is logged to standard error, and how.
#[derive(Args, Clone, Debug)]
pub struct LogFlags {
    /// Least severe level that is logged
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    pub level: LogLevel,
    /// How a line is written
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt")]
    pub format: LogFormat,
}

/// What prices are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs)]
pub enum Quote {
    Usdt,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs)]
pub enum LogFormat {
    Logfmt,
    Json,
}

/// Reads the command line, program name first.
///
/// # Errors
/// What there is to print instead of running: help, the version, or what is wrong.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let words = move_command_first(words.into_iter().collect());
    let command = without_empty_variables(Cli::command());
    let matches = command.try_get_matches_from(&words).map_err(|error| explain_error(error, &words))?;
    Cli::from_arg_matches(&matches).map(|cli| cli.command)
}

/// The command, where environment variables that are set and empty count as unset: Compose sets them so.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| {
            let ignored = arg.get_env().is_some_and(is_empty);
            if ignored { arg.env(None::<&str>) } else { arg }
        })
        .mut_subcommands(without_empty_variables)
}

/// Every command's clap definition, to hold documents against.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Moves the command's name in front of the flags, where clap wants it, and names `serve` where
/// there is none.
fn move_command_first(mut words: Vec<OsString>) -> Vec<OsString> {
    let cli = Cli::command();
    // How many words after a flag are its own, if there is such a flag.
    let values = |flag: &str| {
        let mut args = cli.get_subcommands().flat_map(clap::Command::get_arguments);
        let (name, given) = flag.split_once('=').map_or((flag, false), |(name, _)| (name, true));
        let arg = args.find(|arg| arg.get_long() == Some(name))?;
        Some(usize::from(arg.get_action().takes_values() && !given))
    };
    let mut place = 1;
    while let Some(word) = words.get(place).map(|word| word.to_string_lossy().into_owned()) {
        match word.strip_prefix("--") {
            Some("") => break,
            Some("help" | "version") => return words,
            Some(flag) => match values(flag) {
                Some(values) => place += 1 + values,
                // The next word may be its value or the command: it is the flag that is wrong.
                None => break,
            },
            None if word == "-h" || word == "-V" => return words,
            None if word.starts_with('-') => place += 1,
            None => {
                let command = words.remove(place);
                words.insert(1, command);
                return words;
            }
        }
    }
    words.insert(words.len().min(1), "serve".into());
    words
}

/// Says whose flag it is, when a command refuses another's.
fn explain_error(error: clap::Error, words: &[OsString]) -> clap::Error {
    without_typed_text(with_advice(error, words))
}

/// The error without text that may be a secret: a value in the wrong place, or one that was pasted behind a flag.
fn without_typed_text(mut error: clap::Error) -> clap::Error {
    let is_flag = |text: &str| {
        text.starts_with("--") && text.bytes().all(|byte| byte.is_ascii_lowercase() || b"-._".contains(&byte))
    };
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidValue, ContextKind::InvalidSubcommand] {
        let Some(ContextValue::String(text)) = error.get(kind) else { continue };
        // The name of a flag that there is comes with that of its value.
        let is_known = kind == ContextKind::InvalidArg && error.kind() != ErrorKind::UnknownArgument;
        if !is_known && !is_flag(text) && !quoting::is_short(text) {
            error.insert(kind, ContextValue::String("…".to_owned()));
        }
    }
    error
}

fn with_advice(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg).cloned() else { return error };
    let cli = Cli::command();
    let has = |command: &&clap::Command| {
        command.get_arguments().any(|arg| arg.get_long().is_some_and(|long| flag == format!("--{long}")))
    };
    let owners: Vec<_> =
        cli.get_subcommands().filter(has).map(|command| format!("`{}`", command.get_name())).collect();
    let command = words.get(1).map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    if !owners.is_empty() && !command.starts_with('-') {
        let advice = format!("`{command}` has no use for it: it is a flag of {}", owners.join(", "));
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![advice.into()]));
    }
    error
}

fn parse_api(label: &str) -> ApiVersion {
    if label == ApiVersion::V4.label() { ApiVersion::V4 } else { ApiVersion::V1 }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "it is no duration: write it like 30s, 1m30s or 500ms".to_owned())
}

fn parse_telemetry_path(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#%\"<>\\".contains(&byte);
    if !text.starts_with('/') || !text.bytes().all(plain) {
        return Err("a path begins with / and holds no blank, ?, # or %, like /metrics".to_owned());
    }
    if web::is_reserved(text) {
        return Err(
            "that path is taken: / is the status page, /-/ is for health and /api/ for balances".to_owned()
        );
    }
    if text.split('/').skip(1).any(|segment| ["", ".", ".."].contains(&segment)) {
        return Err("a path has no empty segment, no . and no .., like /metrics".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        std::iter::once("xt-balance-exporter").chain(line.split_whitespace()).map(OsString::from).collect()
    }

    fn refusal(line: &str) -> String {
        parse(words(line)).err().map(|error| error.render().to_string()).unwrap_or_default()
    }

    #[test]
    fn clap_finds_no_fault_with_the_definition() {
        definition().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves() {
        for line in ["", "--log.level debug", "--log.level=debug", "--config.check"] {
            assert!(matches!(parse(words(line)), Ok(Command::Serve(_))), "{line}: {}", refusal(line));
        }
    }

    #[test]
    fn flags_stand_before_or_after_the_command() {
        for line in [
            "once --output x --xt.account once",
            "--output x --xt.account once once",
            "--output=x once --xt.account=once",
        ] {
            let Ok(Command::Once(once)) = parse(words(line)) else { panic!("{line}: {}", refusal(line)) };
            assert_eq!((once.output, &*once.account.account), (Some("x".into()), "once"));
        }
    }

    #[test]
    fn a_flag_that_a_command_has_no_use_for_is_refused_by_name() {
        for (line, said) in [
            ("--output x", "`serve` has no use for it: it is a flag of `once`"),
            ("check --web.max-requests 3", "`check` has no use for it: it is a flag of `serve`, `demo`"),
            ("demo --xt.account a", "it is a flag of `serve`, `once`, `check`"),
            ("--poll.interval 1m once", "it is a flag of `serve`"),
            ("simulate --config.check", "it is a flag of `serve`"),
            ("healthcheck --log.level debug", "it is a flag of `serve`, `demo`, `once`, `check`"),
        ] {
            assert!(refusal(line).contains(said), "{line}: {}", refusal(line));
        }
        assert!(
            refusal("serve --xt.acount a").contains("--xt.account"),
            "{}",
            refusal("serve --xt.acount a")
        );
    }

    #[test]
    fn what_the_file_says_is_not_said_by_flags_too() {
        for flag in [
            "--xt.account a",
            "--xt.base-url https://a.b",
            "--xt.access-key-file f",
            "--xt.secret-key-file f",
            "--xt.wallet spot",
            "--xt.prices usdt",
            "--balance.watch usdt",
            "--poll.interval 1m",
            "--poll.timeout 5s",
            "--poll.max-age 5m",
            "--xt.api v1",
            "--xt.futures-usdt-base-url https://a.b",
            "--xt.futures-coin-base-url https://a.b",
        ] {
            let line = format!("--config.file f {flag}");
            assert!(refusal(&line).contains("cannot be used with"), "{line}: {}", refusal(&line));
        }
        assert!(parse(words("--config.file f --web.max-requests 3")).is_ok());
    }

    #[test]
    fn values_are_refused_with_the_remedy() {
        for (line, said) in [
            ("--poll.interval 30", "write it like 30s"),
            ("--web.telemetry-path metrics", "begins with /"),
            ("--web.telemetry-path /%2d/healthy", "begins with /"),
            ("--web.telemetry-path /api/v1/balances", "is taken"),
            ("--web.telemetry-path /api/v1/balances/", "is taken"),
            ("--web.telemetry-path /-/healthy", "is taken"),
            ("--web.telemetry-path /-", "is taken"),
            ("--web.telemetry-path //metrics", "no empty segment"),
            ("--web.telemetry-path /metrics/", "no empty segment"),
            ("--web.telemetry-path /x/../-/healthy", "no empty segment"),
            ("--web.telemetry-path /", "is taken"),
            ("--xt.wallet Spot", "the wallets are spot, wallet and fiat"),
            ("--xt.api v2", "possible values: v1, v4"),
            ("--xt.prices btc", "possible values: usdt"),
            ("--log.level loud", "possible values: error, warn, info, debug, trace"),
            ("sevre", "'serve'"),
            ("--xt.acount once", "'--xt.account'"),
        ] {
            assert!(refusal(line).contains(said), "{line}: {}", refusal(line));
        }
    }
}
