//! `demo`: the daemon with a simulated exchange in the same process. It needs no keys and no network.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::{
    change_printer::ChangePrinter,
    daemon::{self, Control, WebContext},
    outcome::{CommandError, print},
    signals::Signals,
};
use crate::{
    cli::DemoFlags,
    clock::Clock,
    config::{AccountConfig, Config, PricesConfig},
    exchange::{ApiVersion, BaseUrl, Client, Credentials, ExchangeHosts, KeyHalf, KeySource, Secret, Wallet},
    simulator::{SimulatedAccount, SimulatedWallet, market},
    snapshot::{
        positions::FuturesRisk,
        store::AccountLabels,
        wallet::{CurrencyFilter, Thresholds, WatchedCurrency},
    },
    web::WebConfigWatcher,
};

/// The interval is short, so that the demo shows every state within minutes.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
const POLL_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_AGE: Duration = Duration::from_secs(20);

/// Thresholds of free USDT in the spot wallet, by account. The balance of arbitrage is always below its page threshold.
const THRESHOLDS: [(&str, Thresholds); 4] = [
    ("arbitrage", Thresholds { warn: 30_000.0, page: 20_000.0 }),
    ("market-maker", Thresholds { warn: 500.0, page: 300.0 }),
    ("otc-desk", Thresholds { warn: 10_000.0, page: 5_000.0 }),
    ("treasury", Thresholds { warn: 50_000.0, page: 20_000.0 }),
];

/// The accounts with API v4. The others have v1.
const V4_ACCOUNTS: [&str; 3] = ["arbitrage", "market-maker", "otc-desk"];

pub(super) async fn run(flags: &DemoFlags, signals: Signals) -> Result<(), CommandError> {
    let clock = Clock::start();
    let web_config = daemon::open_web_config(&flags.web).await?;
    let listeners = daemon::listen(&flags.web).await?;
    let accounts = market::create_accounts();
    let exchange_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let exchange_listener = exchange_listener.map_err(|error| {
        CommandError::Failed(format!("cannot listen for the simulated exchange: {error}"))
    })?;
    let exchange_address =
        exchange_listener.local_addr().map_err(|error| CommandError::Failed(error.to_string()))?;

    let addresses: Vec<_> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let scheme = if web_config.as_ref().is_some_and(WebConfigWatcher::is_tls) { "https" } else { "http" };
    print(&format_welcome(scheme, &addresses, exchange_address, flags));
    let unknown_account = create_unknown_account();
    let watched = accounts.iter().chain([&unknown_account]);
    let watched = watched.map(|account| configure_account(account, exchange_address, clock));
    let watched = watched.collect::<Result<Vec<_>, _>>().map_err(CommandError::Failed)?;

    let simulator = market::create_simulator(accounts);
    let market_simulator = simulator.clone();
    tokio::spawn(async move { simulator.serve(exchange_listener, std::future::pending()).await });
    tokio::spawn(async move { market::run_market(&market_simulator, std::future::pending()).await });

    let exchange = Client::simulated(clock).map_err(CommandError::Failed)?;
    let prices = watched.first().map(|account| PricesConfig {
        hosts: account.hosts.clone(),
        poll_interval: POLL_INTERVAL,
        poll_timeout: POLL_TIMEOUT,
        max_age: MAX_AGE,
    });
    let config = Config { accounts: watched, prices, ..Config::default() };
    let web = WebContext { flags: &flags.web, web_config, listeners };
    let change_printer = Some(ChangePrinter { stop_after: flags.once_through.then_some(market::STORY) });
    let control = Control { signals, reloading: None, state_file: None, change_printer };
    daemon::run(exchange, config, clock, web, control).await
}

/// Creates an account whose key the exchange does not know.
fn create_unknown_account() -> SimulatedAccount {
    let access_key = "de300000-0000-4000-8000-00000000dead";
    let mut account =
        SimulatedAccount::new("otc-desk", access_key, "de3000000000000000000000000000000000dead");
    account.wallets.insert(SimulatedWallet::Spot, BTreeMap::new());
    account
}

/// Builds the configuration of a made-up account.
fn configure_account(
    account: &SimulatedAccount,
    exchange: SocketAddr,
    clock: Clock,
) -> Result<AccountConfig, String> {
    let half = |text: &str| Secret::new(&Zeroizing::new(text.to_owned())).map(KeyHalf::Given);
    let keys = KeySource { access: half(&account.access_key)?, secret: half(&account.secret_key)? };
    let thresholds =
        THRESHOLDS.iter().find(|(name, _)| *name == account.name).map(|(_, thresholds)| *thresholds);
    let api = if V4_ACCOUNTS.contains(&&*account.name) { ApiVersion::V4 } else { ApiVersion::V1 };
    let wallets = account.wallets.keys().map(|wallet| match wallet {
        SimulatedWallet::Spot => Wallet::Spot,
        SimulatedWallet::Wallet => Wallet::Wallet,
        SimulatedWallet::Fiat => Wallet::Fiat,
        SimulatedWallet::FuturesUsdt => Wallet::FuturesUsdt,
        SimulatedWallet::FuturesCoin => Wallet::FuturesCoin,
        SimulatedWallet::Earn => Wallet::Earn,
    });
    let has_positions = api == ApiVersion::V4 && !account.positions.is_empty();
    let url = |path: &str| BaseUrl::parse(&format!("http://{exchange}{path}")).map(|url| vec![url]);
    Ok(AccountConfig {
        name: account.name.as_str().into(),
        hosts: ExchangeHosts {
            api,
            base_urls: url("")?,
            futures_usdt: url("/fapi")?,
            futures_coin: url("/dapi")?,
            user_center: Vec::new(),
        },
        credentials: Credentials::open(keys, clock.now().unix)?,
        wallets: wallets.filter(|wallet| api.wallets().any(|supported| supported == *wallet)).collect(),
        watch: vec![(Wallet::Spot, WatchedCurrency { currency: "usdt".into(), thresholds })],
        filter: CurrencyFilter::default(),
        labels: AccountLabels::default(),
        futures_risk: has_positions.then(FuturesRisk::default),
        poll_interval: POLL_INTERVAL,
        poll_timeout: POLL_TIMEOUT,
        max_age: MAX_AGE,
    })
}

/// Formats the text at the start, for a terminal of 80 columns.
fn format_welcome(scheme: &str, addresses: &[SocketAddr], exchange: SocketAddr, flags: &DemoFlags) -> String {
    let path = &flags.web.telemetry_path;
    let mut text = "This is a demo: the exporter watches six made-up accounts on a simulated\n\
                    exchange in this process. Press Ctrl-C to stop.\n\n"
        .to_owned();
    for address in addresses {
        let mut address = *address;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let _ = writeln!(
            text,
            "  status page         {scheme}://{address}/\n  metrics             {scheme}://{address}{path}"
        );
    }
    let _ = writeln!(text, "  simulated exchange  http://{exchange}/simulator/\n");
    let end = if flags.once_through { "the demo ends" } else { "it starts again" };
    let _ = write!(
        text,
        "The story takes four minutes, then {end}. Each change of a balance\n\
         or of a poll is printed here; --log.level=info prints the exporter's log too.\n\n"
    );
    text
}
