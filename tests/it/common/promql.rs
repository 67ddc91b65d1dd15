//! What rules and dashboards may name: the metrics the exporter exports, those the rules record, and
//! those of the scrape, each with its labels. Knows `PromQL` by its words and signs, not its grammar:
//! promtool and Prometheus judge that.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
};

use serde::{Deserialize, de::DeserializeOwned};
use xt_balance_exporter::exposition::metrics::{FAMILIES, MetricKind};

pub const RULES: &str = "deploy/prometheus/xt-balance.rules.yml";
/// The rules for those who want them, each in a file of its own.
pub const MORE_RULES: &str = "deploy/prometheus/xt-withdrawals.rules.yml";

/// Labels that a scrape adds, or that a histogram has beside those of its family.
const ADDED: [&str; 3] = ["instance", "job", "le"];

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
pub struct Rule {
    pub record: Option<String>,
    pub alert: Option<String>,
    pub expr: String,
    #[serde(rename = "for")]
    pub waits: Option<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

pub fn read<T: DeserializeOwned>(path: &str) -> Result<T, Box<dyn Error>> {
    Ok(serde_saphyr::from_str(&fs::read_to_string(path)?)?)
}

pub fn rules() -> Result<Vec<Rule>, Box<dyn Error>> {
    let groups = [RULES, MORE_RULES].map(|path| Ok::<_, Box<dyn Error>>(read::<RuleFile>(path)?.groups));
    let [groups, more] = groups;
    Ok(groups?.into_iter().chain(more?).flat_map(|group| group.rules).collect())
}

/// What may be named in an expression: the labels of each metric.
pub fn vocabulary() -> Result<BTreeMap<String, BTreeSet<String>>, Box<dyn Error>> {
    let mut known = BTreeMap::new();
    for family in FAMILIES.iter() {
        // Prometheus renames a label of ours that a target has too, unless the job honors our labels.
        let renamed = family.labels.iter().map(|name| format!("exported_{name}"));
        let labels: BTreeSet<_> =
            family.labels.iter().chain(&ADDED).map(|&name| name.to_owned()).chain(renamed).collect();
        if family.kind == MetricKind::Histogram {
            for suffix in ["_bucket", "_count", "_sum"] {
                known.insert(format!("{}{suffix}", family.name), labels.clone());
            }
        } else {
            known.insert(family.name.to_owned(), labels);
        }
    }
    let targets: BTreeSet<_> = ["instance", "job"].map(str::to_owned).into();
    for name in ["up", "scrape_duration_seconds"] {
        known.insert(name.to_owned(), targets.clone());
    }
    // Of node_exporter, which may serve our textfile.
    let of_file = targets.iter().map(String::as_str).chain(["file"]).map(str::to_owned).collect();
    known.insert("node_textfile_mtime_seconds".to_owned(), of_file);
    for name in rules()?.into_iter().filter_map(|rule| rule.record) {
        // The level a recording rule begins with is the list of its labels.
        let level = name.split(':').next().unwrap_or_default().replace("account_wallet", "account,wallet");
        let level = level.replace("wallet_", "wallet,");
        known.insert(name, level.split(',').map(str::to_owned).collect());
    }
    Ok(known)
}

/// The words and signs of an expression, strings left out.
fn tokens(expression: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_:.".contains(c);
        let length = match first {
            '"' => rest.get(1..).and_then(|tail| tail.find('"')).map_or(rest.len(), |end| end + 2),
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, tail) = rest.split_at(length);
        if first != '"' {
            tokens.push(token);
        }
        rest = tail.trim_start();
    }
    tokens
}

/// Whether an expression names only metrics that there are, and of each only its labels.
pub fn hold(expression: &str, known: &BTreeMap<String, BTreeSet<String>>) -> Result<(), String> {
    let is_name = |word: &str| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let words = tokens(expression);
    let mut metrics: Vec<&BTreeSet<String>> = Vec::new();
    let mut grouped = Vec::new();
    let mut words = words.iter().copied().peekable();
    while let Some(word) = words.next() {
        if matches!(word, "on" | "ignoring" | "by" | "without" | "group_left" | "group_right") {
            grouped.extend(words.by_ref().take_while(|word| *word != ")").filter(|word| is_name(word)));
            continue;
        }
        if matches!(word, "offset" | "[") {
            words.next();
        }
        // What stands before a parenthesis or a grouping is a function.
        let is_function = matches!(words.peek(), Some(&("(" | "by" | "without")));
        if !is_name(word)
            || is_function
            || matches!(word, "offset" | "and" | "or" | "unless" | "bool" | "NaN")
        {
            continue;
        }
        let labels = known.get(word).ok_or_else(|| format!("{word} in {expression}"))?;
        metrics.push(labels);
        if words.next_if_eq(&"{").is_some()
            && let Some(label) = words
                .by_ref()
                .take_while(|word| *word != "}")
                .find(|label| is_name(label) && !labels.contains(*label))
        {
            return Err(format!("label {label} of {word} in {expression}"));
        }
    }
    if metrics.is_empty() {
        return Err(format!("no metric in {expression}"));
    }
    // `label_replace` and its like name the label that they make in quotes.
    let is_made = |label: &str| expression.contains(&format!("\"{label}\""));
    let is_known = |label: &str| metrics.iter().any(|labels| labels.contains(label)) || is_made(label);
    match grouped.iter().find(|label| !is_known(label)) {
        Some(label) => Err(format!("label {label} of no metric in {expression}")),
        None => Ok(()),
    }
}
