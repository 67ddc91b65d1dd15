//! The environment variables of flags: each flag has one. A flag on the command line wins over its variable.

use std::{
    env,
    ffi::{OsStr, OsString},
};

use clap::{Arg, ArgAction};

/// Flags without a variable. `config` reads those of the key files, because a second source of a key is an error; the last
/// one only prints, like --help.
const WITHOUT: [&str; 3] = ["xt.access-key-file", "xt.secret-key-file", "metrics"];
/// The variables that `config` reads.
const KEY_VARIABLES: [&str; 4] =
    ["XT_ACCESS_KEY", "XT_ACCESS_KEY_FILE", "XT_SECRET_KEY", "XT_SECRET_KEY_FILE"];

/// The longest distance of a misspelled name from a known one, and the shortest name that is judged. Other programs may
/// have variables with this prefix: Kubernetes sets some for each service.
const TYPO_MAX_DISTANCE: usize = 2;
const TYPO_MIN_CHARS: usize = 10;

/// The variable of a flag: `XT_API` of `xt.api`, `XT_POLL_INTERVAL` of `poll.interval`.
pub(super) fn variable_name(flag: &str) -> String {
    let name = flag.strip_prefix("xt.").unwrap_or(flag);
    format!("XT_{}", name.to_ascii_uppercase().replace(['.', '-'], "_"))
}

/// Gives each flag of the command and of its subcommands its variable, unless it has one already.
pub(super) fn add_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let arg = match arg.get_long() {
                Some(flag) if arg.get_env().is_none() && !WITHOUT.contains(&flag) => {
                    let name = variable_name(flag);
                    arg.env(name)
                }
                _ => arg,
            };
            let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
            let arg = if is_switch { arg.value_parser(parse_switch) } else { arg };
            // A value may be private, and help is pasted into reports.
            arg.hide_env_values(true)
        })
        .mut_subcommands(add_variables)
}

/// Parses the variable of a switch. Accepts what other programs accept, too.
fn parse_switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// Prepares the command to read the variables. Ignores those that are empty, because Docker Compose sets variables without
/// a value to the empty text. Splits the value of a repeatable flag at commas, but only if it comes from the variable.
pub(super) fn read_variables(command: clap::Command, words: &[OsString]) -> clap::Command {
    command
        .mut_args(|arg| {
            let Some(value) = arg.get_env().and_then(env::var_os) else { return arg };
            if value.is_empty() {
                return arg.env(None::<&str>);
            }
            let is_repeatable = matches!(arg.get_action(), ArgAction::Append);
            let is_given = arg.get_long().is_some_and(|flag| is_on_command_line(words, flag));
            if is_repeatable && !is_given { arg.value_delimiter(',') } else { arg }
        })
        .mut_subcommands(|subcommand| read_variables(subcommand, words))
}

/// An error for a variable of the command, the second word, that has nothing before or after a comma.
pub(super) fn find_empty_item(commands: &clap::Command, words: &[OsString]) -> Option<String> {
    let command = words.get(1).and_then(|word| commands.find_subcommand(word))?;
    let variables = command.get_arguments().filter_map(|arg| {
        let is_list = matches!(arg.get_action(), ArgAction::Append);
        (is_list && !is_on_command_line(words, arg.get_long()?)).then(|| arg.get_env())?
    });
    let has_empty_item = |name: &&OsStr| {
        let value = env::var(name).unwrap_or_default();
        !value.is_empty() && value.split(',').any(|item| item.trim().is_empty())
    };
    let name = variables.into_iter().find(has_empty_item)?;
    Some(format!("{} has an empty value before or after a comma: remove the comma", name.display()))
}

/// Whether the words of the command line contain the flag.
pub(super) fn is_on_command_line(words: &[OsString], flag: &str) -> bool {
    words.iter().any(|word| {
        let word = word.to_string_lossy();
        let rest = word.strip_prefix("--").and_then(|word| word.strip_prefix(flag));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}

/// Replaces the names of the command's flags in an error by those of the variables that gave their values: those for which
/// `is_set` is true.
pub(super) fn name_variables(
    command: &clap::Command,
    error: &str,
    words: &[OsString],
    is_set: impl Fn(&str) -> bool,
) -> String {
    let mut text = error.to_owned();
    for arg in command.get_arguments() {
        let variable = arg.get_env().and_then(|name| name.to_str());
        let (Some(flag), Some(variable)) = (arg.get_long(), variable) else { continue };
        if is_set(variable) && !is_on_command_line(words, flag) {
            text = replace_word(&text, &format!("--{flag}"), variable);
        }
    }
    text
}

/// Replaces `flag` where it is not the beginning of a longer name.
fn replace_word(text: &str, flag: &str, replacement: &str) -> String {
    let mut parts = text.split(flag);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // A point that ends a sentence ends the name too.
        let mut after = part.chars();
        let is_longer = match after.next() {
            Some('.') => after.next().is_some_and(|next| next.is_ascii_lowercase()),
            Some(next) => next == '-' || next.is_ascii_lowercase(),
            None => false,
        };
        replaced.push_str(if is_longer { flag } else { replacement });
        replaced.push_str(part);
    }
    replaced
}

/// A warning for each of `names` that looks like a misspelled variable of the program.
pub(super) fn find_misspelled(
    definition: &clap::Command,
    names: impl Iterator<Item = String>,
) -> Vec<String> {
    let arguments = definition.get_subcommands().flat_map(clap::Command::get_arguments);
    let mut known: Vec<_> = arguments.filter_map(Arg::get_env).filter_map(|name| name.to_str()).collect();
    known.extend(KEY_VARIABLES);
    let unknown = names.filter(|name| {
        name.starts_with("XT_") && name.len() >= TYPO_MIN_CHARS && !known.contains(&name.as_str())
    });
    let closest = |name: &String| {
        let distances = known.iter().map(|known| (strsim::osa_distance(name, known), *known));
        distances.min().filter(|(distance, _)| *distance <= TYPO_MAX_DISTANCE)
    };
    let warning = |name: String| {
        let (_, known) = closest(&name)?;
        Some(format!("ignoring the environment variable {name}: did you mean {known}?"))
    };
    unknown.filter_map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_named_after_its_flag() {
        for (flag, variable) in [
            ("xt.api", "XT_API"),
            ("xt.proxy-credentials-file", "XT_PROXY_CREDENTIALS_FILE"),
            ("poll.max-age", "XT_POLL_MAX_AGE"),
            ("web.config.file", "XT_WEB_CONFIG_FILE"),
            ("output", "XT_OUTPUT"),
        ] {
            assert_eq!(variable_name(flag), variable);
        }
    }

    #[test]
    fn a_flag_is_found_with_and_without_its_value() {
        let words = ["x", "--poll.interval", "1m", "--xt.account=a"].map(OsString::from);
        for (flag, is_given) in
            [("poll.interval", true), ("xt.account", true), ("poll", false), ("xt.acc", false), ("1m", false)]
        {
            assert_eq!(is_on_command_line(&words, flag), is_given, "{flag}");
        }
    }

    #[test]
    fn an_error_names_the_variable_that_gave_a_value() {
        let arg = |flag: &'static str| Arg::new(flag).long(flag);
        let command = clap::Command::new("serve").args([arg("poll.max-age"), arg("poll.max"), arg("xt.api")]);
        let command = add_variables(command);
        let words = ["x", "--xt.api=v1"].map(OsString::from);
        let error = "--poll.max-age is 5s, but --poll.max. --xt.api --poll.maximum --poll.max.x --poll.max";
        assert_eq!(
            name_variables(&command, error, &words, |_| true),
            "XT_POLL_MAX_AGE is 5s, but XT_POLL_MAX. --xt.api --poll.maximum --poll.max.x XT_POLL_MAX"
        );
        assert_eq!(name_variables(&command, error, &words, |_| false), error);
    }

    #[test]
    fn only_a_name_that_resembles_a_variable_is_reported() {
        let definition = clap::Command::new("x").subcommand(
            clap::Command::new("serve")
                .arg(Arg::new("interval").long("poll.interval"))
                .arg(Arg::new("api").long("xt.api")),
        );
        let definition = add_variables(definition);
        let warnings = |name: &str| find_misspelled(&definition, std::iter::once(name.to_owned()));
        for name in ["XT_POLL_INTERVALL", "XT_POL_INTERVAL", "XT_POLL_INTREVAL", "XT_SECRET_KEYS"] {
            assert_eq!(warnings(name).len(), 1, "{name}");
        }
        assert!(warnings("XT_POLL_INTERVALL").iter().all(|text| text.contains("mean XT_POLL_INTERVAL?")));
        for name in [
            "XT_POLL_INTERVAL",
            "XT_SECRET_KEY",
            "XT_APP",
            "XT_BALANCE_EXPORTER_SERVICE_HOST",
            "XT_BALANCE_EXPORTER_PORT_10770_TCP",
            "POLL_INTERVAL",
        ] {
            assert!(warnings(name).is_empty(), "{name}");
        }
    }
}
