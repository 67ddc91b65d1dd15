//! Commands and their flags. Parses the command line; `config` validates what the flags say about accounts. A command
//! rejects flags that it does not use.

mod flags;
mod listen_address;

use std::{error::Error as _, ffi::OsString};

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

pub use self::flags::{
    AccountFlags, CheckFlags, DemoFlags, HealthcheckFlags, LogFlags, LogFormat, LogLevel, OnceFlags,
    PollFlags, Quote, ServeFlags, SimulateFlags, WebFlags,
};
pub use self::listen_address::ListenAddress;
use crate::quoting::is_quotable;

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
    // Prints what happens in plain words, so that log lines would only repeat it.
    #[command(mut_arg("level", |level| level.default_value("error")))]
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
