//! Queries of the Grafana dashboards in promtool, with series that the demo day of `dashboard_demo.rs` does not have. Needs
//! promtool.

use std::{error::Error, fs, process::Command};

use crate::common::{
    dashboards::{array_at, dashboards, override_values, panel_titled, str_at},
    promql::RULES,
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

/// A missing shard and a shard with two processes, as the dashboard of the fleet tells them.
#[test]
fn fleet_tells_missing_and_duplicated_shards() -> Outcome {
    let dashboards = dashboards()?;
    let fleet = dashboards.get("xt-fleet").ok_or("no xt-fleet")?;
    let [complete, missing] = [0, 1].map(|place| &panel_titled(fleet, "Shards")["targets"][place]);
    let processes = &panel_titled(fleet, "Exporters")["targets"][3];
    let exporter = |instance: &str, shard: &str| {
        [
            format!("xt_shard_info job=j,instance={instance},shard={shard},shards=3 1"),
            format!("xt_shards job=j,instance={instance} 3"),
        ]
    };
    let row = |instance: &str, shard: &str, count: &str| {
        format!("instance={instance},shard={shard},shards=3 {count}")
    };
    let two = [exporter("a", "1"), exporter("b", "2")].concat();
    let rows = [row("a", "1", "1"), row("b", "2", "1")].join("; ");
    assert_promtool_finds(&two, &[(complete, ""), (missing, "shards=3 2"), (processes, &*rows)])?;
    let all = [two.clone(), exporter("c", "3").to_vec()].concat();
    assert_promtool_finds(&all, &[(complete, "shards=3 3"), (missing, "")])?;
    // Two processes with the same shard do not replace the missing one.
    let twice = [two, exporter("c", "2").to_vec()].concat();
    let rows = [row("a", "1", "1"), row("b", "2", "2"), row("c", "2", "2")].join("; ");
    assert_promtool_finds(&twice, &[(complete, ""), (missing, "shards=3 2"), (processes, &*rows)])
}
