//! WEX, a sister exchange with the same software under other hosts: the example configuration is valid and sends its key
//! only to WEX, and the answers of WEX's documents are read.

use std::{fs, path::Path};

use crate::common::in_process::{TestPoller, account, key_source};
use crate::common::{ACCESS_KEY, Exchange, Exporter, SECRET_KEY};
use xt_balance_exporter::{
    exchange::{ApiVersion, BaseUrl, ExchangeHosts, Wallet, futures, v4},
    simulator::{Effect, Fault, SimulatedAccount, SimulatedEndpoint, SimulatedWallet, SimulatorConfig},
};

const EXAMPLE: &str = "deploy/examples/wex.yml";
const KEY_FILES: [&str; 4] = ["xt.key", "xt.secret", "wex.key", "wex.secret"];

/// The example in a folder with key files beside it, changed by `change`.
fn write_example(folder: &Path, change: impl FnOnce(String) -> String) -> String {
    fs::create_dir(folder.join("keys")).unwrap();
    for name in KEY_FILES {
        let text = if name.ends_with("key") { ACCESS_KEY } else { SECRET_KEY };
        fs::write(folder.join("keys").join(name), text).unwrap();
    }
    let file = folder.join("wex.yml");
    fs::write(&file, change(fs::read_to_string(EXAMPLE).unwrap())).unwrap();
    file.display().to_string()
}

#[test]
fn the_example_is_valid_and_reads_both_exchanges_with_their_own_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_example(folder.path(), |example| example);
    let valid = Exporter::run(&["--config.check", "--config.file", &file], &[]);
    assert_eq!(valid.status.code(), Some(0), "{}", valid.stderr);

    // The same file with simulated exchanges in place of the two.
    let exchange = |free: &str| {
        let account = SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY)
            .with_balance(SimulatedWallet::Spot, "usdt", free, "0")
            .with_balance(SimulatedWallet::FuturesUsdt, "usdt", free, "0")
            .with_balance(SimulatedWallet::FuturesCoin, "btc", free, "0");
        Exchange::new(SimulatorConfig::default(), vec![account])
    };
    let (xt, wex) = (exchange("1"), exchange("2"));
    let folder = tempfile::tempdir().unwrap();
    let file = write_example(folder.path(), |example| {
        example
            .replace("name: xt-treasury", &format!("name: xt-treasury\n    base_urls: [{}]", xt.url()))
            .replace("https://sapi.wexex.io", &wex.url())
            .replace("https://fapi.wexex.io", &format!("{}/fapi", wex.url()))
            .replace("https://dapi.wexex.io", &format!("{}/dapi", wex.url()))
    });
    let once = Exporter::run(&["once", "--config.file", &file], &[]);
    assert_eq!(once.status.code(), Some(0), "{}", once.stderr);
    for (account, currency, wallet, free) in [
        ("xt-treasury", "usdt", "spot", "1"),
        ("wex-bot", "usdt", "spot", "2"),
        ("wex-bot", "usdt", "futures_usdt", "2"),
        ("wex-bot", "btc", "futures_coin", "2"),
    ] {
        let series =
            format!("xt_balance_free{{account=\"{account}\",currency=\"{currency}\",wallet=\"{wallet}\"}}");
        assert!(once.stdout.contains(&format!("{series} {free}\n")), "{series}\n{}", once.stdout);
    }
}

/// The samples of WEX's documents: amounts are numbers, fields of XT's live answers are missing, and `error` of a good
/// futures answer is an object of empty texts.
const BALANCES: &str = r#"{"rc":0,"mc":"SUCCESS","ma":[{}],"result":{"totalBtcAmount":0,"assets":[
    {"currency":"usdt","currencyId":0,"frozenAmount":0,"availableAmount":12.50,"totalAmount":12.50,"convertBtcAmount":0}]}}"#;
const FUTURES_BALANCES: &str = r#"{"error":{"code":"","msg":""},"msgInfo":"","result":[{"availableBalance":7,"coin":"usdt",
    "isolatedMargin":0,"openOrderMarginFrozen":1.5,"crossedMargin":0,"bonus":0,"coupon":0,"walletBalance":8.5}],"returnCode":0}"#;
const SYMBOLS: &str = r#"{"rc":0,"mc":"SUCCESS","ma":[],"result":{"time":1662444177871,"version":"7cd2cfab0dc979339f1de904bd90c9cb",
    "symbols":[{"symbol":"btc_usdt","state":"ONLINE","tradingEnabled":true,"openapiEnabled":true,"nextStateTime":null,
    "nextState":null,"depthMergePrecision":5,"baseCurrency":"btc","baseCurrencyPrecision":5,"quoteCurrency":"usdt",
    "quoteCurrencyPrecision":6,"pricePrecision":4,"quantityPrecision":6,"takerFeeRate":0.001,"makerFeeRate":0.002,
    "orderTypes":["LIMIT","MARKET"],"timeInForces":["GTC","FOK","IOC","GTX"],"displayWeight":1,"displayLevel":"FULL",
    "filters":[{"filter":"PRICE","min":null,"max":null,"tickSize":null},{"filter":"QUOTE_QTY","min":null}]}]}}"#;

#[tokio::test]
async fn the_answers_of_the_documents_are_read() {
    let markets = v4::decode_markets(200, SYMBOLS.as_bytes()).unwrap();
    assert!(markets.is_open("btc") && !markets.is_open("eth"));
    assert!(v4::decode_balances(200, BALANCES.as_bytes()).is_ok());
    assert!(futures::decode_balances(200, FUTURES_BALANCES.as_bytes()).is_ok());

    let exchange = Exchange::documented();
    for (endpoint, body) in [
        (SimulatedEndpoint::V4Balances, BALANCES),
        (SimulatedEndpoint::FuturesUsdtBalances, FUTURES_BALANCES),
    ] {
        exchange.simulator.inject_fault(Fault::new(Effect::Body(body.to_owned())).for_endpoint(endpoint));
    }
    for (wallet, free, frozen) in [(Wallet::Spot, 12.5, 0.0), (Wallet::FuturesUsdt, 7.0, 1.5)] {
        let mut wex = account("main", &[&exchange.url()], key_source(ACCESS_KEY, SECRET_KEY));
        let futures_usdt = vec![BaseUrl::parse(&format!("{}/fapi", exchange.url())).unwrap()];
        wex.hosts = ExchangeHosts { api: ApiVersion::V4, futures_usdt, ..wex.hosts };
        wex.wallets = vec![wallet];
        let mut poller = TestPoller::for_account(wex);
        assert!(poller.poll().await, "{:?}", poller.failure());
        for (family, amount) in [("free", free), ("frozen", frozen)] {
            let series =
                format!("xt_balance_{family}{{account=\"main\",currency=\"usdt\",wallet=\"{wallet}\"}}");
            assert_eq!(poller.sample(&series), Some(amount), "{series}");
        }
    }
}
