//! The flags of each command, with their defaults, variables and help texts. Depends on no command.

use std::{path::PathBuf, time::Duration};

use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, StringValueParser, TypedValueParser},
};

use super::listen_address::ListenAddress;
use crate::{
    exchange::{ApiVersion, Share, Wallet},
    shard::ShardFlag,
    web::{self, HostName},
};

/// Flags of `serve`.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct ServeFlags {
    /// Validate the configuration and all files that it names, and exit; connects to nothing
    #[arg(long = "config.check")]
    pub config_check: bool,
    /// List every metric with its type, labels and meaning, and exit
    #[arg(long = "metrics")]
    pub metrics: bool,
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
    #[arg(long = "web.enable-lifecycle", help_heading = "Web")]
    pub enable_lifecycle: bool,
    /// Do not warn if other machines can connect without a password or client certificate
    #[arg(long = "web.allow-insecure", help_heading = "Web")]
    pub allow_insecure: bool,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub log: LogFlags,
}

/// Flags of `demo`.
#[derive(Args, Debug)]
pub struct DemoFlags {
    /// Exit with 0 at the end of the story, after four minutes
    #[arg(long = "once-through")]
    pub once_through: bool,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub web: WebFlags,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub log: LogFlags,
}

/// Flags of `simulate`.
#[derive(Args, Debug)]
pub struct SimulateFlags {
    /// Loopback address to listen on
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8470",
        // The variable of the other commands names the address of an exporter.
        env = "XT_SIMULATE_LISTEN_ADDRESS",
        value_parser = parse_loopback_address
    )]
    pub listen_address: ListenAddress,
}

/// Flags of `completions`.
#[derive(Args, Debug)]
pub struct CompletionsFlags {
    /// Shell that the completions are for
    pub shell: Shell,
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
    pub reader: SecondReaderFlags,
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
    /// Read the permissions of each key, and warn if it can trade or withdraw, has no IP list, or is locked. The answer
    /// of the exchange holds secret keys; check keeps nothing of them
    #[arg(long = "permissions")]
    pub permissions: bool,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub account: AccountFlags,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub reader: SecondReaderFlags,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub log: LogFlags,
}

/// Flags of a command that reads beside a running exporter.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Rate limits")]
pub struct SecondReaderFlags {
    /// Address of a running exporter to ask for a permit before each call
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = "127.0.0.1:10770")]
    pub listen_address: Vec<ListenAddress>,
    /// Use the whole share of the limits, not a quarter of it for each key and a tenth for the IP address: no other
    /// process uses them meanwhile
    #[arg(long = "limits.alone")]
    pub alone: bool,
}

/// Flags of `healthcheck`.
#[derive(Args, Debug)]
pub struct HealthcheckFlags {
    /// Address that the exporter listens on; of several, the first is asked
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = "127.0.0.1:10770")]
    pub listen_address: Vec<ListenAddress>,
    /// URL of the exporter.
    #[arg(
        long = "url",
        value_name = "URL",
        help = "URL of the exporter, such as https://exporter.example.com:10770, instead of the address; needed for TLS"
    )]
    pub url: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub access: AccessFlags,
}

/// Flags for an exporter with TLS or passwords. The names are those of Prometheus' `tls_config` and `basic_auth`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "TLS and password")]
pub struct AccessFlags {
    /// PEM file of certificate authorities that the exporter's certificate may also come from
    #[arg(long = "tls.ca-file", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate; needs --tls.key-file
    #[arg(id = "tls.cert-file", long = "tls.cert-file", value_name = "FILE", requires = "tls.key-file")]
    pub cert_file: Option<PathBuf>,
    /// PEM file of the client certificate's key
    #[arg(id = "tls.key-file", long = "tls.key-file", value_name = "FILE", requires = "tls.cert-file")]
    pub key_file: Option<PathBuf>,
    /// Name in the exporter's certificate, if it is not the host of the URL
    #[arg(long = "tls.server-name", value_name = "NAME")]
    pub server_name: Option<String>,
    /// User of the exporter; needs --basic-auth.password-file
    #[arg(
        id = "basic-auth.username",
        long = "basic-auth.username",
        value_name = "NAME",
        requires = "basic-auth.password-file"
    )]
    pub username: Option<String>,
    /// File that contains the user's password
    #[arg(
        id = "basic-auth.password-file",
        long = "basic-auth.password-file",
        value_name = "FILE",
        requires = "basic-auth.username"
    )]
    pub password_file: Option<PathBuf>,
}

/// Flags that describe the account, or name the file that describes several.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Exchange")]
pub struct AccountFlags {
    /// YAML file that lists the accounts; cannot be combined with --xt, --balance and --poll flags
    #[arg(
        long = "config.file",
        value_name = "FILE",
        help_heading = None::<&str>,
        conflicts_with_all = [
            "xt.api", "xt.base-url", "xt.futures-usdt-base-url", "xt.futures-coin-base-url", "xt.proxy-url", "xt.proxy-credentials-file", "xt.ca-file", "xt.account", "xt.access-key-file", "xt.secret-key-file", "xt.wallet",
            "xt.futures-risk", "xt.prices", "balance.watch", "poll.timeout",
        ],
    )]
    pub config_file: Option<PathBuf>,
    /// The part of the accounts to watch; all of them if `None`.
    #[arg(
        long = "shard",
        value_name = "SHARD",
        help_heading = None::<&str>,
        help = "Watch one of several parts of the accounts, such as 2/5; pod/5 takes the part from the name of a StatefulSet's pod"
    )]
    pub shard: Option<ShardFlag>,
    /// API version; v4 if `None`.
    #[arg(
        id = "xt.api",
        long = "xt.api",
        value_name = "VERSION",
        help = "API version: v4 for a key created at XT today, v1 for a sister exchange [default: v4]",
        value_parser = PossibleValuesParser::new([ApiVersion::V1.label(), ApiVersion::V4.label()]).map(|label| parse_api(&label)),
    )]
    pub api: Option<ApiVersion>,
    /// Base URLs of the exchange; XT's own if empty.
    #[arg(
        id = "xt.base-url",
        long = "xt.base-url",
        value_name = "URL",
        value_parser = list_item_parser(),
        help = "Base URL of the exchange; repeatable, tried in order. http:// only to this machine \
                [default: https://sapi.xt.com; with v1 https://api.xt.com and https://api.xt.pub]"
    )]
    pub base_url: Vec<String>,
    /// Base URLs for USDT-margined futures; XT's own if empty.
    #[arg(
        id = "xt.futures-usdt-base-url",
        long = "xt.futures-usdt-base-url",
        value_name = "URL",
        value_parser = list_item_parser(),
        help = "Base URL for USDT-margined futures; repeatable [default: https://fapi.xt.com]"
    )]
    pub futures_usdt_base_url: Vec<String>,
    /// Base URLs for coin-margined futures; XT's own if empty.
    #[arg(
        id = "xt.futures-coin-base-url",
        long = "xt.futures-coin-base-url",
        value_name = "URL",
        value_parser = list_item_parser(),
        help = "Base URL for coin-margined futures; repeatable [default: https://dapi.xt.com]"
    )]
    pub futures_coin_base_url: Vec<String>,
    /// Base URL of the user center, which only `check --permissions` calls.
    #[arg(
        id = "xt.user-center-base-url",
        long = "xt.user-center-base-url",
        value_name = "URL",
        help = "Base URL of the user center, which only check --permissions calls [default: https://api.xt.com]"
    )]
    pub user_center_base_url: Option<String>,
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
        value_parser = |text: &str| text.trim().parse::<Wallet>(),
        help = "Wallet to read: spot, futures_usdt, futures_coin or earn with v4; spot, wallet or fiat with v1; repeatable"
    )]
    pub wallet: Vec<Wallet>,
    /// Also read the open positions of futures wallets; one more call per interval and futures wallet
    #[arg(id = "xt.futures-risk", long = "xt.futures-risk")]
    pub futures_risk: bool,
    /// Also read prices in this currency, to value the accounts; one public call per interval
    #[arg(id = "xt.prices", long = "xt.prices", value_name = "QUOTE")]
    pub prices: Option<Quote>,
    /// Currency to show always: usdt, usdt=500 to warn below 500 and page below 250, usdt=500:200 to page below 200,
    /// spot/usdt=500 in one wallet only; repeatable
    #[arg(
        id = "balance.watch",
        help_heading = "Balances",
        long = "balance.watch",
        value_name = "[WALLET/]CURRENCY[=WARN[:PAGE]]"
    )]
    pub watch: Vec<String>,
    /// Poll timeout, failover included; shorter than the poll interval
    #[arg(id = "poll.timeout", help_heading = "Polling", display_order = 1, long = "poll.timeout", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Part of the exchange's rate limits that this process takes, such as 1/2 for each of two processes with the same
    /// keys or the same IP address [default: 1]
    #[arg(id = "limits.share", help_heading = "Rate limits", long = "limits.share", value_name = "SHARE", value_parser = parse_share)]
    pub share: Option<Share>,
    /// Allow core dumps when the program crashes; they contain the keys
    #[arg(long = "allow-core-dumps", help_heading = None::<&str>)]
    pub allow_core_dumps: bool,
}

/// When to poll, and how old a balance may become.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Polling")]
pub struct PollFlags {
    /// Time from one poll of an account to the next; at least 1s
    #[arg(
        long = "poll.interval",
        display_order = 0,
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
#[command(next_help_heading = "Web")]
pub struct WebFlags {
    /// Address to listen on; repeatable. Without passwords, everyone who can connect can read the balances
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = "127.0.0.1:10770")]
    pub listen_address: Vec<ListenAddress>,
    /// Listen on the sockets that systemd passes, instead of --web.listen-address
    #[arg(long = "web.systemd-socket")]
    pub systemd_socket: bool,
    /// Host name to accept in requests besides localhost, such as the name of a reverse proxy; repeatable or
    /// comma-separated. If set, all other names are rejected on every address
    #[arg(long = "web.allowed-hosts", value_name = "HOST", value_delimiter = ',')]
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
#[command(next_help_heading = "Logging")]
pub struct LogFlags {
    /// Log level
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    pub level: LogLevel,
    /// Log format
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt")]
    pub format: LogFormat,
}

/// A shell that has completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
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

fn parse_api(label: &str) -> ApiVersion {
    if label == ApiVersion::V4.label() { ApiVersion::V4 } else { ApiVersion::V1 }
}

/// Parses a value of a repeatable flag without the spaces around it: its variable separates the values by commas, and many write a
/// space after a comma.
fn list_item_parser() -> impl TypedValueParser<Value = String> {
    StringValueParser::new().map(|text| text.trim().to_owned())
}

/// The address of `simulate`, which listens on no other addresses than those of this machine.
fn parse_loopback_address(text: &str) -> Result<ListenAddress, String> {
    text.parse().map_err(|_| "write a loopback address and a port, such as 127.0.0.1:8470".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "not a duration: write it like 30s, 1m30s or 500ms".to_owned())
}

fn parse_share(text: &str) -> Result<Share, String> {
    text.parse().map_err(|why: String| why.trim_start_matches("is ").to_owned())
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
