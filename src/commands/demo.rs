//! `demo`: the daemon on a simulated exchange in the same process. No keys, no network.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::{
    CommandError,
    daemon::{self, Control, WebContext},
    print,
    signals::Signals,
};
use crate::{
    cli::DemoFlags,
    clock::Clock,
    config::{AccountConfig, Config, PricesConfig},
    exchange::{ApiVersion, BaseUrl, Client, Credentials, Endpoints, KeyHalf, KeySource, Secret, Wallet},
    simulator::{self, market},
    snapshot::wallet::{CurrencyFilter, WatchedCurrency},
    web::WebConfigWatcher,
};

/// Short, so that the demo shows every state within minutes.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
const POLL_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_AGE: Duration = Duration::from_secs(20);

/// Free USDT below which a person should know, by account.
const THRESHOLDS: [(&str, f64); 2] = [("arbitrage", 2_000.0), ("market-maker", 500.0)];

/// The account that speaks v4, and has futures.
const WITH_V4: &str = "arbitrage";

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
    print(&print_welcome(scheme, &addresses, exchange_address, &flags.web.telemetry_path, &accounts));
    let watched = accounts.iter().map(|account| watched_account(account, exchange_address, clock));
    let watched = watched.collect::<Result<Vec<_>, _>>().map_err(CommandError::Failed)?;

    let simulator = market::create_simulator(accounts);
    let living = simulator.clone();
    tokio::spawn(async move { simulator.serve(exchange_listener, std::future::pending()).await });
    tokio::spawn(async move { market::run_market(&living, std::future::pending()).await });

    let exchange = Client::simulated(clock).map_err(CommandError::Failed)?;
    let prices = watched.first().map(|account| PricesConfig {
        endpoints: account.endpoints.clone(),
        poll_interval: POLL_INTERVAL,
        poll_timeout: POLL_TIMEOUT,
        max_age: MAX_AGE,
    });
    let config = Config { accounts: watched, prices };
    let web = WebContext { flags: &flags.web, web_config, listeners };
    daemon::run(exchange, config, clock, web, Control { signals, reloading: None }).await
}

/// The made-up account as one to be watched.
fn watched_account(
    account: &simulator::SimulatedAccount,
    exchange: SocketAddr,
    clock: Clock,
) -> Result<AccountConfig, String> {
    let half = |text: &str| Secret::new(&Zeroizing::new(text.to_owned())).map(KeyHalf::Given);
    let keys = KeySource { access: half(&account.access_key)?, secret: half(&account.secret_key)? };
    let threshold =
        THRESHOLDS.iter().find(|(name, _)| *name == account.name).map(|(_, threshold)| *threshold);
    let api = if account.name == WITH_V4 { ApiVersion::V4 } else { ApiVersion::V1 };
    let wallets = account.wallets.keys().map(|wallet| match wallet {
        simulator::SimulatedWallet::Spot => Wallet::Spot,
        simulator::SimulatedWallet::Wallet => Wallet::Wallet,
        simulator::SimulatedWallet::Fiat => Wallet::Fiat,
        simulator::SimulatedWallet::FuturesUsdt => Wallet::FuturesUsdt,
        simulator::SimulatedWallet::FuturesCoin => Wallet::FuturesCoin,
    });
    let url = |path: &str| BaseUrl::parse(&format!("http://{exchange}{path}")).map(|url| vec![url]);
    Ok(AccountConfig {
        name: account.name.as_str().into(),
        endpoints: Endpoints {
            api,
            base_urls: url("")?,
            futures_usdt: url("/fapi")?,
            futures_coin: url("/dapi")?,
        },
        credentials: Credentials::open(keys, clock.now().unix)?,
        wallets: wallets.filter(|wallet| api.wallets().any(|known| known == *wallet)).collect(),
        watch: vec![(Wallet::Spot, WatchedCurrency { currency: "usdt".into(), threshold })],
        filter: CurrencyFilter::default(),
        poll_interval: POLL_INTERVAL,
        poll_timeout: POLL_TIMEOUT,
        max_age: MAX_AGE,
    })
}

fn print_welcome(
    scheme: &str,
    addresses: &[SocketAddr],
    exchange: SocketAddr,
    path: &str,
    accounts: &[simulator::SimulatedAccount],
) -> String {
    let mut text =
        "A demo: made-up accounts on a simulated exchange in this process. Ctrl-C ends it.\n\n".to_owned();
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
    text.push_str(
        "In the first two minutes the free USDT of market-maker sinks below its threshold of 500 and is topped up;\n\
         after one minute the exchange is down for grid-bot, whose balances are held, then unknown, then back.\n\n",
    );
    text.push_str(&super::simulate::key_pairs(accounts));
    text
}
