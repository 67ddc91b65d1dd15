//! A strict reader of the Prometheus text format 0.0.4, written from its specification and not from
//! the exporter's writer. It refuses what the format allows but the exporter does not do:
//! timestamps, untyped samples, samples without help, a family in two places.

use std::collections::{BTreeMap, BTreeSet};

/// A family: its comment lines and its samples, which stand together.
#[derive(Debug)]
pub struct Family {
    pub kind: String,
    pub samples: Vec<Sample>,
}

#[derive(Debug)]
pub struct Sample {
    /// The family's name and, in a histogram, a suffix.
    pub name: String,
    /// Unescaped.
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The families of `text`, by name.
///
/// # Errors
/// What is wrong with it, and the line.
pub fn read(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let mut families = BTreeMap::new();
    let mut series = BTreeSet::new();
    let body = text.strip_suffix('\n').ok_or("it does not end with a line feed")?;
    // Only a line feed ends a line here.
    let mut lines = body.split('\n').peekable();
    while let Some(line) = lines.next() {
        let at = |why: &str| format!("{why}: {line:?}");
        let help = line.strip_prefix("# HELP ").ok_or_else(|| at("a family must begin with its help"))?;
        let (name, help) = help.split_once(' ').ok_or_else(|| at("no help"))?;
        if !is_name(name, true) {
            return Err(at("bad name"));
        }
        if help.is_empty() || unescape(help, "").is_none() {
            return Err(at("bad help"));
        }
        let kind =
            lines.next().and_then(|line| line.strip_prefix("# TYPE ")?.strip_prefix(name)?.strip_prefix(' '));
        let kind = kind.filter(|kind| ["gauge", "counter", "histogram"].contains(kind));
        let kind = kind.ok_or_else(|| at("no type after it"))?;
        let mut samples = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let sample = sample(line).ok_or_else(|| format!("no sample: {line:?}"))?;
            let suffix = sample.name.strip_prefix(name);
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            if !suffix.is_some_and(|suffix| suffixes.contains(&suffix)) {
                return Err(format!("a sample of another family than {name}: {line:?}"));
            }
            if kind == "counter" && !(sample.value.is_finite() && sample.value >= 0.0) {
                return Err(format!("no count: {line:?}"));
            }
            if !series.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(format!("a series for the second time: {line:?}"));
            }
            samples.push(sample);
        }
        if samples.is_empty() {
            return Err(at("a family without samples"));
        }
        if kind == "histogram" {
            histograms(&samples).map_err(|why| at(&why))?;
        }
        let family = Family { kind: kind.to_owned(), samples };
        if families.insert(name.to_owned(), family).is_some() {
            return Err(at("a family for the second time"));
        }
    }
    Ok(families)
}

fn is_name(text: &str, colons: bool) -> bool {
    let fit = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    !text.is_empty() && text.chars().all(fit) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// Takes back the escapes of a backslash, of a line feed, and of the characters in `more`.
fn unescape(text: &str, more: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                '\\' => out.push('\\'),
                c if more.contains(c) => out.push(c),
                _ => return None,
            },
            c => out.push(c),
        }
    }
    Some(out)
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            let mut escaped = false;
            let quote = after.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })?;
            let (value, after) = after.split_at(quote);
            let known = labels.insert(label.to_owned(), unescape(value, "\"")?);
            if !is_name(label, false) || label.starts_with("__") || known.is_some() {
                return None;
            }
            rest = after.strip_prefix('"')?;
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = number(rest.strip_prefix(' ')?)?;
    is_name(name, true).then(|| Sample { name: name.to_owned(), labels, value })
}

/// A number as Go writes one; a blank in it, as before a timestamp, makes it none.
fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ if text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) => text.parse().ok(),
        _ => None,
    }
}

/// Every histogram's buckets rise, and the last, `+Inf`, is the count.
fn histograms(samples: &[Sample]) -> Result<(), String> {
    type Seen = (Vec<(f64, f64)>, usize, Option<f64>);
    let mut each: BTreeMap<BTreeMap<String, String>, Seen> = BTreeMap::new();
    for sample in samples {
        let mut labels = sample.labels.clone();
        let le = labels.remove("le");
        let (buckets, sums, count) = each.entry(labels).or_default();
        if sample.name.ends_with("_bucket") {
            let bound = le.and_then(|le| number(&le)).ok_or("a bucket without a bound")?;
            buckets.push((bound, sample.value));
        } else if sample.name.ends_with("_sum") {
            *sums += 1;
        } else {
            *count = Some(sample.value);
        }
    }
    for (labels, (buckets, sums, count)) in each {
        let rises = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let total = buckets.last().filter(|last| last.0.is_infinite()).map(|last| last.1);
        if !rises || total.is_none() || total != count || sums != 1 {
            return Err(format!("no histogram: {labels:?}"));
        }
    }
    Ok(())
}
