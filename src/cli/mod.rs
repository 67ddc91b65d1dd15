//! Commands and their flags. Parses the command line; `config` validates what the flags say about accounts. A command
//! rejects flags that it does not use.

mod errors;
mod flags;
mod generate;
mod listen_address;
mod variables;

use std::{ffi::OsString, io};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};

pub use self::flags::{
    AccessFlags, AccountFlags, CheckFlags, CompletionsFlags, DemoFlags, HealthcheckFlags, LogFlags,
    LogFormat, LogLevel, OnceFlags, PollFlags, Quote, SecondReaderFlags, ServeFlags, Shell, SimulateFlags,
    WebFlags,
};
pub use self::generate::version;
pub use self::listen_address::ListenAddress;

/// What the program's own help explains, in lines that fit every terminal.
const INTRODUCTION: &str = "\
Without a command, it runs `serve`. The flags below are those of `serve`;
`COMMAND --help` lists the flags of another command. Flags can stand before or
after the command.

Each flag has an environment variable (env). The flag wins over the variable.
The variable of a repeatable flag separates the values by commas.";

/// Prometheus exporter for account balances on XT and exchanges with the same API
#[derive(Debug, Parser)]
#[command(
    name = "xt-balance-exporter",
    bin_name = "xt-balance-exporter",
    version,
    propagate_version = true,
    subcommand_required = true
)]
#[command(override_usage = "xt-balance-exporter [COMMAND] [OPTIONS]")]
#[command(help_template = format!("{{about}}\n\n{INTRODUCTION}\n\n{{usage-heading}} {{usage}}\n\n{{all-args}}"))]
#[command(max_term_width = 100, arg_required_else_help = false)]
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
    /// Print the completions for a shell
    Completions(CompletionsFlags),
    /// Print the man page
    Man,
    /// Print the version
    Version,
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
            _ => None,
        }
    }

    /// Whether `--allow-core-dumps` is set.
    #[must_use]
    pub fn allows_core_dumps(&self) -> bool {
        match self {
            Self::Serve(ServeFlags { account, .. })
            | Self::Once(OnceFlags { account, .. })
            | Self::Check(CheckFlags { account, .. }) => account.allow_core_dumps,
            _ => false,
        }
    }
}

/// Parses the command line, program name first.
///
/// # Errors
/// The text to print instead of running a command: help or an error.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let words: Vec<_> = words.into_iter().collect();
    let (command, words) = match move_command_first(words.clone()) {
        // It only prints, like --help: no variable can be wrong for it.
        Some(words) if variables::is_on_command_line(&words, "metrics") => (Cli::command(), words),
        Some(words) => (variables::read_variables(commands(), &words), words),
        None => (definition(), words),
    };
    if let Some(text) = variables::find_empty_item(&command, &words) {
        return Err(command.clone().error(ErrorKind::ValueValidation, text));
    }
    match command.clone().try_get_matches_from(&words) {
        Ok(matches) => Cli::from_arg_matches(&matches).map(|cli| cli.command),
        Err(error) if error.kind() == ErrorKind::DisplayVersion => Ok(Command::Version),
        Err(error) => Err(errors::explain_error(error, &mut { command }, &words)),
    }
}

/// The clap definition of all commands, with the variables of their flags, for help and documents. The program itself
/// has the flags of `serve` too.
#[must_use]
pub fn definition() -> clap::Command {
    let cli = commands();
    let serve = cli.find_subcommand("serve").into_iter().flat_map(clap::Command::get_arguments);
    let flags: Vec<_> = serve.map(|flag| flag.clone().next_line_help(true)).collect();
    cli.args(flags)
}

/// The clap definition of all commands, without flags of the program itself.
fn commands() -> clap::Command {
    variables::add_variables(Cli::command()).mut_subcommands(|command| command.next_line_help(true))
}

/// The completions for a shell.
#[must_use]
pub fn completions(shell: Shell) -> String {
    generate::completions(definition(), shell)
}

/// The man page, for section 1.
///
/// # Errors
/// None in practice: it writes to memory.
pub fn man_page() -> io::Result<String> {
    generate::man_page(definition().long_about(INTRODUCTION))
}

/// A warning for each environment variable of this process that looks like a misspelled one of the program.
#[must_use]
pub fn find_misspelled_variables() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    variables::find_misspelled(&definition(), names)
}

/// The error of a command, with the names of variables instead of those of flags whose values come from variables.
#[must_use]
pub fn name_variables(error: &str) -> String {
    let words = move_command_first(std::env::args_os().collect()).unwrap_or_default();
    let commands = commands();
    let Some(command) = words.get(1).and_then(|word| commands.find_subcommand(word)) else {
        return error.to_owned();
    };
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    variables::name_variables(command, error, &words, is_set)
}

/// Moves the command before the flags, where clap expects it, and inserts `serve` if there is no command. `None` if the
/// words ask for the help or the version of the whole program.
fn move_command_first(mut words: Vec<OsString>) -> Option<Vec<OsString>> {
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
            Some("help" | "version") => return None,
            Some(flag) => match values(flag) {
                Some(values) => place += 1 + values,
                // The next word may be its value or the command. clap reports the unknown flag.
                None => break,
            },
            None if ["-h", "-V", "help"].contains(&&*word) => return None,
            None if word.starts_with('-') => place += 1,
            None => {
                let command = words.remove(place);
                words.insert(1, command);
                return Some(words);
            }
        }
    }
    words.insert(words.len().min(1), "serve".into());
    Some(words)
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
