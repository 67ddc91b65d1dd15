//! Reads the Grafana dashboards, for the tests of their JSON and of their queries.

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use serde_json::Value;

/// The dashboards, keyed by file name without extension.
pub fn dashboards() -> Result<BTreeMap<String, Value>, Box<dyn Error>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("grafana")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            found.insert(name, serde_json::from_str(&fs::read_to_string(&path)?)?);
        }
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), ["xt-balances", "xt-exporter", "xt-fleet"]);
    Ok(found)
}

/// The array at a JSON pointer; empty if it does not exist.
pub fn array_at<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The string at a JSON pointer; empty if it does not exist.
pub fn str_at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The panels without the rows that group them, those of closed rows included.
pub fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    panels_and_rows(dashboard).filter(|panel| str_at(panel, "/type") != "row")
}

/// The panels and the rows; the panels of a closed row follow it.
pub fn panels_and_rows(dashboard: &Value) -> impl Iterator<Item = &Value> {
    array_at(dashboard, "/panels")
        .iter()
        .flat_map(|panel| std::iter::once(panel).chain(array_at(panel, "/panels")))
}

/// The height in pixels that the dashboard takes on a desktop: Grafana's rows of 30 pixels, with gaps of 8, and its header.
pub fn height(dashboard: &Value) -> u64 {
    let bottom =
        |panel: &Value| Some(panel.pointer("/gridPos/y")?.as_u64()? + panel.pointer("/gridPos/h")?.as_u64()?);
    80 + 38 * array_at(dashboard, "/panels").iter().filter_map(bottom).max().unwrap_or_default()
}

pub fn panel_titled<'a>(dashboard: &'a Value, title: &str) -> &'a Value {
    panels(dashboard)
        .find(|panel| str_at(panel, "/title") == title)
        .unwrap_or_else(|| panic!("no panel {title:?}"))
}

/// The values of a property in the overrides of a panel.
pub fn override_values<'a>(panel: &'a Value, id: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = array_at(panel, "/fieldConfig/overrides").iter().flat_map(|over| array_at(over, "/properties"));
    all.filter(move |property| property["id"] == *id).map(|property| &property["value"])
}

/// Cargo's target folder. tests/install puts Grafana's packages into its folder `grafana`.
pub fn target_folder() -> &'static Path {
    let inside = Path::new(env!("CARGO_TARGET_TMPDIR"));
    inside.parent().unwrap_or(inside)
}
