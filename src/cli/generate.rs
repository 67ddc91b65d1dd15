//! Texts made from the definition of the flags: the version, the completions of shells, and the man page.

use std::{
    any::TypeId,
    env::consts,
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{ValueHint, builder::PossibleValuesParser};
use clap_mangen::Man;

use super::flags::Shell;
use crate::exchange::Wallet;

/// What the build could not find out.
const UNKNOWN: &str = "unknown";

/// The version in the form of Prometheus' programs. Leaves out what the build could not find out.
#[must_use]
pub fn version() -> String {
    let mut text = format!("xt-balance-exporter, version {}", env!("CARGO_PKG_VERSION"));
    let source = [("branch", env!("XT_BRANCH")), ("revision", env!("XT_REVISION"))];
    let known = source.iter().filter(|(_, value)| *value != UNKNOWN);
    let known: Vec<_> = known.map(|(name, value)| format!("{name}: {value}")).collect();
    if !known.is_empty() {
        let _ = write!(text, " ({})", known.join(", "));
    }
    // As in the names of the tarballs of Prometheus' programs.
    let architecture = match consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let platform = format!("{}/{architecture}", consts::OS);
    for (name, value) in [("rustc version:", env!("XT_RUSTVERSION")), ("platform:", &platform)] {
        let _ = write!(text, "\n  {name:<18}{value}");
    }
    text + "\n"
}

/// The completions of `definition` for a shell.
pub(super) fn completions(definition: clap::Command, shell: Shell) -> String {
    let mut definition = offer_values(definition);
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let name = definition.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition, name, &mut script);
    // clap_complete spells a name with hyphens in two ways, so that bash completes no flag after a command (clap issue 6421).
    let script = String::from_utf8_lossy(&script);
    let script = script.replace("xt__subcmd__balance__subcmd__exporter", "xt__balance__exporter");
    // bash splits `--flag=value` into three words.
    let previous_word = "    prev=\"$3\"\n";
    let skip_equals = "    if [[ \"${prev}\" == \"=\" ]]; then prev=\"${COMP_WORDS[COMP_CWORD-2]}\"; fi\n";
    script.replace(previous_word, &format!("{previous_word}{skip_equals}"))
}

/// Makes shells offer the wallets, and names of files only for flags that take a file.
fn offer_values(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            if arg.get_long() == Some("xt.wallet") {
                return arg.value_parser(PossibleValuesParser::new(Wallet::ALL.map(Wallet::label)));
            }
            let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
            let is_free = arg.get_action().takes_values() && !is_path && arg.get_possible_values().is_empty();
            if is_free { arg.value_hint(ValueHint::Other) } else { arg }
        })
        .mut_subcommands(offer_values)
}

/// The man page of `definition`, for section 1.
///
/// # Errors
/// None in practice: it writes to memory.
pub(super) fn man_page(definition: clap::Command) -> io::Result<String> {
    let mut definition = with_plain_help(definition.disable_help_subcommand(true));
    definition.build();
    let commands: Vec<_> = definition.get_subcommands().cloned().collect();
    let man = Man::new(definition);
    let mut page = Vec::new();
    // Without a date, which would differ from build to build.
    let version = env!("CARGO_PKG_VERSION");
    writeln!(
        page,
        ".TH XT\\-BALANCE\\-EXPORTER 1 \"\" \"xt\\-balance\\-exporter {version}\" \"User Commands\""
    )?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    page.write_all(b".SH COMMANDS\n")?;
    for command in &commands {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(page, ".TP\n\\fB{}\\fR\n{}", roff_text(command.get_name()), roff_text(&about))?;
    }
    page.write_all(&options(&man, "OPTIONS")?)?;
    let (serve, others): (Vec<_>, Vec<_>) =
        commands.into_iter().partition(|command| command.get_name() == "serve");
    let shown: Vec<_> = serve.iter().flat_map(clap::Command::get_arguments).collect();
    for command in others {
        let is_new = |arg: &&clap::Arg| !shown.iter().any(|shown| is_same_flag(shown, arg));
        let new: Vec<_> = command.get_arguments().filter(is_new).cloned().collect();
        if !new.is_empty() {
            let heading = format!("OPTIONS OF {}", command.get_name().to_uppercase());
            let mut command = clap::Command::new("").disable_help_flag(true).args(new);
            command.build();
            page.write_all(&options(&Man::new(command), &heading)?)?;
        }
    }
    page.write_all(END.as_bytes())?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// The sections after the flags.
const END: &str = "\
.SH EXIT STATUS
0 for success, 1 for a failure, 2 for an invalid flag, variable or configuration.
.SH SIGNALS
SIGHUP reloads the file of \\fB\\-\\-config.file\\fR. SIGTERM and SIGINT end the program.
.SH ENVIRONMENT
Each flag has a variable, which the lists above name. The flag wins. The variable of a repeatable flag holds its values with
commas between them. \\fBXT_ACCESS_KEY\\fR and \\fBXT_SECRET_KEY\\fR can hold the keys instead of files.
";

/// The options of a command: one section under `heading`, with a part for each heading of the flags.
fn options(man: &Man, heading: &str) -> io::Result<Vec<u8>> {
    let mut section = Vec::new();
    man.render_options_section(&mut section)?;
    let section = String::from_utf8_lossy(&section);
    // Without a heading of their own, flags come first.
    let mut text = format!(".SH \"{heading}\"\n");
    for line in section.lines().filter(|line| *line != ".SH OPTIONS") {
        let _ = match line.strip_prefix(".SH ") {
            Some(part) => writeln!(text, ".SS {}", capitalize(part)),
            None => writeln!(text, "{line}"),
        };
    }
    Ok(text.into_bytes())
}

/// Moves variables and possible values into the help texts, as `--help` shows them: the man page's own way leaves the first
/// out and writes the second as long lists.
fn with_plain_help(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            if let Some(name) = arg.get_env() {
                let _ = write!(help, " [env: {}]", name.display());
            }
            if !arg.get_action().takes_values() {
                return arg.help(help);
            }
            let values = arg.get_possible_values();
            let values: Vec<_> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
            if !values.is_empty() {
                let _ = write!(help, " [possible values: {}]", values.join(", "));
            }
            arg.help(help).hide_possible_values(true)
        })
        .mut_subcommands(with_plain_help)
}

/// Whether two flags have the same name and the same default.
fn is_same_flag(one: &clap::Arg, other: &clap::Arg) -> bool {
    one.get_long() == other.get_long() && one.get_default_values() == other.get_default_values()
}

/// The word with only its first letter in upper case.
fn capitalize(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + &letters.as_str().to_lowercase()
    })
}

/// Escapes text for roff.
fn roff_text(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}
