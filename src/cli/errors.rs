//! Errors of the command line, without any text of the user that may be a secret: clap repeats what it does not
//! understand. An error names the variable if a value does not come from the command line.

use std::{
    any::TypeId,
    env,
    error::Error as _,
    ffi::{OsStr, OsString},
    num::ParseIntError,
    path::PathBuf,
};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::variables::is_on_command_line;
use crate::quoting::is_quotable;

/// Old names of flags, and those that replaced them.
const RENAMED: [(&str, &str); 1] = [("--listen", "--web.listen-address")];

/// Replaces an error that repeats text of the user by one that does not, because the text may be a secret. Keeps numbers,
/// durations, and words that resemble a flag or a command. Names the commands that accept a flag.
pub(super) fn explain_error(error: clap::Error, cli: &mut clap::Command, words: &[OsString]) -> clap::Error {
    let explanation = match error.kind() {
        ErrorKind::UnknownArgument => explain_unknown_flag(&error, cli, words),
        ErrorKind::InvalidSubcommand => explain_unknown_command(&error, cli),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::TooManyValues => {
            explain_invalid_value(&error, cli, words)
        }
        ErrorKind::InvalidUtf8 => explain_invalid_utf8(cli, words),
        ErrorKind::ArgumentConflict => explain_conflict(&error, cli, words),
        _ => None,
    };
    match explanation {
        Some(text) => cli.error(error.kind(), text),
        None => error,
    }
}

fn explain_unknown_flag(error: &clap::Error, cli: &clap::Command, words: &[OsString]) -> Option<String> {
    let flag = context_text(error, ContextKind::InvalidArg)?;
    if let Some((old, new)) = RENAMED.iter().find(|(old, _)| *old == flag) {
        return Some(format!("{old} has a new name: write {new}"));
    }
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

fn explain_unknown_command(error: &clap::Error, cli: &clap::Command) -> Option<String> {
    let command = context_text(error, ContextKind::InvalidSubcommand)?;
    let names: Vec<_> = cli.get_subcommands().map(clap::Command::get_name).collect();
    let is_typo = names.iter().any(|name| is_typo_of(command, name))
        && error.get(ContextKind::SuggestedSubcommand).is_some();
    (!is_typo).then(|| format!("unknown command: the commands are {}", names.join(", ")))
}

fn explain_invalid_value(error: &clap::Error, cli: &clap::Command, words: &[OsString]) -> Option<String> {
    let flag = context_text(error, ContextKind::InvalidArg)?;
    let value = context_text(error, ContextKind::InvalidValue)?;
    let variable = find_variable(flag, cli, words);
    let is_quoted = value.is_empty() || is_quotable(value);
    if is_quoted && variable.is_none() {
        return None;
    }
    let why = match (error.kind(), error.get(ContextKind::ValidValue), error.source()) {
        (ErrorKind::TooManyValues, ..) => return Some(format!("'{flag}' takes no value")),
        (_, Some(ContextValue::Strings(values)), _) => format!("possible values: {}", values.join(", ")),
        (_, _, Some(source)) if source.is::<ParseIntError>() => "write a whole number, such as 40".to_owned(),
        (_, _, Some(source)) => source.to_string(),
        _ => "see --help".to_owned(),
    };
    let quoted = if is_quoted { format!(" '{value}'") } else { String::new() };
    let setting = variable.unwrap_or_else(|| format!("'{flag}'"));
    Some(format!("invalid value{quoted} for {setting}: {why}"))
}

/// Names the flag or the variable whose value is not UTF-8; clap names neither.
fn explain_invalid_utf8(cli: &clap::Command, words: &[OsString]) -> Option<String> {
    let is_invalid = |value: &OsStr| value.to_str().is_none();
    let command = words.get(1).and_then(|word| cli.find_subcommand(word))?;
    let settings = command.get_arguments().filter_map(|arg| {
        let long = arg.get_long()?;
        // Paths need no UTF-8.
        if arg.get_value_parser().type_id() == TypeId::of::<PathBuf>() {
            return None;
        }
        let flag = format!("--{long}");
        if is_on_command_line(words, long) {
            let is_value = |pair: &[OsString]| {
                let [name, value] = pair else { return false };
                let is_after = name.to_str() == Some(&flag) && is_invalid(value);
                is_after || (is_invalid(value) && value.to_string_lossy().starts_with(&format!("{flag}=")))
            };
            return words.windows(2).any(is_value).then_some(flag);
        }
        let variable =
            arg.get_env().filter(|name| env::var_os(name).is_some_and(|value| is_invalid(&value)))?;
        variable.to_str().map(str::to_owned)
    });
    let setting = settings.into_iter().next()?;
    Some(format!("the value of {setting} is not valid UTF-8: write it in UTF-8"))
}

/// Names the variables among two settings that exclude each other; `None` if both are on the command line.
fn explain_conflict(error: &clap::Error, cli: &clap::Command, words: &[OsString]) -> Option<String> {
    let texts = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.as_str()],
        Some(ContextValue::Strings(texts)) => texts.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let flags = texts(ContextKind::InvalidArg).into_iter().chain(texts(ContextKind::PriorArg));
    // The settings without their values, and whether they are variables.
    let settings = flags.map(|flag| match find_variable(flag, cli, words) {
        Some(variable) => (variable, true),
        None => (flag.split(' ').next().unwrap_or(flag).to_owned(), false),
    });
    let (variables, flags): (Vec<_>, Vec<_>) = settings.partition(|(_, is_variable)| *is_variable);
    let mut settings = variables.into_iter().chain(flags);
    let ((first, true), (second, is_variable)) = (settings.next()?, settings.next()?) else { return None };
    let verb = if is_variable { "unset" } else { "remove" };
    Some(format!("{first} cannot be used with {second}: unset {first}, or {verb} {second}"))
}

/// The variable that gave the value of a flag, as clap writes it in errors: `--poll.interval <DURATION>`. `None` if the
/// flag is on the command line.
fn find_variable(flag: &str, cli: &clap::Command, words: &[OsString]) -> Option<String> {
    let long = flag.split(' ').next()?.strip_prefix("--")?;
    if is_on_command_line(words, long) {
        return None;
    }
    let command = words.get(1).and_then(|word| cli.find_subcommand(word))?;
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(long))?;
    arg.get_env()?.to_str().map(str::to_owned)
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
