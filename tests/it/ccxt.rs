//! A client that no one here wrote reads the simulated exchange: ccxt signs as it does for the real
//! one, and finds the balances that the exporter exports. So the simulator is no echo of the
//! exporter's own idea of the exchange.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use crate::common::{Exporter, answer, text_format};
use serde_json::Value;

/// An account of `simulate` that never trades.
const ACCOUNT: (&str, &str, &str) =
    ("cold-storage", "de300000-0000-4000-8000-000000000004", "de30000000000000000000000000000000000004");

/// Free, frozen and both together, by wallet and currency.
type Balances = BTreeMap<(String, String), [f64; 3]>;

/// The sum of the parts of a frozen amount, by wallet and currency.
type Parts = BTreeMap<(String, String), f64>;

/// Runs the driver beside this file in the environment that tests/install has made.
fn ccxt(url: &str, access: &str, secret: &str) -> Value {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("ccxt/bin/python");
    assert!(python.exists(), "{} is not there: run tests/install", python.display());
    let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ccxt/balances.py");
    let mut command = Command::new(&python);
    command.args([driver, url, access, secret]).env_clear().stdin(Stdio::null());
    let output = command.output().unwrap();
    let (stdout, stderr) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

/// Sets a balance of the account that is compared.
fn put(address: SocketAddr, path: &str, available: &str, freeze: &str) {
    let body = format!(r#"{{"available":"{available}","freeze":"{freeze}"}}"#);
    control(address, &format!("/simulator/accounts/{}/{path}", ACCOUNT.0), &body);
}

fn control(address: SocketAddr, target: &str, body: &str) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "PUT {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap();
    let answer = answer(&raw);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// `simulate`, and where it listens.
fn simulate() -> (Exporter, SocketAddr) {
    let simulator = Exporter::start(&["simulate", "--web.listen-address=127.0.0.1:0"], &[]);
    let line = simulator.stdout.wait_for("listens on http://");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
    let address = address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    (simulator, address)
}

/// Balances, the sum of the parts of each frozen amount, and prices by currency.
fn exported(url: &str) -> (Balances, Parts, BTreeMap<String, f64>) {
    let (fapi, dapi) = (format!("{url}/fapi"), format!("{url}/dapi"));
    let words = [
        "once",
        "--xt.api=v4",
        "--xt.base-url",
        url,
        "--xt.futures-usdt-base-url",
        &fapi,
        "--xt.futures-coin-base-url",
        &dapi,
        "--xt.wallet=spot",
        "--xt.wallet=futures_usdt",
        "--xt.wallet=futures_coin",
        "--xt.prices=usdt",
    ];
    let output = Exporter::run(&words, &[("XT_ACCESS_KEY", ACCOUNT.1), ("XT_SECRET_KEY", ACCOUNT.2)]);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    let families = text_format::read(&output.stdout).unwrap();
    let mut balances = Balances::new();
    for (place, name) in ["xt_balance_free", "xt_balance_frozen"].into_iter().enumerate() {
        for sample in &families[name].samples {
            let key = (sample.labels["wallet"].clone(), sample.labels["currency"].clone());
            balances.entry(key).or_default()[place] = sample.value;
        }
    }
    for amounts in balances.values_mut() {
        amounts[2] = amounts[0] + amounts[1];
    }
    let mut parts = Parts::new();
    // ccxt does not count the fees of open orders either.
    let counted = families["xt_balance_frozen_part"].samples.iter();
    for sample in counted.filter(|sample| sample.labels["reason"] != "order_fee") {
        let key = (sample.labels["wallet"].clone(), sample.labels["currency"].clone());
        *parts.entry(key).or_default() += sample.value;
    }
    let prices = families["xt_price"].samples.iter();
    (balances, parts, prices.map(|sample| (sample.labels["currency"].clone(), sample.value)).collect())
}

#[test]
fn ccxt_finds_the_balances_and_prices_that_are_exported() {
    let (_simulator, address) = simulate();
    for (path, available, freeze) in [
        ("spot/usdt", "31.70995965", "0.03834082"),
        ("spot/gal%28ft%29", "0.00000001", "0"),
        ("futures_usdt/usdt", "18.58902375", "0.709475"),
        ("futures_usdt/btc", "0.5", "0"),
        ("futures_coin/btc", "2.50", "0.00000007"),
        ("futures_coin/eth", "0", "3"),
    ] {
        put(address, path, available, freeze);
    }
    // Parts that do not add up, and margins with a fee.
    for (path, body) in [
        (
            "spot/btc",
            r#"{"available":"2","freeze":"0.75","parts":{"trade":"0.5","withdraw":null,"lock":"0.125"}}"#,
        ),
        (
            "futures_usdt/eth",
            r#"{"available":"7","freeze":"3","parts":{"openOrderMarginFrozen":"1.5","isolatedMargin":"1",
                "crossedMargin":"0.5","openOrderFeeFrozen":"0.25"}}"#,
        ),
    ] {
        control(address, &format!("/simulator/accounts/{}/{path}", ACCOUNT.0), body);
    }
    // What is set moves no more.
    let paid = [("btc", "64321.5"), ("usdc", "0.9987"), ("pepe", "0.00000123"), ("gal%28ft%29", "3.25")];
    for (currency, price) in paid {
        let body = format!(r#"{{"price":"{price}"}}"#);
        control(address, &format!("/simulator/prices/{currency}_usdt"), &body);
    }
    let url = format!("http://{address}");
    let mut found = ccxt(&url, ACCOUNT.1, ACCOUNT.2);
    let quoted = found.as_object_mut().unwrap().remove("prices").unwrap();
    found.as_object_mut().unwrap().remove("positions").unwrap();
    let mut read = Balances::new();
    for (wallet, currencies) in found.as_object().unwrap() {
        for (code, amounts) in currencies.as_object().unwrap_or_else(|| panic!("{wallet}: {currencies}")) {
            let amount = |place: usize| amounts[place].as_str().unwrap().parse().unwrap();
            let key = (wallet.clone(), code.to_lowercase());
            read.insert(key, [amount(0), amount(1), amount(2)]);
        }
    }
    let (exported, parts, priced) = exported(&url);
    assert!(exported.len() >= 24 + 4, "{exported:?}");
    assert_eq!(read.keys().collect::<Vec<_>>(), exported.keys().collect::<Vec<_>>());
    for (key, [free, used, total]) in read {
        let exported_amounts = exported[&key];
        assert_eq!(
            format!("{free} {used}"),
            format!("{} {}", exported_amounts[0], exported_amounts[1]),
            "{key:?}"
        );
        // Every frozen amount is explained by its parts and the rest, and ccxt has the same sum.
        let sum = parts.get(&key).copied().unwrap_or(0.0);
        assert!((used - sum).abs() <= used * 1e-15, "{key:?}: {used} and {sum}");
        // Their total is the exchange's own text, ours a sum of floats.
        assert!(
            (total - exported_amounts[2]).abs() <= total * 1e-15,
            "{key:?}: {total} and {}",
            exported_amounts[2]
        );
    }
    let ccxt_prices: BTreeMap<_, f64> = quoted
        .as_object()
        .unwrap()
        .iter()
        .map(|(code, price)| (code.to_lowercase(), price.as_str().unwrap().parse().unwrap()))
        .collect();
    assert!(ccxt_prices.len() > 40, "{ccxt_prices:?}");
    assert!(
        priced.keys().filter(|currency| *currency != "usdt").eq(ccxt_prices.keys()),
        "{priced:?} {ccxt_prices:?}"
    );
    for (currency, price) in paid {
        let currency = currency.replace("%28", "(").replace("%29", ")");
        let price = Some(price.parse::<f64>().unwrap());
        assert_eq!(
            (ccxt_prices.get(&currency).copied(), priced.get(&currency).copied()),
            (price, price),
            "{currency}"
        );
    }
}

#[test]
fn ccxt_finds_the_positions_that_are_exported() {
    let (_simulator, address) = simulate();
    for (path, liquidation) in [
        ("futures_usdt/positions/btc_usdt/short", "28002.38"),
        ("futures_usdt/positions/eth_usdt/long", "0"),
        ("futures_coin/positions/btc_usd/short", "31000.5"),
    ] {
        let body = format!(
            r#"{{"isolated":{},"size":"10","entry":"27060","mark":"27050.1","liquidation":"{liquidation}","leverage":25,"margin":"1.0824","profit":"0.01"}}"#,
            liquidation != "0"
        );
        control(address, &format!("/simulator/accounts/{}/{path}", ACCOUNT.0), &body);
    }
    let url = format!("http://{address}");
    let found = ccxt(&url, ACCOUNT.1, ACCOUNT.2);
    let mut theirs = BTreeMap::new();
    for row in found["positions"].as_array().unwrap_or_else(|| panic!("{found}")) {
        let text = |place: usize| row[place].as_str().unwrap_or_default().to_owned();
        let number = |place: usize| match &row[place] {
            Value::String(text) => text.parse::<f64>().ok(),
            other => other.as_f64(),
        };
        // ccxt calls crossed margin cross.
        let mode = text(3).replace("cross", "crossed");
        theirs.insert([text(0), text(1), text(2), mode], [4, 5, 6, 7, 8].map(number));
    }
    let (fapi, dapi) = (format!("{url}/fapi"), format!("{url}/dapi"));
    let words = [
        "once",
        "--xt.base-url",
        &url,
        "--xt.futures-usdt-base-url",
        &fapi,
        "--xt.futures-coin-base-url",
        &dapi,
        "--xt.wallet=futures_usdt",
        "--xt.wallet=futures_coin",
        "--xt.futures-risk",
    ];
    let output = Exporter::run(&words, &[("XT_ACCESS_KEY", ACCOUNT.1), ("XT_SECRET_KEY", ACCOUNT.2)]);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    let families = text_format::read(&output.stdout).unwrap();
    let mut ours = BTreeMap::new();
    for info in &families["xt_position_info"].samples {
        let label = |name: &str| info.labels[name].clone();
        let names = ["size_contracts", "entry_price", "mark_price", "liquidation_price", "leverage"];
        let values = names.map(|name| {
            let mut samples = families[&*format!("xt_position_{name}")].samples.iter();
            let keys = ["wallet", "symbol", "side"];
            let found =
                samples.find(|sample| keys.iter().all(|key| sample.labels[*key] == info.labels[*key]));
            found.map(|sample| sample.value)
        });
        ours.insert(["wallet", "symbol", "side", "margin_mode"].map(label), values);
    }
    assert_eq!(ours.len(), 3, "{ours:?}");
    assert_eq!(theirs, ours);
}

#[test]
fn ccxt_understands_how_the_simulated_exchange_refuses_a_key() {
    let (_simulator, address) = simulate();
    let url = format!("http://{address}");
    let refused = ccxt(&url, ACCOUNT.1, "another");
    assert_eq!(refused["spot"], "AuthenticationError");
    // ccxt knows no 403 of futures, and takes it for an error of the exchange.
    assert_eq!(refused["futures_usdt"], "ExchangeError");
    let unknown = ccxt(&url, "de300000-0000-4000-8000-0000000000ff", ACCOUNT.2);
    assert_eq!(unknown["spot"], "AuthenticationError");
}
