//! The queries of the Grafana dashboards: each returns the known values of a real Prometheus, and nothing for an unknown
//! value, which Grafana then shows as unknown. Needs Prometheus, promtool, Python and Node.

use std::{
    error::Error,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use crate::common::{
    browser::Browser,
    dashboards::{array_at, dashboards, override_values, panel_titled, panels, str_at, target_folder},
    get,
    promql::RULES,
    until,
};
use serde_json::{Value, json};

type Outcome = Result<(), Box<dyn Error>>;

/// Label matchers in `PromQL` syntax, from `name=value,name=value`.
fn braces(short: &str) -> String {
    let pairs = short.split(',').filter_map(|label| label.split_once('='));
    let pairs: Vec<_> = pairs.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    format!("{{{}}}", pairs.join(","))
}

/// Runs queries of a dashboard in promtool and compares the results. `series`, each `metric labels value`, are the only
/// input; the recording rules are evaluated on it. An expected result is `labels value; labels value`. The value `text`
/// stands for NaN, which the dashboards show as a text.
fn assert_promtool_finds(series: &[String], expected: &[(&Value, &str)]) -> Outcome {
    let input = series.iter().map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap_or_default();
        let (metric, labels) = series.split_once(' ').unwrap_or_default();
        json!({"series": format!("{metric}{}", braces(labels)), "values": format!("{value}x9")})
    });
    let queries = expected.iter().map(|(target, answer)| {
        let chosen = ["job", "instance", "account", "wallet", "currency"];
        let all = |query: String, name: &&str| query.replace(&format!("${name}\""), ".+\"");
        let query = chosen.iter().fold(str_at(target, "/expr").to_owned(), all);
        // promtool cannot compare NaN. A value that differs from itself is NaN and becomes -1.
        let query = format!("0 + (({query}) == ({query})) or 0 * (({query}) != bool ({query})) - 1");
        let samples = answer.split("; ").filter_map(|sample| sample.rsplit_once(' ')).map(|(labels, value)| {
            json!({"labels": braces(labels), "value": value.parse::<f64>().unwrap_or(-1.0)})
        });
        json!({"expr": query, "eval_time": "5m", "exp_samples": samples.collect::<Vec<_>>()})
    });
    let test = json!({
        "interval": "1m",
        "input_series": input.collect::<Vec<_>>(),
        "promql_expr_test": queries.collect::<Vec<_>>(),
    });
    let rules = fs::canonicalize(RULES)?;
    let file = json!({"rule_files": [rules], "evaluation_interval": "1m", "tests": [test]});
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("test.yml");
    fs::write(&path, file.to_string())?;
    let run = Command::new("promtool").args(["test", "rules"]).arg(&path).output()?;
    let output = [run.stdout, run.stderr].map(|output| String::from_utf8_lossy(&output).into_owned());
    assert!(run.status.success(), "{series:#?}\n{}", output.concat());
    Ok(())
}

/// Titles of the stat panels in the row `Worth`.
const WORTH_STATS: [&str; 3] =
    ["Worth of selected accounts in USDT", "Holdings without a price", "Price age"];
#[test]
fn worth_panels_say_when_prices_are_off() -> Outcome {
    let dashboards = dashboards()?;
    let balances = dashboards.get("xt-balances").ok_or("no xt-balances")?;
    let off = json!({"text": "prices are off", "color": "#8e8e8e"});
    for title in WORTH_STATS {
        let mappings = array_at(panel_titled(balances, title), "/fieldConfig/defaults/mappings");
        let is_off = |mapping: &Value| {
            str_at(mapping, "/options/match") == "nan" && mapping["options"]["result"] == off
        };
        assert!(mappings.iter().any(is_off), "{title}");
    }
    for title in ["Worth by account in USDT", "Currencies without a price", "Worth by currency in USDT"] {
        let no_value = str_at(panel_titled(balances, title), "/fieldConfig/defaults/noValue");
        assert_eq!(no_value, "unknown, or prices are off", "{title}");
    }
    Ok(())
}

/// The demo day does not cover this case: no configuration changes there.
#[test]
fn builds_panel_shows_a_failed_reload() -> Outcome {
    let dashboards = dashboards()?;
    let builds = panel_titled(dashboards.get("xt-exporter").ok_or("no xt-exporter")?, "Builds");
    let mut series = Vec::new();
    for (exporter, configured) in [("good", Some((70, 1))), ("bad", Some((60, 0))), ("demo", None)] {
        let labels = format!("job=xt-balance-exporter,instance={exporter}");
        series.push(format!("xt_up {labels},account=desk,wallet=spot 1"));
        series.push(format!("xt_exporter_build_info {labels},revision=r,rustversion=1,version=2 1"));
        series.push(format!("process_start_time_seconds {labels} 50"));
        if let Some((at, is_good)) = configured {
            series.push(format!("xt_exporter_config_last_reload_success_timestamp_seconds {labels} {at}"));
            series.push(format!("xt_exporter_config_last_reload_successful {labels} {is_good}"));
        }
    }
    let row = |exporter: &str, value: &str| {
        format!("exporter={exporter},revision=r,rustversion=1,version=2 {value}")
    };
    let rows = [
        [row("good", "50000"), row("bad", "50000"), row("demo", "50000")].join("; "),
        [row("good", "70000"), row("bad", "60000")].join("; "),
        [row("good", "1"), row("bad", "0")].join("; "),
    ];
    let targets = array_at(builds, "/targets");
    assert_eq!(targets.len(), rows.len());
    assert_promtool_finds(&series, &targets.iter().zip(rows.iter().map(String::as_str)).collect::<Vec<_>>())?;

    let colors = override_values(builds, "mappings").find_map(|mappings| {
        let of_values = array_at(mappings, "").iter().find(|mapping| mapping["type"] == "value")?;
        Some(["0", "1"].map(|value| str_at(of_values, &format!("/options/{value}/color")).to_owned()))
    });
    assert_eq!(colors, Some(["orange", "green"].map(str::to_owned)));
    Ok(())
}

/// Series of an exporter with one wallet.
fn wallet_series(instance: &str) -> Vec<String> {
    [
        "up  1",
        "xt_up account=desk,wallet=spot 1",
        "xt_currencies account=desk,wallet=spot 3",
        "xt_balance_free account=desk,wallet=spot,currency=usdt 750",
        "xt_balance_frozen account=desk,wallet=spot,currency=usdt 0",
        "xt_balance_free account=desk,wallet=spot,currency=btc 0.001",
        "xt_balance_frozen account=desk,wallet=spot,currency=btc 0.004",
        "xt_balance_free account=desk,wallet=spot,currency=odd 5",
        "xt_balance_frozen account=desk,wallet=spot,currency=odd 0",
        "xt_balance_free account=desk,wallet=spot,currency=eth 0",
        "xt_balance_frozen account=desk,wallet=spot,currency=eth 0",
    ]
    .map(|line| line.replacen(' ', &format!(" job=j,instance={instance},"), 1))
    .into()
}

/// The series of an exporter that asks for prices and last read them at a time, in seconds.
fn prices_read_at(instance: &str, seconds: u32) -> Vec<String> {
    vec![format!("xt_price_last_success_timestamp_seconds job=j,instance={instance} {seconds}")]
}

fn price_series(instance: &str, btc: u32) -> Vec<String> {
    vec![
        format!("xt_price job=j,instance={instance},currency=usdt,quote=usdt 1"),
        format!("xt_price job=j,instance={instance},currency=btc,quote=usdt {btc}"),
        format!("xt_price job=j,instance={instance},currency=eth,quote=usdt 2000"),
        format!("xt_unpriced_currencies job=j,instance={instance},account=desk,wallet=spot 1"),
    ]
}

/// The demo day does not cover these cases: its exporter always knows prices.
#[test]
fn worth_is_complete_or_unknown_and_says_when_prices_are_off() -> Outcome {
    let dashboards = dashboards()?;
    let balances = dashboards.get("xt-balances").ok_or("no xt-balances")?;
    let target = |title: &str, place: usize| &panel_titled(balances, title)["targets"][place];
    let [worth, unpriced, age] = WORTH_STATS.map(|title| target(title, 0));
    let least = target(WORTH_STATS[0], 1);
    let line = target("Worth by account in USDT", 0);
    let [each, share, price, amount] = [0, 1, 2, 3].map(|place| target("Worth by currency in USDT", place));

    let concat = |parts: &[&[String]]| parts.concat();
    let known = concat(&[&wallet_series("a"), &prices_read_at("a", 290), &price_series("a", 50_000)]);
    let line_of_a = "account=desk 1000";
    // Rows of the table of currencies: there is one exporter, account and wallet.
    let rows = |of: &[(&str, &str)]| {
        let row = |(currency, value): &(&str, &str)| {
            format!("account=desk,wallet=spot,currency={currency} {value}")
        };
        of.iter().map(row).collect::<Vec<_>>().join("; ")
    };
    let amounts = &*rows(&[("usdt", "750"), ("btc", "0.005"), ("odd", "5")]);
    let each_of_a = &*rows(&[("usdt", "750"), ("btc", "250"), ("odd", "text")]);
    assert_promtool_finds(
        &known,
        &[
            (worth, "part=all wallets 1000"),
            (least, ""),
            (unpriced, " 1"),
            (age, " 10"),
            (line, line_of_a),
            (each, each_of_a),
            (share, &rows(&[("usdt", "0.75"), ("btc", "0.25")])),
            (price, &rows(&[("usdt", "1"), ("btc", "50000"), ("odd", "text")])),
            (amount, amounts),
        ],
    )?;

    // Two exporters with different prices: the account counts once.
    let both = concat(&[&known, &wallet_series("b"), &prices_read_at("b", 280), &price_series("b", 450_000)]);
    let line_of_both = "account=desk 3000";
    assert_promtool_finds(
        &both,
        &[
            (worth, "part=all wallets 3000"),
            (least, ""),
            (unpriced, " 2"),
            (age, " 20"),
            (line, line_of_both),
        ],
    )?;

    let down = [
        "up job=j,instance=b 0".to_owned(),
        "xt_exporter_build_info job=j,instance=b,revision=r,rustversion=1,version=2 1".to_owned(),
    ];
    let other_job_down = ["up job=node,instance=c 0".to_owned()];
    let unread = ["xt_up job=j,instance=a,account=desk,wallet=fiat 0".to_owned()];
    for (series, of_stats, of_least, of_age, of_line, of_each) in [
        // Prices are off. Then another exporter is down, and it may have prices.
        (concat(&[&wallet_series("a")]), " text", "", " text", "", ""),
        (concat(&[&wallet_series("a"), &down]), "", "", "", "", ""),
        // A target of another job is down.
        (concat(&[&wallet_series("a"), &other_job_down]), " text", "", " text", "", ""),
        // Prices were never read, or are too old.
        (concat(&[&wallet_series("a"), &prices_read_at("a", 0)]), "", "", "", "", ""),
        (concat(&[&wallet_series("a"), &prices_read_at("a", 100)]), "", "", " 200", "", ""),
        // Another exporter is down; a wallet is unknown; both.
        (concat(&[&known, &down]), "", "part=exporter b 1000", "", line_of_a, each_of_a),
        (concat(&[&known, &unread]), "", "part=desk/fiat 1000", " 10", "", each_of_a),
        (concat(&[&known, &unread, &down]), "", "part=desk/fiat,more= and 1 more 1000", "", "", each_of_a),
    ] {
        // Every holding has a row if the exporter asks for prices.
        let of_amount = if series.iter().any(|line| line.contains("last_success")) { amounts } else { "" };
        let expected = [
            (worth, of_stats),
            (least, of_least),
            (unpriced, of_stats),
            (age, of_age),
            (line, of_line),
            (each, of_each),
            (amount, of_amount),
        ];
        assert_promtool_finds(&series, &expected)?;
    }
    assert_promtool_finds(&concat(&[&known, &unread]), &[(share, "")])?;
    // Prices are off in another exporter of the same account.
    let mixed = concat(&[&known, &wallet_series("b")]);
    let of_worth = "part=all wallets 1000";
    assert_promtool_finds(&mixed, &[(worth, of_worth), (unpriced, ""), (age, " 10"), (line, line_of_a)])
}

/// The value that the exchange sends beside the worth that this page computes for the same wallets.
#[test]
fn exchange_total_stands_beside_the_worth_of_the_same_wallets() -> Outcome {
    let dashboards = dashboards()?;
    let panel = panel_titled(
        dashboards.get("xt-balances").ok_or("no xt-balances")?,
        "The exchange's own total in USDT",
    );
    let [total, ours] = [0, 1].map(|place| &panel["targets"][place]);
    let known = [wallet_series("a"), prices_read_at("a", 290), price_series("a", 50_000)].concat();
    assert_promtool_finds(&known, &[(total, ""), (ours, "")])?;
    let of_exchange = ["xt_exchange_total_usdt job=j,instance=a,account=desk,wallet=spot 1010".to_owned()];
    let both = [known, of_exchange.to_vec()].concat();
    assert_promtool_finds(&both, &[(total, "wallets=1 1010"), (ours, "part=the same wallets here 1000")])?;
    // Without prices only the exchange's value is known.
    let unpriced = [wallet_series("a"), of_exchange.to_vec()].concat();
    assert_promtool_finds(&unpriced, &[(total, "wallets=1 1010"), (ours, "")])
}

/// Series of an exporter with an open position.
fn position_series(side: &str, mark: &str, liquidation: Option<&str>) -> Vec<String> {
    let wallet = "job=j,instance=a,account=desk,wallet=futures_usdt";
    let position = format!("{wallet},symbol=btc_usdt,side={side}");
    let liquidation = liquidation.map(|price| format!("xt_position_liquidation_price {position} {price}"));
    [
        format!("xt_position_mark_price {position} {mark}"),
        format!("xt_up {wallet} 1"),
        format!("xt_positions {wallet} 1"),
        format!("xt_positions_up {wallet} 1"),
        format!("xt_position_liquidation_distance_threshold {wallet} 0.2"),
        format!("xt_position_liquidation_distance_page_threshold {wallet} 0.1"),
    ]
    .into_iter()
    .chain(liquidation)
    .collect()
}

#[test]
fn positions_have_levels_and_unknown_ones_are_not_far_from_liquidation() -> Outcome {
    let dashboards = dashboards()?;
    let balances = dashboards.get("xt-balances").ok_or("no xt-balances")?;
    let target = |title: &str, place: usize| &panel_titled(balances, title)["targets"][place];
    let [level, distance] = [0, 1].map(|place| target("Positions", place));
    let [nearest, open] = ["Nearest to liquidation", "Open positions"].map(|title| target(title, 0));
    let row = |side: &str, value: &str| {
        format!("account=desk,wallet=futures_usdt,symbol=btc_usdt,side={side} {value}")
    };
    for (side, mark, liquidation, of_level, of_distance) in [
        ("long", "128", Some("96"), "2", "0.25"),
        ("long", "128", Some("112"), "1", "0.125"),
        ("long", "128", Some("124"), "0", "0.03125"),
        ("short", "128", Some("192"), "2", "0.5"),
        ("short", "128", Some("96"), "0", "-0.25"),
        ("short", "128", None, "text", "text"),
    ] {
        let of_nearest = format!(" {of_distance}");
        assert_promtool_finds(
            &position_series(side, mark, liquidation),
            &[
                (level, &*row(side, of_level)),
                (distance, &*row(side, of_distance)),
                (nearest, &*of_nearest),
                (open, " 1"),
            ],
        )?;
    }
    // Nobody reads positions; then the positions of a second wallet are unknown; then an exporter is down.
    let off = ["xt_up job=j,instance=a,account=desk,wallet=spot 1".to_owned()];
    assert_promtool_finds(&off, &[(level, ""), (nearest, " text"), (open, " text")])?;
    let known = position_series("long", "100", Some("75"));
    let unread = ["xt_positions_up job=j,instance=a,account=desk,wallet=futures_coin 0".to_owned()];
    assert_promtool_finds(&[known, unread.to_vec()].concat(), &[(nearest, ""), (open, "")])?;
    let down = ["up job=xt-balance-exporter,instance=b 0".to_owned()];
    assert_promtool_finds(&[off, down].concat(), &[(nearest, ""), (open, "")])
}

#[test]
fn tables_name_the_exporter_only_if_there_are_several() -> Outcome {
    let dashboards = dashboards()?;
    let states = panel_titled(dashboards.get("xt-balances").ok_or("no xt-balances")?, "Wallet states");
    let state = &states["targets"][0];
    let one = wallet_series("a");
    assert_promtool_finds(&one, &[(state, "account=desk,wallet=spot 0")])?;
    let both = [one, wallet_series("b")].concat();
    let rows = "account=desk,exporter=a,wallet=spot 0; account=desk,exporter=b,wallet=spot 0";
    assert_promtool_finds(&both, &[(state, rows)])
}

/// The processes of `grafana/demo.py`, with a Prometheus that holds a demo day. Dropping it ends them.
struct DemoDay {
    child: Child,
    address: SocketAddr,
    exporter: u64,
}

/// Values of dashboard variables; a missing variable selects all.
type Selection<'a> = &'a [(&'a str, &'a str)];

impl DemoDay {
    fn start() -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new("python3")
            .args(["grafana/demo.py", env!("CARGO_BIN_EXE_xt-balance-exporter"), "24"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("not piped")?).read_line(&mut line)?;
        let started: Value = serde_json::from_str(&line)?;
        let address = str_at(&started, "/prometheus").trim_start_matches("http://").parse()?;
        Ok(Self { child, address, exporter: started["exporter"].as_u64().ok_or("no process")? })
    }

    /// The series that a panel query returns, for the present or over the last six hours.
    fn query(&self, target: &Value, selection: Selection) -> Vec<Value> {
        let mut expression = str_at(target, "/expr").replace("$__rate_interval", "1m");
        for name in ["job", "instance", "account", "wallet", "currency", "watched"] {
            let value =
                selection.iter().find(|(variable, _)| *variable == name).map_or(".+", |(_, value)| value);
            expression = expression.replace(&format!("${name}\""), &format!("{value}\""));
        }
        assert!(!expression.replace("$1", "").contains('$'), "{expression}");
        let query: String =
            expression.bytes().fold(String::new(), |escaped, byte| format!("{escaped}%{byte:02X}"));
        let path = if target["instant"] == true {
            format!("/api/v1/query?query={query}")
        } else {
            let now = std::time::UNIX_EPOCH.elapsed().map(|since| since.as_secs()).unwrap_or_default();
            format!("/api/v1/query_range?query={query}&start={}&end={now}&step=30", now - 6 * 3600)
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

impl Drop for DemoDay {
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

#[test]
fn queries_return_known_values_and_nothing_unknown() -> Outcome {
    let dashboards = dashboards()?;
    let all: Vec<PanelQuery> = dashboards
        .values()
        .flat_map(|dashboard| panels(dashboard).map(move |panel| (str_at(dashboard, "/uid"), panel)))
        .flat_map(|(uid, panel)| {
            array_at(panel, "/targets").iter().map(move |target| (uid, str_at(panel, "/title"), target))
        })
        .collect();
    let demo = DemoDay::start()?;
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

fn every_query_returns_data(demo: &DemoDay, all: &[PanelQuery]) {
    // One account is unknown, so sums over all accounts are unknown too. All other accounts are known.
    let known: Selection =
        &[("account", "(treasury|treasury-fiat|market-maker|arbitrage|arbitrage-futures|cold-storage)")];
    let sums = ["Balances by currency", "Worth of selected accounts in USDT", "Holdings without a price"];
    let least_worth = |title: &str, target: &Value| title == sums[1] && target["refId"] == "B";
    for (uid, title, target) in all {
        let found = demo.query(target, &[]);
        if least_worth(title, target) {
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

fn queries_return_values_of_the_demo_day(demo: &DemoDay, all: &[PanelQuery]) -> Outcome {
    for (uid, title, value) in [
        ("xt-balances", "Watched balances unknown", "1"),
        ("xt-balances", "Watched balances low", "1"),
        ("xt-balances", "Watched currencies missing", "1"),
        ("xt-balances", "Exporters down", "0"),
        ("xt-exporter", "Exporters down", "0"),
        ("xt-exporter", "Wallets not fresh", "1"),
        ("xt-exporter", "Accounts paused", "1"),
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
fn nothing_is_known_without_the_exporter(demo: &DemoDay, all: &[PanelQuery]) -> Outcome {
    let killed = Command::new("kill").args(["-KILL", &demo.exporter.to_string()]).status()?;
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
fn draw_pages(demo: &DemoDay, more: &[&str]) -> Result<tempfile::TempDir, Box<dyn Error>> {
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
fn dashboards_are_lower_than_2500_pixels(demo: &DemoDay, names: &[&str]) -> Outcome {
    let folder = draw_pages(demo, &[])?;
    let mut browser = Browser::start();
    browser.set_screen(1440, 900, true);
    for name in names {
        let page = folder.path().join(format!("{name}-dark-desktop.html"));
        browser.open(&format!("file://{}", page.display()));
        let lowest = "Math.max(...[...document.querySelectorAll('section')].map(s => s.getBoundingClientRect().bottom))";
        let lowest = browser.eval(lowest).as_f64().ok_or("no panel")?;
        assert!((1000.0..2500.0).contains(&lowest), "{name}: {lowest}");
        let cut = "[...document.querySelectorAll('.big > div')].filter(d => d.scrollWidth > d.parentNode.clientWidth).length";
        assert_eq!(browser.eval(cut), 0, "{name}: numbers that are too wide");
    }
    Ok(())
}

fn grafana_shows_unknown_values_as_unknown(demo: &DemoDay) -> Outcome {
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
        ["grid-bot", "spot", "usdt", "unknown", "unknown", "unknown", "300", "150", "unknown", "unknown"];
    assert_eq!(unknown.get(..10), Some(&expected[..]));
    let not_falling = row("Watched balances", "cold-storage");
    let expected =
        ["cold-storage", "spot", "btc", "above threshold", "415%", "41.5", "10", "5", "not falling", "0"];
    assert_eq!(not_falling.get(..10), Some(&expected[..]));
    assert_eq!(row("Watched balances", "market-maker").get(3), Some(&"low"));
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
