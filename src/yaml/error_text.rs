//! The text of an error, with the line that would be right. Repeats no word of the file except known keys.

use serde_saphyr::{Error, Location};

use super::key_path::{KeyExamples, KeyPath};

/// The longest key that is compared with the known ones.
const MAX_COMPARED_CHARS: usize = 64;
/// How much a key must resemble a known one to be a typing mistake, from 0 to 1.
const MIN_SIMILARITY: f64 = 0.75;
/// How long a key must be to be meant as a known one with more words.
const MIN_PART_CHARS: usize = 5;
/// How long a known key must be to be meant by a longer one.
const MIN_NAME_CHARS: usize = 4;

/// Describes `error` at `path` in `text`.
pub(super) fn describe(error: &Error, text: &str, path: &KeyPath, examples: &KeyExamples) -> String {
    match error {
        Error::AliasError { error, .. } => describe(error, text, path, examples),
        Error::SerdeUnknownField { field, expected, .. } => {
            place(path, &describe_unknown_key(field, expected, path, examples))
        }
        Error::SerdeMissingField { field, .. } => {
            let example = path.join(field, examples).and_then(|path| path.example(examples));
            place(
                path,
                &with_example(
                    &format!("the key `{field}` is missing, or not aligned with its neighbours"),
                    "add",
                    example,
                ),
            )
        }
        Error::DuplicateMappingKey { key, .. } => {
            let known = key.as_deref().and_then(|key| path.join(key, examples));
            place(known.as_ref().unwrap_or(path), "a key is set twice: remove one of the two")
        }
        Error::ExternalMessage { msg, location, .. } => {
            // The parser reads ahead of the key path.
            let key = key_of_line(text, location.line()).filter(|key| !path.shown.ends_with(key));
            let key = key.and_then(|key| path.join(key, examples));
            let path = key.as_ref().unwrap_or(path);
            place(path, &with_example(&describe_syntax(msg), "write", path.example(examples)))
        }
        Error::Eof { .. } => with_example("the file is empty", "write", KeyPath::default().example(examples)),
        Error::MultipleDocuments { .. } => {
            "a second document begins here: remove the line --- and everything after it".to_owned()
        }
        Error::UnsupportedTag { .. }
        | Error::TaggedEnumMismatch { .. }
        | Error::TaggedScalarCannotDeserializeIntoString { .. }
        | Error::UnexpectedValueForUnit { .. }
        | Error::UnexpectedValueForUnitEnumVariant { .. }
        | Error::InvalidBinaryBase64 { .. }
        | Error::BinaryNotUtf8 { .. } => place(
            path,
            "a tag, which begins with !, is not supported: remove it, or put the value into quotation marks",
        ),
        _ => place(path, &with_example(&describe_value(error, text), "write", path.example(examples))),
    }
}

/// What is wrong with a value, without the value.
fn describe_value(error: &Error, text: &str) -> String {
    match error {
        Error::Unexpected { location, .. } if is_blank(text, *location) => "the value is missing".to_owned(),
        Error::UnknownAnchor { .. } => {
            "a value that begins with * and is not the name of an anchor must be in quotation marks"
                .to_owned()
        }
        Error::Unexpected { expected, .. } => format!("expected {}", name_kind(expected)),
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            format!("expected {}", name_kind(expected))
        }
        Error::SerdeUnknownVariant { expected, .. } => format!("expected {}", expected.join(" or ")),
        Error::NullIntoString { .. } | Error::InvalidCharNull { .. } => "the value is missing".to_owned(),
        Error::InvalidScalar { ty, .. } => format!("expected {}", name_kind(ty)),
        Error::InvalidBooleanStrict { .. } => "expected true or false".to_owned(),
        Error::NonFiniteFloat { .. } => "expected a finite number".to_owned(),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            "the file is too large, nests too deeply, or repeats too much by anchors".to_owned()
        }
        Error::Message { msg, .. } => msg.clone(),
        Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | Error::ExpectedStringKeyForExternallyTaggedEnum { .. } => "expected a single value".to_owned(),
        // The library's text could repeat the value.
        _ => "the value is not valid here".to_owned(),
    }
}

/// A name of the library or of serde for a kind of value, in the words of users.
fn name_kind(kind: &str) -> &str {
    match kind {
        "sequence start" | "a sequence" => "a list",
        "mapping start" | "a map" => "a map of keys and values",
        "string scalar" | "scalar" | "a string" => "a single value",
        "a boolean" | "boolean" | "bool" => "true or false",
        _ if kind.starts_with("struct ") => "a map of keys and values",
        _ => kind,
    }
}

fn describe_unknown_key(
    key: &str,
    accepted: &[&'static str],
    path: &KeyPath,
    examples: &KeyExamples,
) -> String {
    if let Some(meant) = find_similar(key, accepted) {
        let example = path.join(meant, examples).and_then(|path| path.example(examples));
        return with_example(&format!("unknown key: did you mean `{meant}`?"), "Write", example);
    }
    let elsewhere = |(pattern, _): &&(&str, &str)| pattern.rsplit('.').next() == Some(key);
    if let Some((pattern, line)) = examples.lines.iter().find(elsewhere) {
        let parent = pattern.strip_suffix(key).unwrap_or_default().trim_end_matches('.');
        let parent = if parent.is_empty() { "the top level" } else { parent };
        return format!("`{key}` is a key of {parent}: write `{line}` there");
    }
    format!("unknown key: the keys here are {}", accepted.join(", "))
}

/// The accepted key that the user probably meant.
fn find_similar(key: &str, accepted: &[&'static str]) -> Option<&'static str> {
    if key.chars().count() > MAX_COMPARED_CHARS {
        return None;
    }
    let key = key.to_lowercase().replace('-', "_");
    let similarity = |known: &str| strsim::normalized_damerau_levenshtein(&key, known);
    let nearest = accepted.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let nearest = nearest.filter(|known| similarity(known) >= MIN_SIMILARITY);
    let has_part = |known: &str, part: &str| known.split('_').any(|known| known == part);
    let is_meant = |known: &&&str| {
        let is_shortened = key.len() >= MIN_PART_CHARS && key.split('_').all(|part| has_part(known, part));
        is_shortened
            || key.starts_with(&format!("{known}_"))
            || (known.len() >= MIN_NAME_CHARS && key.starts_with(**known))
    };
    nearest.or_else(|| accepted.iter().find(is_meant)).copied()
}

/// What is wrong with the syntax, by a part of the parser's message. A message repeats no text of the file.
const SYNTAX: &[(&str, &str)] = &[
    ("tab", "a tab is not allowed here: indent with spaces"),
    ("anchor or alias", "a value that begins with & or * must be in quotation marks"),
    ("a block scalar, ", "a value that begins with | or > must be in quotation marks"),
    (" tag", "a value that begins with ! must be in quotation marks"),
    ("handle", "a value that begins with ! must be in quotation marks"),
    ("irective", "a line that begins with % is not allowed here"),
    ("character: `@'", "a value that begins with @ must be in quotation marks"),
    ("character: ``'", "a value that begins with ` must be in quotation marks"),
    ("character: `%'", "a value that begins with % must be in quotation marks"),
    ("followed by ,[]{}", "a value that begins with - must be in quotation marks"),
    ("unclosed quote", "a quotation mark is never closed"),
    ("escape", "a backslash in double quotation marks has a meaning of its own: use single quotation marks"),
    ("trailing content", "text follows a closing quotation mark, or a comma is missing"),
    ("unclosed bracket", "a bracket is never closed"),
    ("misplaced bracket", "a bracket closes that was never opened"),
    ("expected ',' or", "a comma or a closing bracket is missing"),
    ("parsing a flow", "a bracket is never closed"),
    (
        "mapping values are not allowed",
        "a key cannot be here: align the keys of a map, and put a value that contains a colon into quotation marks",
    ),
    ("sequence entries are not allowed", "an item of a list cannot be here: align the dashes of the list"),
    ("expected '-'", "an item of a list is missing here: align the dashes of the list"),
    ("expected key", "a key is missing here: align the keys of the map"),
    ("simple key", "a colon and a space are missing after the key"),
    ("indent", "the indentation is wrong: align the keys of the map"),
    ("comments must", "a comment needs a space before its #"),
    ("BOM", "the file contains a byte order mark (U+FEFF) that is not at its beginning: remove it"),
    ("document", "a line that begins with --- or ... is not allowed here"),
    ("recursion limit", "the brackets nest too deeply"),
];

/// The line with this number, which counts from 1.
fn find_line(text: &str, number: u64) -> Option<&str> {
    text.lines().nth(usize::try_from(number.checked_sub(1)?).ok()?)
}

/// Whether nothing but a comment follows `location` in its line.
fn is_blank(text: &str, location: Location) -> bool {
    let column = usize::try_from(location.column()).unwrap_or_default();
    let line = find_line(text, location.line()).unwrap_or_default();
    let rest: String = line.chars().skip(column.saturating_sub(1)).collect();
    let rest = rest.trim_start();
    rest.is_empty() || rest.starts_with('#')
}

/// The key at the beginning of the line with this number.
fn key_of_line(text: &str, number: u64) -> Option<&str> {
    let line = find_line(text, number)?.trim_start_matches([' ', '\t', '-']);
    line.split_once(':').map(|(key, _)| key.trim_end())
}

fn describe_syntax(message: &str) -> String {
    match SYNTAX.iter().find(|(part, _)| message.contains(part)) {
        Some((_, what)) => format!("invalid YAML: {what}"),
        None => format!("invalid YAML: {message}"),
    }
}

fn with_example(what: &str, verb: &str, example: Option<&str>) -> String {
    match example {
        Some(example) if what.ends_with('?') => format!("{what} {verb} `{example}`"),
        Some(example) => format!("{what}: {verb} `{example}`"),
        None => what.to_owned(),
    }
}

fn place(path: &KeyPath, what: &str) -> String {
    if path.shown.is_empty() { what.to_owned() } else { format!("{}: {what}", path.shown) }
}
