//! The table of all metrics: name, type, labels, help and the source of each value.
//! The table is the contract with dashboards and rules. README's table is generated from it.

use std::sync::LazyLock;

pub use family::{MetricFamily, MetricKind, MetricSource};

mod balances;
mod exporter;
mod family;
mod polls;
mod positions;
mod prices;

/// Every family by subject, each with its heading in README. A table is sorted by name.
pub const SUBJECTS: [(&str, &[MetricFamily]); 5] = [
    ("Balances", balances::FAMILIES),
    ("Polls", polls::FAMILIES),
    ("Prices", prices::FAMILIES),
    ("Futures positions", positions::FAMILIES),
    ("The exporter", exporter::FAMILIES),
];

/// Every family, sorted by name, in the order of the exposition.
pub static FAMILIES: LazyLock<Vec<MetricFamily>> = LazyLock::new(|| {
    let mut families = SUBJECTS.map(|(_, families)| families).concat();
    families.sort_unstable_by_key(|family| family.name);
    families
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_and_help_texts_follow_the_rules() {
        assert!(FAMILIES.is_sorted_by(|a, b| a.name < b.name));
        for family in FAMILIES.iter() {
            let plain = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(plain(family.name), "{}", family.name);
            assert_eq!(
                family.name.ends_with("_total"),
                family.kind == MetricKind::Counter,
                "{}",
                family.name
            );
            assert!(
                family.labels.is_sorted() && family.labels.iter().all(|name| plain(name)),
                "{}",
                family.name
            );
            assert!(family.help.ends_with('.') && !family.help.contains(['\\', '\n']), "{}", family.name);
            assert!(family.help.len() <= 120 && !family.help.contains(". "), "{}", family.name);
            let details = family.details;
            assert!(details.is_empty() || details.ends_with('.'), "{}", family.name);
            assert!(!details.contains(['|', '\n', '\\']), "{}: README shows it in a table", family.name);
        }
    }
}
