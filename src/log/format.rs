//! Formats a log event as one line of logfmt or JSON, both with the keys that other Prometheus exporters use: `ts`,
//! `level`, `msg`, then the event's fields. The libraries for both formats name and escape these differently. Writes nowhere.

use std::{
    fmt::{self, Write as _},
    time::SystemTime,
};

use serde::Serializer as _;
use serde_json::Value;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::cli::LogFormat;

impl<S, N> FormatEvent<S, N> for LogFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let mut fields = Fields(vec![("ts", time.into()), ("level", level.into())]);
        event.record(&mut fields);
        let line = match self {
            Self::Logfmt => logfmt(&fields.0),
            Self::Json => json(&fields.0).ok_or(fmt::Error)?,
        };
        writeln!(writer, "{line}")
    }
}

/// The keys and values of a line.
struct Fields(Vec<(&'static str, Value)>);

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(
            field,
            serde_json::Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::from),
        );
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format!("{value:?}").into());
    }
}

impl Fields {
    fn push(&mut self, field: &Field, value: Value) {
        let key = if field.name() == "message" { "msg" } else { field.name() };
        self.0.push((key, value));
    }
}

fn json(fields: &[(&str, Value)]) -> Option<String> {
    let mut line = Vec::new();
    let pairs = fields.iter().map(|(key, value)| (key, value));
    serde_json::Serializer::new(&mut line).collect_map(pairs).ok()?;
    String::from_utf8(line).ok()
}

fn logfmt(fields: &[(&str, Value)]) -> String {
    let mut line = String::new();
    for (key, value) in fields {
        let separator = if line.is_empty() { "" } else { " " };
        let _ = match value {
            Value::String(text) => write!(line, "{separator}{key}={}", quote_if_needed(text)),
            other => write!(line, "{separator}{key}={other}"),
        };
    }
    line
}

/// Quotes a value that logfmt cannot hold as it is. Escapes quotation marks, backslashes and control characters.
fn quote_if_needed(text: &str) -> String {
    let needs_quotes = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\' | '=');
    if !text.is_empty() && !text.contains(needs_quotes) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_keep_the_order_of_fields() {
        let fields =
            [("ts", "now".into()), ("msg", "it's \"late\"".into()), ("n", 3.into()), ("ok", true.into())];
        assert_eq!(logfmt(&fields), r#"ts=now msg="it's \"late\"" n=3 ok=true"#);
        assert_eq!(json(&fields).as_deref(), Some(r#"{"ts":"now","msg":"it's \"late\"","n":3,"ok":true}"#));
    }

    #[test]
    fn a_logfmt_value_is_one_word_or_quoted() {
        for (text, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("it's", "it's"),
            ("", r#""""#),
            ("a b", r#""a b""#),
            ("a=b", r#""a=b""#),
            ("a\nb\u{1b}[2J", r#""a\nb\u001b[2J""#),
            (r"a\b", r#""a\\b""#),
        ] {
            assert_eq!(quote_if_needed(text), expected);
        }
    }
}
