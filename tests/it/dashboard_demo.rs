//! The queries of the Grafana dashboards on a real Prometheus: each returns the known values of a demo day, and nothing for an
//! unknown value, which Grafana then shows as unknown. Needs Prometheus, promtool, Python, Node and Chromium.

use std::{
    error::Error,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use crate::common::{
    browser::Browser,
    dashboards::{array_at, dashboards, panels, str_at, target_folder},
    get, until,
};
use serde_json::Value;

type Outcome = Result<(), Box<dyn Error>>;

/// The processes of a script that starts a Prometheus with samples. Dropping it ends them.
struct Demo {
    child: Child,
    address: SocketAddr,
    /// The exporter that Prometheus scrapes. Without one, the samples end at the time `until`.
    exporter: Option<u64>,
    until: u64,
    hours: u64,
}

/// Values of dashboard variables; a missing variable selects all.
type Selection<'a> = &'a [(&'a str, &'a str)];

impl Demo {
    fn start(script: &[&str], hours: u64) -> Result<Self, Box<dyn Error>> {
        let mut child =
            Command::new("python3").args(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("not piped")?).read_line(&mut line)?;
        let started: Value = serde_json::from_str(&line)?;
        let address = str_at(&started, "/prometheus").trim_start_matches("http://").parse()?;
        let until = started["recorded_until"].as_u64().ok_or("no time")?;
        Ok(Self { child, address, exporter: started["exporter"].as_u64(), until, hours })
    }

    /// The series that a panel query returns, for the present or over the last hours.
    fn query(&self, target: &Value, selection: Selection) -> Vec<Value> {
        let mut expression = str_at(target, "/expr").to_owned();
        for (name, value) in
            [("$__rate_interval", "4m"), ("$__range", &*format!("{}h", self.hours)), ("$__interval", "2m")]
        {
            expression = expression.replace(name, value);
        }
        for name in ["job", "instance", "account", "wallet", "currency", "watched"] {
            let value =
                selection.iter().find(|(variable, _)| *variable == name).map_or(".+", |(_, value)| value);
            expression = expression.replace(&format!("${name}\""), &format!("{value}\""));
        }
        assert!(!expression.replace("$1", "").contains('$'), "{expression}");
        let query: String =
            expression.bytes().fold(String::new(), |escaped, byte| format!("{escaped}%{byte:02X}"));
        let now = std::time::UNIX_EPOCH.elapsed().map(|since| since.as_secs()).unwrap_or_default();
        let now = if self.exporter.is_some() { now } else { self.until };
        let path = if target["instant"] == true {
            format!("/api/v1/query?query={query}&time={now}")
        } else {
            let start = now - self.hours * 3600;
            format!("/api/v1/query_range?query={query}&start={start}&end={now}&step=30")
        };
        let answer = get(self.address, &path, &[]).text();
        let answer = answer.find('{').zip(answer.rfind('}')).and_then(|(from, to)| answer.get(from..=to));
        let answer: Value = serde_json::from_str(answer.unwrap_or_default()).unwrap_or_default();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        array_at(&answer, "/data/result").to_vec()
    }

    /// The value of the only series that an instant query returns.
    fn number(&self, target: &Value, selection: Selection) -> Option<String> {
        match &*self.query(target, selection) {
            [] => None,
            [one] => Some(str_at(one, "/value/1").to_owned()),
            more => panic!("{target}: {more:?}"),
        }
    }

    /// Waits until the query returns the value: on a busy machine a poll may be late.
    fn wait_for_value(&self, target: &Value, selection: Selection, value: Option<&str>) {
        until(&format!("{target} returns {value:?} for {selection:?}"), || {
            (self.number(target, selection).as_deref() == value).then_some(())
        });
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Each query of the dashboards as dashboard uid, panel title and target.
type PanelQuery<'a> = (&'a str, &'a str, &'a Value);

fn target<'a>(all: &[PanelQuery<'a>], uid: &str, title: &str, ref_id: &str) -> Result<&'a Value, String> {
    let mut matching = all.iter().filter(|query| query.0 == uid && query.1 == title);
    let found = matching.find(|query| str_at(query.2, "/refId") == ref_id);
    found.map(|query| query.2).ok_or_else(|| format!("no query {ref_id} of {title} in {uid}"))
}

fn queries<'a>(dashboards: impl IntoIterator<Item = &'a Value>) -> Vec<PanelQuery<'a>> {
    let panels = dashboards
        .into_iter()
        .flat_map(|dashboard| panels(dashboard).map(move |panel| (str_at(dashboard, "/uid"), panel)));
    let queries = panels.flat_map(|(uid, panel)| {
        array_at(panel, "/targets").iter().map(move |target| (uid, str_at(panel, "/title"), target))
    });
    queries.collect()
}

/// A page of the fleet must not grow with the number of accounts.
#[test]
fn fleet_shows_5000_accounts_in_a_few_series() -> Outcome {
    let dashboards = dashboards()?;
    let all = queries(dashboards.get("xt-fleet"));
    let demo = Demo::start(&["grafana/fleet_demo.py", "5000", "1", "240"], 1)?;
    for (uid, title, target) in &all {
        let found = demo.query(target, &[]);
        // One shard is missing.
        let is_empty = *title == "Shards" && target["refId"] == "A";
        assert_eq!(found.is_empty(), is_empty, "{uid}, {title}: {target}");
        assert!(found.len() <= 30, "{uid}, {title} returns {} series: {target}", found.len());
        for nothing in [[("job", "none")], [("instance", "none")]] {
            assert!(demo.query(target, &nothing).is_empty(), "{uid}, {title} for {nothing:?}: {target}");
        }
    }
    // One exporter of five is down, so a fifth of the accounts is missing. One account is paused.
    for (title, ref_id, value) in [
        ("Exporters down", "A", "1"),
        ("Shards", "B", "4"),
        ("Accounts paused", "A", "1"),
        ("Wallets", "A", "3999"),
        ("Wallets", "B", "0"),
        ("Wallets", "C", "1"),
        ("Watched balances low", "A", "56"),
        ("Watched balances low", "B", "0"),
        ("Limits in use", "B", "1"),
    ] {
        let found = demo.number(target(&all, "xt-fleet", title, ref_id)?, &[]);
        assert_eq!(found.as_deref(), Some(value), "{title}, {ref_id}");
    }
    let keys = demo.query(target(&all, "xt-fleet", "Keys closest to their limit", "A")?, &[]);
    assert!(keys.len() == 20 && keys.iter().all(|key| str_at(key, "/value/1") == "1"), "{keys:?}");
    let worst = demo.query(target(&all, "xt-fleet", "Accounts that were not fresh", "A")?, &[]);
    let was_bad = |account: &Value| {
        array_at(account, "/values").iter().any(|value| ["1", "2"].contains(&str_at(value, "/1")))
    };
    assert!(worst.len() == 30 && worst.iter().all(was_bad), "{worst:?}");
    Ok(())
}

#[test]
fn queries_return_known_values_and_nothing_unknown() -> Outcome {
    let dashboards = dashboards()?;
    let all = queries(dashboards.values());
    let demo = Demo::start(&["grafana/demo.py", env!("CARGO_BIN_EXE_xt-balance-exporter"), "24"], 6)?;
    every_query_returns_data(&demo, &all);
    for annotation in dashboards.values().flat_map(|dashboard| array_at(dashboard, "/annotations/list")) {
        demo.query(&annotation["target"], &[]);
    }
    queries_return_values_of_the_demo_day(&demo, &all)?;
    grafana_shows_unknown_values_as_unknown(&demo)?;
    let names: Vec<_> = dashboards.keys().map(String::as_str).collect();
    dashboards_are_lower_than_2500_pixels(&demo, &names)?;
    nothing_is_known_without_the_exporter(&demo, &all)
}

fn every_query_returns_data(demo: &Demo, all: &[PanelQuery]) {
    // One account is unknown, so sums over all accounts are unknown too. All other accounts are known.
    let known: Selection =
        &[("account", "(treasury|treasury-fiat|market-maker|arbitrage|arbitrage-futures|cold-storage)")];
    let sums = ["Balances by currency", "Worth of selected accounts in USDT", "Holdings without a price"];
    let least_worth = |title: &str, target: &Value| title == sums[1] && target["refId"] == "B";
    for (uid, title, target) in all {
        let found = demo.query(target, &[]);
        if *title == "Shards" && target["refId"] == "B" {
            assert!(found.is_empty(), "{uid}, {title}: the only shard is not missing");
        } else if least_worth(title, target) {
            assert!(!found.is_empty(), "{uid}, {title} is empty: {target}");
            assert!(demo.query(target, known).is_empty(), "{uid}, {title}: nothing is missing");
        } else if sums.contains(title) {
            assert!(found.is_empty(), "{uid}, {title}: a sum with an unknown part: {found:?}");
            assert!(!demo.query(target, known).is_empty(), "{uid}, {title} is empty: {target}");
        } else {
            assert!(!found.is_empty(), "{uid}, {title} is empty: {target}");
        }
        // A selection that matches nothing returns nothing: every query respects the variables.
        for nothing in [[("job", "none")], [("instance", "none")]] {
            assert!(demo.query(target, &nothing).is_empty(), "{uid}, {title} for {nothing:?}: {target}");
        }
    }
}

fn queries_return_values_of_the_demo_day(demo: &Demo, all: &[PanelQuery]) -> Outcome {
    for (uid, title, value) in [
        ("xt-balances", "Watched balances unknown", "1"),
        ("xt-balances", "Watched balances low", "1"),
        ("xt-balances", "Watched currencies missing", "1"),
        ("xt-balances", "Exporters down", "0"),
        ("xt-exporter", "Exporters down", "0"),
        ("xt-exporter", "Wallets not fresh", "1"),
        ("xt-exporter", "Accounts paused", "1"),
        ("xt-fleet", "Accounts paused", "1"),
        ("xt-fleet", "Shards", "1"),
    ] {
        demo.wait_for_value(target(all, uid, title, "A")?, &[], Some(value));
    }
    for (title, ref_id, account, currency, value) in [
        ("Wallet states", "A", "grid-bot", "usdt", Some("2")),
        ("Wallet states", "A", "treasury", "usdt", Some("0")),
        ("Watched balances", "A", "market-maker", "usdt", Some("1")),
        ("Watched balances", "A", "treasury-fiat", "usd", Some("2")),
        ("Watched balances", "A", "grid-bot", "usdt", None),
        ("Watched balances", "C", "treasury-fiat", "usd", Some("481203.5")),
        ("Watched balances", "C", "grid-bot", "usdt", None),
        ("Watched balances", "D", "grid-bot", "usdt", Some("300")),
        ("Watched balances", "E", "grid-bot", "usdt", Some("150")),
        ("Watched balances", "E", "market-maker", "usdt", Some("300")),
        ("Watched balances", "F", "grid-bot", "usdt", None),
        ("Watched balances", "F", "cold-storage", "btc", Some("NaN")),
        ("Frozen amounts", "C", "treasury", "usdt", Some("1")),
        ("Frozen amounts", "C", "market-maker", "usdt", Some("0")),
        ("Frozen amounts by reason", "A", "market-maker", "usdt", None),
        ("Balances by wallet", "A", "grid-bot", "usdt", None),
        ("Worth by currency in USDT", "C", "treasury", "usdt", Some("1")),
        ("Worth by currency in USDT", "A", "treasury-fiat", "usd", Some("NaN")),
        ("Worth by currency in USDT", "C", "treasury-fiat", "usd", Some("NaN")),
        ("Worth by currency in USDT", "D", "treasury-fiat", "usd", Some("481203.5")),
        ("Worth by currency in USDT", "A", "grid-bot", "usdt", None),
        ("Holdings without a price", "A", "cold-storage", "btc", Some("0")),
        ("Holdings without a price", "A", "treasury-fiat", "usd", Some("2")),
        ("Open positions", "A", "arbitrage-futures", "usdt", Some("3")),
        ("Open positions", "A", "treasury", "usdt", Some("NaN")),
        // No balance of this account has a price: its worth is unknown, not 0.
        ("Worth of selected accounts in USDT", "A", "treasury-fiat", "usd", None),
    ] {
        let selection = [("account", account), ("currency", currency)];
        demo.wait_for_value(target(all, "xt-balances", title, ref_id)?, &selection, value);
    }
    let by_reason = target(all, "xt-balances", "Frozen amounts by reason", "A")?;
    let parts = demo.query(by_reason, &[("account", "cold-storage")]);
    let part =
        |sample: &Value| format!("{} {}", str_at(sample, "/metric/reason"), str_at(sample, "/value/1"));
    let mut parts: Vec<_> = parts.iter().map(part).collect();
    parts.sort_unstable();
    assert_eq!(parts, ["lock 1.25", "other 0.25", "withdraw 0.5"]);
    let positions = demo.query(target(all, "xt-balances", "Positions", "A")?, &[]);
    let level =
        |sample: &Value| format!("{} {}", str_at(sample, "/metric/symbol"), str_at(sample, "/value/1"));
    let mut levels: Vec<_> = positions.iter().map(level).collect();
    levels.sort_unstable();
    assert_eq!(levels, ["btc_usdt NaN", "eth_usdt 1", "sol_usdt 2"]);
    for account in demo.query(target(all, "xt-balances", "Worth by account in USDT", "A")?, &[]) {
        let mut values = array_at(&account, "/values").iter().map(|value| str_at(value, "/1"));
        assert!(values.all(|value| value != "0"), "the account always held something: {account}");
    }
    Ok(())
}

/// Kills the exporter. Instant queries then return nothing, except for the count of exporters that are down.
fn nothing_is_known_without_the_exporter(demo: &Demo, all: &[PanelQuery]) -> Outcome {
    let exporter = demo.exporter.ok_or("no exporter")?;
    let killed = Command::new("kill").args(["-KILL", &exporter.to_string()]).status()?;
    assert!(killed.success());
    let down = target(all, "xt-balances", "Exporters down", "A")?;
    until("Prometheus notices that the exporter is down", || (demo.number(down, &[])? == "1").then_some(()));
    // The failures of the last 15 minutes do not change.
    let unchanged = ["Exporters down", "Failed polls by reason", "Highest poll failure ratio"];
    for (uid, title, target) in all.iter().filter(|query| query.2["instant"] == true) {
        if !unchanged.contains(title) {
            // Prometheus may have evaluated a rule just before the scrape failed.
            until(&format!("{uid}, {title} is unknown: {target}"), || {
                demo.query(target, &[]).is_empty().then_some(())
            });
        }
    }
    Ok(())
}

/// Draws pages of all dashboards into a folder; Grafana's own code (@grafana/data) makes their texts.
fn draw_pages(demo: &Demo, more: &[&str]) -> Result<tempfile::TempDir, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let run = Command::new("node")
        .args(["grafana/render.mjs", &format!("http://{}", demo.address), "--pages"])
        .arg(format!("--folder={}", folder.path().display()))
        .args(more)
        .env("CARGO_TARGET_DIR", target_folder())
        .output()?;
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Ok(folder)
}

/// Measured in Chromium, with as many panels as the data has.
fn dashboards_are_lower_than_2500_pixels(demo: &Demo, names: &[&str]) -> Outcome {
    let folder = draw_pages(demo, &[])?;
    let mut browser = Browser::start();
    browser.set_screen(1440, 900, true);
    for name in names {
        let page = folder.path().join(format!("{name}-dark-desktop.html"));
        browser.open(&format!("file://{}", page.display()));
        let lowest = "Math.max(...[...document.querySelectorAll('section')]
            .map(section => section.getBoundingClientRect().bottom))";
        let lowest = browser.eval(lowest).as_f64().ok_or("no panel")?;
        assert!((1000.0..2500.0).contains(&lowest), "{name}: {lowest}");
        let too_wide = "[...document.querySelectorAll('.big > div')]
            .filter(number => number.scrollWidth > number.parentNode.clientWidth).length";
        assert_eq!(browser.eval(too_wide), 0, "{name}: numbers that are too wide");
    }
    Ok(())
}

fn grafana_shows_unknown_values_as_unknown(demo: &Demo) -> Outcome {
    let folder = draw_pages(demo, &["--open"])?;
    let page = fs::read_to_string(folder.path().join("xt-balances-dark-desktop.html"))?;
    let panel = |title: &str| {
        let section = page.split("<section").find(|section| section.contains(&format!(">{title}</h3>")));
        section.unwrap_or_else(|| panic!("no panel {title}"))
    };
    // The texts of a row's cells.
    let row = |title: &str, account: &str| {
        let row =
            panel(title).split("<tr>").find(|row| row.contains(&format!(">{account}<"))).unwrap_or_default();
        let cells = row.split("</td>").filter_map(|cell| cell.rsplit('>').next());
        cells.filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
    };
    let unknown = row("Watched balances", "grid-bot");
    let expected =
        ["unknown", "grid-bot", "spot", "usdt", "unknown", "unknown", "300", "150", "unknown", "unknown"];
    assert_eq!(unknown.get(..10), Some(&expected[..]));
    let not_falling = row("Watched balances", "cold-storage");
    let expected =
        ["above threshold", "cold-storage", "spot", "btc", "415%", "41.5", "10", "5", "not falling", "0"];
    assert_eq!(not_falling.get(..10), Some(&expected[..]));
    assert_eq!(row("Watched balances", "market-maker").first(), Some(&"low"));
    assert_eq!(row("Wallet states", "grid-bot").get(2), Some(&"unknown"));
    assert!(row("Balances by wallet", "grid-bot").is_empty());
    assert!(row("Worth by currency in USDT", "grid-bot").is_empty());
    let unpriced = row("Worth by currency in USDT", "usd");
    let expected = ["treasury-fiat", "fiat", "usd", "no price", "unknown", "no price", "481,203.5"];
    assert_eq!(unpriced.get(..7), Some(&expected[..]));
    assert!(panel("Balances by currency").contains("unknown"));
    let worth = panel("Worth of selected accounts in USDT");
    assert!(worth.contains("without grid-bot/spot") && worth.contains("≥ "), "{worth}");
    assert!(!page.contains(">Exporter</th>"), "one exporter needs no column");
    assert!(panel("Watched balances unknown").contains(">1<"));
    assert!(panel("Shortest runway").contains(">below threshold<"));
    Ok(())
}
