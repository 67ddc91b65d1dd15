//! A second opinion on the exposition: the text format 0.0.4 as its documents have it, read line by line by a reader
//! that shares nothing with the writer.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// Label values by label name.
pub type Labels<'a> = BTreeMap<&'a str, Cow<'a, str>>;

/// Every sample of an exposition.
#[derive(Debug)]
pub struct Samples<'a>(BTreeMap<Cow<'a, str>, BTreeMap<Labels<'a>, f64>>);

impl<'a> Samples<'a> {
    /// The samples called `name`.
    pub fn of(&self, name: &str) -> impl Iterator<Item = (&Labels<'a>, f64)> {
        self.0.get(name).into_iter().flatten().map(|(labels, value)| (labels, *value))
    }

    /// The sample called `name` with just these labels.
    #[must_use]
    pub fn one(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let same = |own: &Labels<'_>| {
            own.len() == labels.len()
                && labels.iter().all(|(name, value)| own.get(name).is_some_and(|own| own == value))
        };
        self.of(name).find(|(own, _)| same(own)).map(|(_, value)| value)
    }
}

/// Reads a whole exposition.
///
/// # Panics
/// If a line is not of the format, a family is torn apart, nameless or empty, a series comes twice, a counter is no
/// count or a histogram no histogram.
#[must_use]
pub fn read(text: &str) -> Samples<'_> {
    assert!(text.ends_with('\n'), "the last line is not ended");
    let mut families = BTreeSet::new();
    let mut all = BTreeMap::new();
    let mut left = text;
    while !left.is_empty() {
        let head = left.strip_prefix("# HELP ").and_then(|left| left.split_once('\n'));
        let Some((help, after)) = head else { panic!("no family where one is due: {left}") };
        let Some((family, help)) = help.split_once(' ') else { panic!("{help:?} helps nobody") };
        assert!(is_name(family) && !help.trim().is_empty(), "{family} {help:?}");
        assert!(families.insert(family), "{family} is torn apart");
        let kind = after.strip_prefix("# TYPE ").and_then(|after| after.strip_prefix(family));
        let kind = kind.and_then(|kind| kind.strip_prefix(' ')).and_then(|kind| kind.split_once('\n'));
        let Some((kind, after)) = kind else { panic!("{family} has no type") };
        let suffixes: &[&str] = match kind {
            "gauge" | "counter" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => panic!("{family} is a {kind}"),
        };
        left = after;
        let mut samples: BTreeMap<&str, BTreeMap<Labels<'_>, f64>> = BTreeMap::new();
        while !left.is_empty() && !left.starts_with('#') {
            let Some((line, after)) = left.split_once('\n') else { panic!("{left:?} is not ended") };
            left = after;
            let Some(own) = line.strip_prefix(family) else { panic!("{line:?} does not belong to {family}") };
            let (suffix, own) = own.split_at(own.find(['{', ' ']).unwrap_or(0));
            assert!(suffixes.contains(&suffix), "{line:?} does not belong to {family}");
            let (labels, value) = sample(own).unwrap_or_else(|| panic!("{line:?} is no sample"));
            assert!(kind != "counter" || value.is_finite() && value >= 0.0, "{line:?} is no count");
            let twice = samples.entry(suffix).or_default().insert(labels, value);
            assert!(twice.is_none(), "{line:?} comes twice");
        }
        assert!(!samples.is_empty(), "{family} is empty");
        if kind == "histogram" {
            histogram(family, &samples);
        }
        all.extend(samples.into_iter().map(|(suffix, samples)| match suffix {
            "" => (Cow::Borrowed(family), samples),
            suffix => (Cow::Owned(format!("{family}{suffix}")), samples),
        }));
    }
    Samples(all)
}

fn histogram(family: &str, samples: &BTreeMap<&str, BTreeMap<Labels<'_>, f64>>) {
    let part = |suffix: &str, labels: &Labels<'_>| samples.get(suffix)?.get(labels).copied();
    let mut buckets: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
    for (labels, value) in samples.get("_bucket").into_iter().flatten() {
        let mut labels = labels.clone();
        let bound = labels.remove("le").and_then(|bound| number(&bound));
        let Some(bound) = bound else { panic!("a bucket of {family} has no bound") };
        buckets.entry(labels).or_default().push((bound, *value));
    }
    let counted = samples.get("_count").map(BTreeMap::len);
    assert_eq!(counted, Some(buckets.len()), "{family} has a count without buckets");
    for (labels, mut buckets) in buckets {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{family} is not cumulative");
        let last = buckets.last().copied();
        assert_eq!(last, part("_count", &labels).map(|count| (f64::INFINITY, count)), "{family}");
        assert!(part("_sum", &labels).is_some_and(f64::is_finite), "{family} has no sum");
    }
}

/// Reads what follows the name: `{label="value",…} number`.
fn sample(text: &str) -> Option<(Labels<'_>, f64)> {
    let mut labels = BTreeMap::new();
    let Some(mut left) = text.strip_prefix('{') else {
        return Some((labels, number(text.strip_prefix(' ')?)?));
    };
    loop {
        let (label, value) = left.split_once("=\"")?;
        let (value, after) = quoted(value)?;
        let fits = is_name(label) && !label.contains(':') && labels.insert(label, value).is_none();
        if let Some(value) = after.strip_prefix("} ").filter(|_| fits) {
            return Some((labels, number(value)?));
        }
        left = after.strip_prefix(',').filter(|_| fits)?;
    }
}

/// Reads up to the closing quote; `None` without a closing quote, or with an escape that the format does not know.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let (simple, after) = text.split_once('"')?;
    if !simple.contains('\\') {
        return Some((simple.into(), after));
    }
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value.into(), chars.as_str())),
            '\\' => value.push(match chars.next()? {
                'n' => '\n',
                same @ ('\\' | '"') => same,
                _ => return None,
            }),
            plain => value.push(plain),
        }
    }
}

/// Reads a value: a number or an infinity, as Go writes them. What is not a number has no place here.
fn number(text: &str) -> Option<f64> {
    let digits = text.trim_start_matches('-').starts_with(|first: char| first.is_ascii_digit());
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok().filter(|_| digits),
    }
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.chars().all(plain) && text.starts_with(|c: char| !c.is_ascii_digit())
}
