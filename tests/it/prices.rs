//! Prices, asked for over real sockets in both versions of the API: what is shown of them and for how
//! long, what has none, that their failures are their own, and that no key has a part in them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::common::in_process::{
    FREE, POLLS, UP, account, advance_clock, exposition, failures, key_source, to_millis,
};
use crate::common::messages;
use crate::common::proxy::{PLAIN_HEADERS, Proxy, ProxyMode, http_response};
use crate::common::{ACCESS_KEY, Exchange, Exporter, SECRET_KEY, get, sample, text_format, until};
use tokio::net::TcpSocket;
use xt_balance_exporter::{
    clock::Clock,
    config::PricesConfig,
    exchange::{self, ApiVersion},
    poller::{self, AccountPoller, PricePoller},
    simulator::{
        Effect, Fault, SimulatedAccount, SimulatedEndpoint, SimulatedMarketState, SimulatedWallet,
        SimulatorConfig,
    },
    snapshot::store::Store,
    snapshot::wallet::CurrencyFilter,
};

/// Shorter than that of balances.
const MAX_AGE: Duration = Duration::from_secs(100);
const APIS: [(ApiVersion, SimulatedEndpoint, &str); 2] = [
    (ApiVersion::V1, SimulatedEndpoint::GetTickers, "/data/api/v1/getTickers"),
    (ApiVersion::V4, SimulatedEndpoint::V4Prices, "/v4/public/ticker/price"),
];
const UNPRICED: &str = "xt_unpriced_currencies{account=\"main\",wallet=\"spot\"}";
const PRICE_LAST_SUCCESS: &str = "xt_price_last_success_timestamp_seconds";
const LIST_READ: &str = "xt_market_list_last_success_timestamp_seconds";
const CLOSED: &str = "xt_markets_closed";
const FAMILIES: [&str; 5] = [LIST_READ, CLOSED, "xt_price", PRICE_LAST_SUCCESS, "xt_unpriced_currencies"];

/// What `main` holds: priced, a stablecoin, nothing, and what has no market against USDT.
fn main_account() -> SimulatedAccount {
    SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY)
        .with_balance(SimulatedWallet::Spot, "usdt", "3867.43650012", "3062.17437341")
        .with_balance(SimulatedWallet::Spot, "btc", "0", "0.5")
        .with_balance(SimulatedWallet::Spot, "usdc", "100", "0")
        .with_balance(SimulatedWallet::Spot, "doge", "0.00", "0")
        .with_balance(SimulatedWallet::Spot, "gal(ft)", "7", "0")
}

fn exchange() -> Exchange {
    let window = Duration::from_hours(10);
    let rules = SimulatorConfig { nonce_window: window, ..SimulatorConfig::default() };
    let other = SimulatedAccount::new("other", "otherKey", "otherSecret").with_balance(
        SimulatedWallet::Spot,
        "usdt",
        "1",
        "0",
    );
    Exchange::new(rules, vec![main_account(), other])
}

/// The pollers of one process, each polled when the test says so.
struct Process {
    accounts: Vec<AccountPoller>,
    prices: PricePoller,
    store: Arc<Store>,
    clock: Clock,
}

impl Process {
    fn new(api: ApiVersion, urls: &[&str]) -> Self {
        Self::with_filter(api, urls, &CurrencyFilter::default())
    }

    fn with_filter(api: ApiVersion, urls: &[&str], filter: &CurrencyFilter) -> Self {
        let keys =
            [("main", key_source(ACCESS_KEY, SECRET_KEY)), ("other", key_source("otherKey", "otherSecret"))];
        let accounts: Vec<_> = keys
            .into_iter()
            .map(|(name, keys)| {
                let mut account = account(name, urls, keys);
                account.hosts.api = api;
                account.filter = filter.clone();
                account
            })
            .collect();
        let prices = PricesConfig {
            hosts: accounts[0].hosts.clone(),
            poll_interval: Duration::from_secs(30),
            poll_timeout: Duration::from_secs(2),
            max_age: MAX_AGE,
        };
        let clock = Clock::start();
        let exchange = Arc::new(exchange::Client::simulated(clock).unwrap());
        let (accounts, prices, store) = poller::create_pollers(accounts, Some(prices), &exchange, clock);
        Self { accounts, prices: prices.unwrap(), store, clock }
    }

    /// Reads the prices. Returns whether that was good.
    async fn poll_prices(&mut self) -> bool {
        self.prices.run_once().await
    }

    async fn poll(&mut self) -> bool {
        self.accounts[0].run_once().await.1 == 0
    }

    fn text(&self) -> String {
        exposition(&self.store, self.clock.now())
    }

    fn price(&self, currency: &str) -> Option<f64> {
        sample(&self.text(), &format!("xt_price{{currency=\"{currency}\",quote=\"usdt\"}}"))
    }

    fn sample(&self, series: &str) -> Option<f64> {
        sample(&self.text(), series)
    }

    /// How the last reading failed.
    fn failure_text(&self) -> String {
        let market = self.store.prices().unwrap();
        market
            .snapshot
            .last_failure
            .as_ref()
            .map(|failure_text| failure_text.failure.to_string())
            .unwrap_or_default()
    }
}

fn count_calls(exchange: &Exchange, endpoint: SimulatedEndpoint) -> usize {
    exchange.simulator.call_log().records.iter().filter(|call| call.endpoint == endpoint).count()
}

#[tokio::test]
async fn every_market_against_usdt_gives_a_price_and_what_has_none_is_counted() {
    for (api, endpoint, _) in APIS {
        let exchange = exchange();
        for (market, price) in [
            ("usdc_usdt", "0.9871"),
            ("gal(ft)_btc", "0.0001"),
            ("1inch_usdt", "0.402"),
            ("zero_usdt", "0.00"),
            ("gal(ft)_usdt", "0"),
        ] {
            exchange.simulator.set_price(market, price);
        }
        let mut process = Process::new(api, &[&exchange.url()]);
        assert!(process.poll().await);
        assert_eq!((process.sample(PRICE_LAST_SUCCESS), process.sample(UNPRICED)), (Some(0.0), None));
        assert!(!process.text().contains("xt_price{"), "before there is one");
        assert!(process.poll_prices().await, "{}", process.failure_text());
        let shown =
            ["btc", "usdc", "1inch", "usdt", "gal(ft)", "zero", "doge"].map(|name| process.price(name));
        let expected = [Some(64_210.0), Some(0.9871), Some(0.402), Some(1.0), None, None, None];
        assert_eq!(shown, expected, "{}", api.label());
        assert_eq!(process.sample(UNPRICED), Some(1.0), "gal(ft); doge holds nothing");
        assert!(process.sample(PRICE_LAST_SUCCESS) > Some(1_700_000_000.0));
        text_format::read(&process.text()).unwrap();
        assert_eq!(count_calls(&exchange, endpoint), 1);

        // A market that closes takes its price along.
        assert!(exchange.simulator.remove_price("btc_usdt"));
        assert!(process.poll_prices().await, "{}", process.failure_text());
        assert_eq!((process.price("btc"), process.price("eth")), (None, Some(3_180.0)));
        assert_eq!(process.sample(UNPRICED), Some(2.0));
        exchange.simulator.set_price("gal(ft)_usdt", "3");
        assert!(process.poll_prices().await, "{}", process.failure_text());
        assert_eq!((process.price("gal(ft)"), process.sample(UNPRICED)), (Some(3.0), Some(1.0)));
    }
}

#[tokio::test]
async fn only_prices_of_currencies_that_an_account_can_show_are_shown() {
    let exchange = exchange();
    let filter = CurrencyFilter { only: vec!["btc".into(), "gal(ft)".into()], ..CurrencyFilter::default() };
    let mut process = Process::with_filter(ApiVersion::V4, &[&exchange.url()], &filter);
    assert!(process.poll().await && process.poll_prices().await, "{}", process.failure_text());
    let shown = ["btc", "usdt", "eth", "xt"].map(|name| process.price(name));
    assert_eq!(shown, [Some(64_210.0), Some(1.0), None, None]);
    assert_eq!(process.sample(UNPRICED), Some(1.0));
}

#[tokio::test]
async fn the_call_carries_no_key() {
    for (api, _, path) in APIS {
        let exchange = exchange();
        let proxy = Proxy::new(exchange.address);
        let mut process = Process::new(api, &[&proxy.url()]);
        assert!(process.poll().await && process.poll_prices().await, "{}", process.failure_text());
        let requests = proxy.requests();
        let asked: Vec<_> = requests.iter().filter(|request| request.target().starts_with(path)).collect();
        assert_eq!(asked.len(), 1, "{requests:?}");
        assert_eq!(asked[0].target(), path, "no parameter");
        let mut names = asked[0].header_names();
        names.sort_unstable();
        assert_eq!(names, PLAIN_HEADERS);
        assert!(!asked[0].head.contains(ACCESS_KEY));
    }
}

#[tokio::test]
async fn a_key_that_the_exchange_repeats_in_prices_is_not_shown() {
    let exchange = exchange();
    let proxy = Proxy::new(exchange.address);
    let mut process = Process::new(ApiVersion::V1, &[&proxy.url()]);
    assert!(process.poll().await);
    let page = format!("<html>{ACCESS_KEY} {SECRET_KEY} {}", ACCESS_KEY.to_uppercase());
    proxy.set_mode(ProxyMode::ReplaceResponse(http_response(403, &[], page.as_bytes())));
    assert!(!process.poll_prices().await);
    let text = process.failure_text();
    assert!(text.contains("<html>[redacted] [redacted] [redacted]"), "{text}");
}

#[tokio::test]
async fn a_host_that_fails_is_followed_by_the_next_which_is_then_asked_first() {
    // Bound and not listening: connections are refused, and no other process gets the port.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let closed = format!("http://{}", closed.local_addr().unwrap());
    for (api, endpoint, path) in APIS {
        let (first, second) = (exchange(), exchange());
        first.simulator.inject_fault(Fault::new(Effect::Maintenance).for_endpoint(endpoint).for_calls(1));
        let mut process = Process::new(api, &[&closed, &first.url(), &second.url()]);
        for _ in 0..2 {
            assert!(process.poll_prices().await, "{}", process.failure_text());
        }
        assert_eq!((count_calls(&first, endpoint), count_calls(&second, endpoint)), (1, 2));
        assert_eq!(process.price("btc"), Some(64_210.0));
        // Each is told of when all fail.
        for exchange in [&first, &second] {
            exchange.simulator.inject_fault(Fault::new(Effect::Maintenance).for_endpoint(endpoint));
        }
        assert!(!process.poll_prices().await);
        let text = process.failure_text();
        let second_failure = format!("; then {}{path}: HTTP 503", first.url());
        assert!(
            text.starts_with(&format!("{}{path}: HTTP 503", second.url())) && text.contains(&second_failure),
            "{text}"
        );
        assert_eq!(process.price("btc"), Some(64_210.0), "the last ones are held");
    }
}

#[tokio::test]
async fn prices_are_held_then_unknown_then_back_and_balances_stay() {
    held_then_unknown_then_back(APIS[0]).await;
}

#[tokio::test]
async fn prices_are_held_then_unknown_then_back_and_balances_stay_with_v4() {
    held_then_unknown_then_back(APIS[1]).await;
}

async fn held_then_unknown_then_back((api, endpoint, _): (ApiVersion, SimulatedEndpoint, &str)) {
    let exchange = exchange();
    let mut process = Process::new(api, &[&exchange.url()]);
    assert!(process.poll().await && process.poll_prices().await, "{}", process.failure_text());
    let since = process.sample(PRICE_LAST_SUCCESS);
    let effects = [
        Effect::Maintenance,
        Effect::from_status(404),
        Effect::Reset,
        Effect::Silence,
        Effect::CutShort,
        Effect::Body("{}".to_owned()),
        Effect::Body("<html>".to_owned()),
        Effect::Endless,
        Effect::GzipBomb { mebibytes: 64 },
    ];
    for effect in effects {
        exchange.simulator.inject_fault(Fault::new(effect.clone()).for_endpoint(endpoint));
        assert!(!process.poll_prices().await, "{effect:?}");
        assert!(process.poll().await, "{effect:?}");
        exchange.simulator.clear_faults();
        assert_eq!(
            (process.price("btc"), process.sample(UNPRICED)),
            (Some(64_210.0), Some(2.0)),
            "{effect:?}"
        );
        assert_eq!(process.sample(PRICE_LAST_SUCCESS), since, "{effect:?}");
    }
    let text = process.text();
    assert_eq!((sample(&text, UP), sample(&text, POLLS), failures(&text)), (Some(1.0), Some(10.0), vec![]));
    assert_eq!(process.store.stuck_pollers(process.clock.now()), [""; 0]);

    let good = process.store.prices().unwrap().snapshot.last_good.as_ref().unwrap().at;
    let unknown = exposition(&process.store, good.later(MAX_AGE));
    assert!(!unknown.contains("xt_price{") && !unknown.contains("xt_unpriced_currencies"), "{unknown}");
    assert_eq!((sample(&unknown, PRICE_LAST_SUCCESS), sample(&unknown, UP)), (since, Some(1.0)));
    assert!(sample(&unknown, FREE).is_some(), "balances are another matter");

    exchange
        .simulator
        .inject_fault(Fault::new(Effect::Delay { ms: 300 }).for_endpoint(endpoint).for_calls(1));
    assert!(process.poll_prices().await, "{}", process.failure_text());
    let good = process.store.prices().unwrap().snapshot.last_good.as_ref().unwrap().at;
    assert!(
        good.age(process.clock.now()) >= Duration::from_millis(300),
        "prices are as old as their question"
    );

    advance_clock(MAX_AGE).await;
    exchange.simulator.set_clock_offset_ms(to_millis(MAX_AGE));
    assert!(process.price("btc").is_none() && process.sample(FREE).is_some());
    assert!(process.poll_prices().await, "{}", process.failure_text());
    assert_eq!((process.price("btc"), process.sample(UNPRICED)), (Some(64_210.0), Some(2.0)));
    assert!(process.sample(PRICE_LAST_SUCCESS) > since);
}

#[tokio::test]
async fn a_limit_reply_pauses_prices_alone_and_a_second_ones_pauses_all() {
    paused_alone_and_with_all(APIS[0]).await;
}

#[tokio::test]
async fn a_limit_reply_pauses_prices_alone_and_a_second_ones_pauses_all_with_v4() {
    paused_alone_and_with_all(APIS[1]).await;
}

async fn paused_alone_and_with_all((api, endpoint, _): (ApiVersion, SimulatedEndpoint, &str)) {
    let exchange = exchange();
    let mut process = Process::new(api, &[&exchange.url()]);
    assert!(process.poll().await);
    exchange.simulator.inject_fault(Fault::new(Effect::from_status(429)).for_endpoint(endpoint).for_calls(1));
    for _ in 0..3 {
        assert!(!process.poll_prices().await);
    }
    assert_eq!(count_calls(&exchange, endpoint), 1, "for ten minutes nothing more is asked");
    assert!(process.poll().await, "accounts go on");
    assert_eq!(process.sample("xt_paused_until_timestamp_seconds{account=\"main\"}"), Some(0.0));

    advance_clock(Duration::from_mins(11)).await;
    exchange.simulator.set_clock_offset_ms(to_millis(Duration::from_mins(11)));
    assert!(process.poll_prices().await, "{}", process.failure_text());
    exchange.simulator.inject_fault(Fault::new(Effect::from_status(429)));
    assert!(!process.poll_prices().await);
    assert!(!process.poll().await);
    let arrived = exchange.simulator.call_log().records.len();
    let polls = process.accounts[1].run_once().await;
    assert_eq!((polls, exchange.simulator.call_log().records.len()), ((1, 1), arrived), "all are paused");

    // And when it is accounts that are paused, so are prices.
    exchange.simulator.clear_faults();
    advance_clock(Duration::from_mins(11)).await;
    exchange.simulator.inject_fault(Fault::new(Effect::from_status(429)));
    for account in &mut process.accounts {
        assert_eq!(account.run_once().await.1, 1);
    }
    exchange.simulator.clear_faults();
    let asked = count_calls(&exchange, endpoint);
    assert!(!process.poll_prices().await);
    assert_eq!(count_calls(&exchange, endpoint), asked);
}

#[tokio::test]
async fn a_closed_market_gives_no_price_and_is_counted() {
    let closed_in_v4 = [
        SimulatedMarketState::Halted,
        SimulatedMarketState::Offline,
        SimulatedMarketState::Delisted,
        SimulatedMarketState::Unlisted,
    ];
    // The list of v1 has no states.
    for (api, states) in
        [(ApiVersion::V1, &[SimulatedMarketState::Unlisted][..]), (ApiVersion::V4, &closed_in_v4)]
    {
        for state in states {
            let exchange = exchange();
            assert!(exchange.simulator.set_market_state("btc_usdt", *state));
            exchange.simulator.set_price("usdc_usdt", "1");
            let mut process = Process::new(api, &[&exchange.url()]);
            assert_eq!((process.sample(LIST_READ), process.sample(CLOSED)), (Some(0.0), None));
            assert!(process.poll().await && process.poll_prices().await, "{}", process.failure_text());
            assert_eq!((process.price("btc"), process.price("usdc")), (None, Some(1.0)), "{state:?}");
            // gal(ft), which has no market, and now btc.
            assert_eq!((process.sample(CLOSED), process.sample(UNPRICED)), (Some(1.0), Some(2.0)));
            assert!(process.sample(LIST_READ).is_some_and(|read| read > 0.0));
        }
    }
}

#[tokio::test]
async fn the_list_of_markets_is_read_once_an_hour_and_its_failure_changes_no_price() {
    for (api, endpoint) in
        [(ApiVersion::V1, SimulatedEndpoint::GetMarketConfig), (ApiVersion::V4, SimulatedEndpoint::V4Symbols)]
    {
        let exchange = exchange();
        let fault = || Fault::new(Effect::Maintenance).for_endpoint(endpoint);
        exchange.simulator.inject_fault(fault());
        let mut process = Process::new(api, &[&exchange.url()]);
        let mut elapsed = Duration::ZERO;
        let mut step = async |seconds| {
            let time = Duration::from_secs(seconds);
            advance_clock(time).await;
            elapsed += time;
            exchange.simulator.set_clock_offset_ms(to_millis(elapsed));
        };
        assert!(process.poll_prices().await && process.poll_prices().await, "{}", process.failure_text());
        assert_eq!((process.price("btc"), process.sample(CLOSED)), (Some(64_210.0), None), "unchecked");
        assert_eq!((count_calls(&exchange, endpoint), process.sample(LIST_READ)), (1, Some(0.0)));

        // After five minutes it is read again, and then once an hour.
        step(300).await;
        exchange.simulator.clear_faults();
        assert!(exchange.simulator.set_market_state("btc_usdt", SimulatedMarketState::Unlisted));
        assert!(process.poll_prices().await);
        assert_eq!((process.price("btc"), process.sample(CLOSED)), (None, Some(1.0)));
        let read_at = process.sample(LIST_READ);
        step(3_590).await;
        assert!(process.poll_prices().await);
        assert_eq!((count_calls(&exchange, endpoint), process.sample(LIST_READ)), (2, read_at));

        // A list that cannot be read leaves the last one in use.
        exchange.simulator.inject_fault(fault());
        step(20).await;
        assert!(process.poll_prices().await);
        assert_eq!(count_calls(&exchange, endpoint), 3);
        assert_eq!((process.price("btc"), process.price("eth")), (None, Some(3_180.0)));
        assert_eq!((process.sample(CLOSED), process.sample(LIST_READ)), (Some(1.0), read_at));
    }
}

#[test]
fn the_daemon_reads_prices_on_its_schedule_only_if_enabled() {
    for (api, endpoint, _) in APIS {
        let exchange = exchange();
        let api = format!("--xt.api={}", api.label());
        let flags = [&*api, "--poll.interval=1s", "--poll.timeout=900ms"];
        let silent = Exporter::serve(&exchange.url(), &flags);
        let polled = |exporter: &Exporter| exporter.sample(POLLS) >= Some(3.0);
        until("it has polled three times", || polled(&silent).then_some(()));
        let text = silent.metrics();
        let families = text_format::read(&text).unwrap();
        assert!(FAMILIES.iter().all(|name| !families.contains_key(*name)), "{text}");
        assert_eq!(count_calls(&exchange, endpoint), 0);
        drop(silent);

        let priced = Exporter::serve(&exchange.url(), &[&flags[..], &["--xt.prices=usdt"]].concat());
        let address = priced.address();
        let shown = until("it knows prices and balances", || {
            let text = get(address, "/metrics", &[]).text();
            sample(&text, UNPRICED).is_some().then_some(text)
        });
        let families = text_format::read(&shown).unwrap();
        assert!(FAMILIES.iter().all(|name| families.contains_key(*name)), "{shown}");
        exchange.simulator.set_price("btc_usdt", "1.25");
        until("the new price is shown", || {
            (priced.sample("xt_price{currency=\"btc\",quote=\"usdt\"}") == Some(1.25)).then_some(())
        });
        exchange.simulator.inject_fault(Fault::new(Effect::Maintenance).for_endpoint(endpoint));
        priced.stderr.wait_for(messages::PRICES_FAILED);
        exchange.simulator.clear_faults();
        priced.stderr.wait_for(messages::PRICES_GOOD_AGAIN);
        assert_eq!(
            priced.stderr.text().matches(messages::PRICES_FAILED).count(),
            1,
            "{}",
            priced.stderr.text()
        );
        assert_eq!(exchange.simulator.call_log().count_breaches(), 0);
    }
}
