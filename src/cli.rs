//! Commands and their flags. Parses the command line; `config` validates what the flags say about accounts. A command
//! rejects flags that it does not use.

use std::{error::Error as _, ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser as _},
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    exchange::{ApiVersion, Wallet},
    quoting::is_quotable,
    web::{self, HostName},
};

/// Prometheus exporter for account balances on XT and exchanges with the same API.
///
/// Without a command it runs `serve`. Flags can stand before or after the command. `COMMAND --help` lists the flags of a
/// command.
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

/// A command with its flags.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Poll the accounts and serve /metrics; the default command
    Serve(ServeFlags),
    /// Try the exporter with a simulated exchange; needs no keys and no network
    Demo(DemoFlags),
    /// Run only the simulated exchange, to test alerts and other clients
    Simulate(SimulateFlags),
    /// Poll every account once and print the metrics; exit with 1 if a poll failed
    Once(OnceFlags),
    /// Diagnose problems with configuration, DNS, TLS, clock, keys and permissions
    Check(CheckFlags),
    /// Ask a running exporter whether it is healthy; exit with 0 or 1
    Healthcheck(HealthcheckFlags),
}

impl Command {
    /// Log flags; `None` for a command that logs nothing.
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

    /// Whether `--allow-core-dumps` is set.
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
    /// Enable POST /-/reload, which reloads the configuration like SIGHUP does
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
    /// Loopback address to listen on
    #[arg(long = "listen", value_name = "ADDRESS", default_value = "127.0.0.1:8470")]
    pub listen: String,
}

/// Flags of `once`.
#[derive(Args, Debug)]
pub struct OnceFlags {
    /// Write to this file instead of standard output, for a textfile collector; replaces the file atomically
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
pub struct CheckFlags {
    /// Exit with 1 also if there are only warnings, such as a low balance
    #[arg(long = "strict")]
    pub strict: bool,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub account: AccountFlags,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub log: LogFlags,
}

/// Flags of `healthcheck`.
#[derive(Args, Debug)]
pub struct HealthcheckFlags {
    /// Address that the exporter listens on
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:10770",
        env = "XT_WEB_LISTEN_ADDRESS"
    )]
    pub listen_address: String,
}

/// Flags that describe the account, or name the file that describes several.
#[derive(Args, Clone, Debug)]
pub struct AccountFlags {
    /// YAML file that lists the accounts; cannot be combined with --xt, --balance and --poll flags
    #[arg(
        long = "config.file",
        value_name = "FILE",
        conflicts_with_all = [
            "xt.api", "xt.base-url", "xt.futures-usdt-base-url", "xt.futures-coin-base-url", "xt.proxy-url", "xt.proxy-credentials-file", "xt.ca-file", "xt.account", "xt.access-key-file", "xt.secret-key-file", "xt.wallet",
            "xt.prices", "balance.watch", "poll.timeout",
        ],
    )]
    pub config_file: Option<PathBuf>,
    /// API version; v4 if `None`.
    #[arg(
        id = "xt.api",
        long = "xt.api",
        value_name = "VERSION",
        env = "XT_API",
        help = "API version: v4 for a key created at XT today, v1 for a sister exchange [default: v4]",
        value_parser = PossibleValuesParser::new([ApiVersion::V1.label(), ApiVersion::V4.label()]).map(|label| parse_api(&label)),
    )]
    pub api: Option<ApiVersion>,
    /// Base URLs of the exchange; XT's own if empty.
    #[arg(
        id = "xt.base-url",
        long = "xt.base-url",
        value_name = "URL",
        help = "Base URL of the exchange; repeatable, tried in order. http:// only to this machine \
                [default: https://sapi.xt.com; with v1 https://api.xt.com and https://api.xt.pub]"
    )]
    pub base_url: Vec<String>,
    /// Base URLs for USDT-margined futures; XT's own if empty.
    #[arg(
        id = "xt.futures-usdt-base-url",
        long = "xt.futures-usdt-base-url",
        value_name = "URL",
        help = "Base URL for USDT-margined futures; repeatable [default: https://fapi.xt.com]"
    )]
    pub futures_usdt_base_url: Vec<String>,
    /// Base URLs for coin-margined futures; XT's own if empty.
    #[arg(
        id = "xt.futures-coin-base-url",
        long = "xt.futures-coin-base-url",
        value_name = "URL",
        help = "Base URL for coin-margined futures; repeatable [default: https://dapi.xt.com]"
    )]
    pub futures_coin_base_url: Vec<String>,
    /// Proxy for base URLs that are not on this machine.
    #[arg(
        id = "xt.proxy-url",
        long = "xt.proxy-url",
        value_name = "URL",
        help = "Proxy for https:// base URLs, such as http://proxy.example.com:3128; overrides HTTPS_PROXY, ALL_PROXY \
                and NO_PROXY. `direct` uses none"
    )]
    pub proxy_url: Option<String>,
    /// File that contains user:password for the proxy
    #[arg(id = "xt.proxy-credentials-file", long = "xt.proxy-credentials-file", value_name = "FILE")]
    pub proxy_credentials_file: Option<PathBuf>,
    /// PEM file of certificate authorities that the exchange's certificate may also come from
    #[arg(id = "xt.ca-file", long = "xt.ca-file", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Value of the label `account`; choose any name except the key or a login
    #[arg(id = "xt.account", long = "xt.account", value_name = "NAME", default_value = "main")]
    pub account: String,
    /// File that contains the access key.
    #[arg(
        id = "xt.access-key-file",
        long = "xt.access-key-file",
        value_name = "FILE",
        help = "File that contains the access key. Or set XT_ACCESS_KEY_FILE or XT_ACCESS_KEY"
    )]
    pub access_key_file: Option<PathBuf>,
    /// File that contains the secret key.
    #[arg(
        id = "xt.secret-key-file",
        long = "xt.secret-key-file",
        value_name = "FILE",
        help = "File that contains the secret key. Or set XT_SECRET_KEY_FILE or XT_SECRET_KEY"
    )]
    pub secret_key_file: Option<PathBuf>,
    /// Wallets to read.
    #[arg(
        id = "xt.wallet",
        long = "xt.wallet",
        value_name = "WALLET",
        default_value = "spot",
        help = "Wallet to read: spot, futures_usdt or futures_coin with v4; spot, wallet or fiat with v1; repeatable"
    )]
    pub wallet: Vec<Wallet>,
    /// Also read prices in this currency, to value the accounts; one public call per interval
    #[arg(id = "xt.prices", long = "xt.prices", value_name = "QUOTE")]
    pub prices: Option<Quote>,
    /// Currency to show always: usdt, usdt=500 to warn below 500 and page below 250, usdt=500:200 to page below 200,
    /// spot/usdt=500 in one wallet only; repeatable
    #[arg(id = "balance.watch", long = "balance.watch", value_name = "[WALLET/]CURRENCY[=WARN[:PAGE]]")]
    pub watch: Vec<String>,
    /// Poll timeout, failover included; shorter than the poll interval
    #[arg(id = "poll.timeout", long = "poll.timeout", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Allow core dumps when the program crashes; they contain the keys
    #[arg(long = "allow-core-dumps")]
    pub allow_core_dumps: bool,
}

/// When to poll, and how old a balance may become.
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
    /// Hide balances older than this; at least --poll.interval [default: 3 intervals]
    #[arg(long = "poll.max-age", value_name = "DURATION", value_parser = parse_duration, conflicts_with = "config_file")]
    pub max_age: Option<Duration>,
}

/// Flags of the web server.
#[derive(Args, Debug)]
pub struct WebFlags {
    /// Address to listen on; repeatable. Without passwords, everyone who can connect can read the balances
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:10770",
        env = "XT_WEB_LISTEN_ADDRESS"
    )]
    pub listen_address: Vec<String>,
    /// Host name to accept in requests besides localhost, such as the name of a reverse proxy; repeatable or
    /// comma-separated. If set, all other names are rejected on every address
    #[arg(
        long = "web.allowed-hosts",
        value_name = "HOST",
        value_delimiter = ',',
        env = "XT_WEB_ALLOWED_HOSTS"
    )]
    pub allowed_hosts: Vec<HostName>,
    /// YAML file for TLS, client certificates, passwords and headers, in the format of Prometheus' exporter-toolkit
    #[arg(id = "web.config.file", long = "web.config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Path that serves the metrics
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics", value_parser = parse_telemetry_path)]
    pub telemetry_path: String,
    /// Maximum number of concurrent scrapes; further ones get status 503. 0 means no limit
    #[arg(long = "web.max-requests", value_name = "N", default_value_t = 40)]
    pub max_requests: usize,
}

/// Flags of the log, which goes to standard error.
#[derive(Args, Clone, Debug)]
pub struct LogFlags {
    /// Log level
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    pub level: LogLevel,
    /// Log format
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt")]
    pub format: LogFormat,
}

/// The currency of prices.
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

/// Format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs)]
pub enum LogFormat {
    Logfmt,
    Json,
}

/// Parses the command line, program name first.
///
/// # Errors
/// The text to print instead of running a command: help, the version, or an error.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let words = move_command_first(words.into_iter().collect());
    let command = without_empty_variables(Cli::command());
    let matches = command.try_get_matches_from(&words).map_err(|error| explain_error(error, &words))?;
    Cli::from_arg_matches(&matches).map(|cli| cli.command)
}

/// Ignores environment variables that are set to the empty text: Docker Compose does that to variables without a value.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| {
            let ignored = arg.get_env().is_some_and(is_empty);
            if ignored { arg.env(None::<&str>) } else { arg }
        })
        .mut_subcommands(without_empty_variables)
}

/// The clap definition of all commands, to compare documents with.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Moves the command before the flags, where clap expects it, and inserts `serve` if there is no command.
fn move_command_first(mut words: Vec<OsString>) -> Vec<OsString> {
    let cli = Cli::command();
    // Number of words after the flag that are its value; `None` for an unknown flag.
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
                // The next word may be its value or the command. clap reports the unknown flag.
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

/// Replaces an error that repeats text of the user by one that does not, because the text may be a secret. Keeps numbers,
/// durations, and words that resemble a flag or a command. Names the commands that accept a flag.
fn explain_error(error: clap::Error, words: &[OsString]) -> clap::Error {
    let explanation = match error.kind() {
        ErrorKind::UnknownArgument => explain_unknown_flag(&error, words),
        ErrorKind::InvalidSubcommand => explain_unknown_command(&error),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::TooManyValues => {
            explain_invalid_value(&error)
        }
        _ => None,
    };
    match explanation {
        Some(text) => Cli::command().error(error.kind(), text),
        None => error,
    }
}

fn explain_unknown_flag(error: &clap::Error, words: &[OsString]) -> Option<String> {
    let flag = context_text(error, ContextKind::InvalidArg)?;
    let cli = Cli::command();
    let accepts = |command: &&clap::Command| {
        command.get_arguments().any(|arg| arg.get_long().is_some_and(|long| flag == format!("--{long}")))
    };
    let names: Vec<_> =
        cli.get_subcommands().filter(accepts).map(|command| format!("`{}`", command.get_name())).collect();
    if !names.is_empty() {
        let command = words.get(1).and_then(|word| cli.find_subcommand(word)).map(clap::Command::get_name);
        let command = command.unwrap_or("the command");
        return Some(format!("`{command}` does not accept {flag}: it is a flag of {}", names.join(", ")));
    }
    match context_text(error, ContextKind::SuggestedArg) {
        Some(suggestion) if is_typo_of(flag, suggestion) => None,
        Some(suggestion) => Some(format!("unknown flag: did you mean {suggestion}?")),
        None if flag.starts_with('-') => Some("unknown flag".to_owned()),
        None => Some("unexpected argument: write the value of a flag as --flag VALUE".to_owned()),
    }
}

fn explain_unknown_command(error: &clap::Error) -> Option<String> {
    let command = context_text(error, ContextKind::InvalidSubcommand)?;
    let cli = Cli::command();
    let names: Vec<_> = cli.get_subcommands().map(clap::Command::get_name).collect();
    let is_typo = names.iter().any(|name| is_typo_of(command, name))
        && error.get(ContextKind::SuggestedSubcommand).is_some();
    (!is_typo).then(|| format!("unknown command: the commands are {}", names.join(", ")))
}

fn explain_invalid_value(error: &clap::Error) -> Option<String> {
    let flag = context_text(error, ContextKind::InvalidArg)?;
    let value = context_text(error, ContextKind::InvalidValue)?;
    if value.is_empty() || is_quotable(value) {
        return None;
    }
    let why = match (error.kind(), error.get(ContextKind::ValidValue), error.source()) {
        (ErrorKind::TooManyValues, ..) => return Some(format!("'{flag}' takes no value")),
        (_, Some(ContextValue::Strings(values)), _) => format!("possible values: {}", values.join(", ")),
        (_, _, Some(source)) => source.to_string(),
        _ => "see --help".to_owned(),
    };
    Some(format!("invalid value for '{flag}': {why}"))
}

fn context_text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

/// Whether `text` is too close to the known word `suggestion` to hide a secret. Requires that clap found them similar.
fn is_typo_of(text: &str, suggestion: &str) -> bool {
    text.chars().count().abs_diff(suggestion.chars().count()) <= 2
}

fn parse_api(label: &str) -> ApiVersion {
    if label == ApiVersion::V4.label() { ApiVersion::V4 } else { ApiVersion::V1 }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "not a duration: write it like 30s, 1m30s or 500ms".to_owned())
}

fn parse_telemetry_path(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#%\"<>\\".contains(&byte);
    if !text.starts_with('/') || !text.bytes().all(plain) {
        return Err("a path must begin with / and contain no space, quote, <, >, \\, ?, # or %: write one such as /metrics".to_owned());
    }
    if web::is_reserved(text) {
        return Err(
            "this path is reserved: / is the status page, /-/ serves health checks and /api/ balances: choose another, such as /metrics".to_owned()
        );
    }
    if text.split('/').skip(1).any(|segment| ["", ".", ".."].contains(&segment)) {
        return Err("a path must contain no empty segment, . or ..: write one such as /metrics".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        std::iter::once("xt-balance-exporter").chain(line.split_whitespace()).map(OsString::from).collect()
    }

    fn error_text(line: &str) -> String {
        parse(words(line)).err().map(|error| error.render().to_string()).unwrap_or_default()
    }

    #[test]
    fn clap_accepts_the_definition() {
        definition().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves() {
        for line in ["", "--log.level debug", "--log.level=debug", "--config.check"] {
            assert!(matches!(parse(words(line)), Ok(Command::Serve(_))), "{line}: {}", error_text(line));
        }
    }

    #[test]
    fn flags_can_stand_before_or_after_the_command() {
        for line in [
            "once --output x --xt.account once",
            "--output x --xt.account once once",
            "--output=x once --xt.account=once",
        ] {
            let Ok(Command::Once(once)) = parse(words(line)) else { panic!("{line}: {}", error_text(line)) };
            assert_eq!((once.output, &*once.account.account), (Some("x".into()), "once"));
        }
    }

    #[test]
    fn a_flag_of_another_command_is_rejected_with_its_name() {
        for (line, expected) in [
            ("--output x", "`serve` does not accept --output: it is a flag of `once`"),
            (
                "check --web.max-requests 3",
                "`check` does not accept --web.max-requests: it is a flag of `serve`, `demo`",
            ),
            ("demo --xt.account a", "it is a flag of `serve`, `once`, `check`"),
            ("--poll.interval 1m once", "it is a flag of `serve`"),
            ("simulate --config.check", "it is a flag of `serve`"),
            ("healthcheck --log.level debug", "it is a flag of `serve`, `demo`, `once`, `check`"),
        ] {
            assert!(error_text(line).contains(expected), "{line}: {}", error_text(line));
        }
        assert!(
            error_text("serve --xt.acount a").contains("--xt.account"),
            "{}",
            error_text("serve --xt.acount a")
        );
    }

    #[test]
    fn flags_that_the_file_replaces_conflict_with_it() {
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
            assert!(error_text(&line).contains("cannot be used with"), "{line}: {}", error_text(&line));
        }
        assert!(parse(words("--config.file f --web.max-requests 3")).is_ok());
    }

    #[test]
    fn invalid_values_are_rejected_with_the_fix() {
        for (line, expected) in [
            ("--poll.interval 30", "write it like 30s"),
            ("--web.telemetry-path metrics", "must begin with /"),
            ("--web.telemetry-path /%2d/healthy", "must begin with /"),
            ("--web.telemetry-path /api/v1/balances", "is reserved"),
            ("--web.telemetry-path /api/v1/balances/", "is reserved"),
            ("--web.telemetry-path /-/healthy", "is reserved"),
            ("--web.telemetry-path /-", "is reserved"),
            ("--web.telemetry-path //metrics", "contain no empty segment"),
            ("--web.telemetry-path /metrics/", "contain no empty segment"),
            ("--web.telemetry-path /x/../-/healthy", "contain no empty segment"),
            ("--web.telemetry-path /", "is reserved"),
            ("--xt.wallet Spot", "the wallets are spot, wallet and fiat"),
            ("--xt.api v2", "possible values: v1, v4"),
            ("--xt.prices btc", "possible values: usdt"),
            ("--log.level loud", "possible values: error, warn, info, debug, trace"),
            ("sevre", "'serve'"),
            ("--xt.acount once", "'--xt.account'"),
        ] {
            assert!(error_text(line).contains(expected), "{line}: {}", error_text(line));
        }
    }
}
