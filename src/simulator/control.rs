//! The control pages under `/simulator/`: people and scripts read and change the exchange here. These requests count
//! towards no limit.
//!
//! Only HTTP and texts. Every change is a call on [`Simulator`].

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr};

use http_body_util::{BodyExt as _, Limited};
use hyper::{
    Method, Request,
    body::{Bytes, Incoming},
    header::ALLOW,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    account::{SimulatedBalance, SimulatedWallet},
    decimal::is_decimal,
    fault::Fault,
    handle::Simulator,
    market_state::SimulatedMarketState,
    position::{PositionKey, SimulatedPosition, SimulatedSide},
    query::decode_percent,
    reply::SimulatedReply,
    v4_json,
};

const MAX_BODY_BYTES: usize = 64 * 1024;

/// Answers a request under `/simulator/`. `local` is the address of the listener.
pub(super) async fn handle_request(
    simulator: &Simulator,
    local: SocketAddr,
    request: Request<Incoming>,
) -> SimulatedReply {
    route_request(simulator, local, request).await.unwrap_or_else(|refusal| refusal)
}

async fn route_request(
    simulator: &Simulator,
    local: SocketAddr,
    request: Request<Incoming>,
) -> Result<SimulatedReply, SimulatedReply> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let parts: Vec<&str> = path.trim_start_matches("/simulator").split('/').skip(1).collect();
    match (parts.as_slice(), method) {
        ([] | [""], Method::GET) => Ok(SimulatedReply::text(200, render_help(simulator, local))),
        (["state"], Method::GET) => {
            let state = simulator.lock_exchange().to_json(Instant::now());
            Ok(SimulatedReply::json(format!("{state:#}\n")))
        }
        (["faults"], Method::POST) => inject_fault(simulator, &read_body(request).await?),
        (["faults"], Method::DELETE) => {
            let ended = simulator.lock_exchange().clear_faults(Instant::now());
            Ok(SimulatedReply::text(200, format!("Faults ended: {ended}.\n")))
        }
        (["clock"], Method::PUT) => set_clock(simulator, &read_body(request).await?),
        (["accounts", account, wallet, currency], Method::PUT) => {
            let path = BalancePath::parse(account, wallet, currency)?;
            path.set_balance(simulator, &read_body(request).await?)
        }
        (["accounts", account, wallet, currency], Method::DELETE) => {
            BalancePath::parse(account, wallet, currency)?.remove_balance(simulator)
        }
        (["accounts", account, wallet, "positions", symbol, side], Method::PUT) => {
            let path = PositionPath::parse(account, wallet, symbol, side)?;
            path.set_position(simulator, &read_body(request).await?)
        }
        (["accounts", account, wallet, "positions", symbol, side], Method::DELETE) => {
            PositionPath::parse(account, wallet, symbol, side)?.remove_position(simulator)
        }
        (["prices", market], Method::PUT) => {
            let market = parse_market(market)?;
            set_price(simulator, &market, &read_body(request).await?)
        }
        (["prices", market], Method::DELETE) => remove_price(simulator, &parse_market(market)?),
        (["markets", market], Method::PUT) => {
            let market = parse_market(market)?;
            set_market_state(simulator, &market, &read_body(request).await?)
        }
        ([] | ["" | "state"], _) => Err(refuse_method("GET")),
        (["faults"], _) => Err(refuse_method("POST, DELETE")),
        (["clock"] | ["markets", _], _) => Err(refuse_method("PUT")),
        (["accounts", _, _, _] | ["accounts", _, _, "positions", _, _] | ["prices", _], _) => {
            Err(refuse_method("PUT, DELETE"))
        }
        _ => Err(SimulatedReply::text(404, "No such page. /simulator/ lists all pages.\n")),
    }
}

fn refuse_method(allowed: &str) -> SimulatedReply {
    let text = format!("Method not allowed. This page supports {allowed}.\n");
    SimulatedReply::text(405, text).with_header(ALLOW, Some(allowed))
}

async fn read_body(request: Request<Incoming>) -> Result<Bytes, SimulatedReply> {
    match Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(SimulatedReply::text(413, "The body is over 64 KiB. Send less.\n"))
        }
        Err(error) => Err(SimulatedReply::text(400, format!("Cannot read the body: {error}.\n"))),
    }
}

/// Parses a JSON body. `name` and `example` go into the error.
fn parse_body<T: DeserializeOwned>(body: &[u8], name: &str, example: &str) -> Result<T, SimulatedReply> {
    serde_json::from_slice(body).map_err(|error| {
        SimulatedReply::text(400, format!("Invalid {name}: {error}. Send, for example, {example}\n"))
    })
}

/// Checks that a text in a body is a decimal number. `example` and `effect`, the fault that serves any other text, go
/// into the error.
fn check_decimal(field: &str, text: &str, example: &str, effect: &str) -> Result<(), SimulatedReply> {
    if is_decimal(text) {
        return Ok(());
    }
    let text = format!(
        "{field} {text:?} is not a decimal number. Send one such as {example:?}, or use the fault effect {effect:?} to serve an invalid one.\n"
    );
    Err(SimulatedReply::text(400, text))
}

fn inject_fault(simulator: &Simulator, body: &[u8]) -> Result<SimulatedReply, SimulatedReply> {
    let fault: Fault = parse_body(body, "fault", r#"{"effect":"maintenance","seconds":60}"#)?;
    if let Some(name) = &fault.account {
        let exists = simulator.lock_exchange().accounts().any(|account| account.name == *name);
        if !exists {
            let text = format!("account {name} does not exist. /simulator/ lists all accounts.\n");
            return Err(SimulatedReply::text(400, text));
        }
    }
    fault.effect.validate().map_err(|error| SimulatedReply::text(400, error + ".\n"))?;
    simulator.inject_fault(fault);
    Ok(SimulatedReply::text(200, "The fault is active. DELETE /simulator/faults ends it.\n"))
}

fn set_clock(simulator: &Simulator, body: &[u8]) -> Result<SimulatedReply, SimulatedReply> {
    let ClockUpdate { ahead_ms } = parse_body(body, "clock", r#"{"ahead_ms":3600000}"#)?;
    if ahead_ms.unsigned_abs() > MAX_CLOCK_AHEAD_MS {
        let text = format!(
            "ahead_ms {ahead_ms} is out of range. Send a number from -{MAX_CLOCK_AHEAD_MS} to {MAX_CLOCK_AHEAD_MS}.\n"
        );
        return Err(SimulatedReply::text(400, text));
    }
    simulator.set_clock_offset_ms(ahead_ms);
    let text = format!("The exchange's clock is {ahead_ms} ms ahead of the machine's clock.\n");
    Ok(SimulatedReply::text(200, text))
}

fn parse_market(market: &str) -> Result<String, SimulatedReply> {
    decode_percent(market)
        .filter(|market| !market.is_empty())
        .ok_or_else(|| SimulatedReply::text(404, "The market must be percent-encoded UTF-8 and not empty.\n"))
}

fn set_price(simulator: &Simulator, market: &str, body: &[u8]) -> Result<SimulatedReply, SimulatedReply> {
    let PriceUpdate { price } = parse_body(body, "price", r#"{"price":"64210.5"}"#)?;
    check_decimal("price", &price, "64210.5", "body")?;
    simulator.set_price(market, &price);
    Ok(SimulatedReply::text(200, format!("{market}: {price}.\n")))
}

fn remove_price(simulator: &Simulator, market: &str) -> Result<SimulatedReply, SimulatedReply> {
    if simulator.remove_price(market) {
        return Ok(SimulatedReply::text(200, format!("The market {market} is closed.\n")));
    }
    Err(SimulatedReply::text(404, format!("There is no market {market}.\n")))
}

fn set_market_state(
    simulator: &Simulator,
    market: &str,
    body: &[u8],
) -> Result<SimulatedReply, SimulatedReply> {
    let MarketUpdate { state } = parse_body(body, "market", r#"{"state":"halted"}"#)?;
    if simulator.set_market_state(market, state) {
        return Ok(SimulatedReply::text(200, format!("{market}: {state:?}.\n")));
    }
    Err(SimulatedReply::text(404, format!("There is no market {market}.\n")))
}

/// Ten years.
const MAX_CLOCK_AHEAD_MS: u64 = 315_360_000_000;

/// Body of `PUT /simulator/clock`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockUpdate {
    ahead_ms: i64,
}

/// Body of `PUT /simulator/markets/…`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MarketUpdate {
    state: SimulatedMarketState,
}

/// Body of `PUT /simulator/prices/…`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceUpdate {
    price: String,
}

/// Body of `PUT /simulator/accounts/…`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BalanceUpdate {
    available: String,
    freeze: String,
    parts: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    hidden: bool,
}

/// A balance in the path of a request.
struct BalancePath {
    account: String,
    wallet: SimulatedWallet,
    currency: String,
}

impl BalancePath {
    fn parse(account: &str, wallet: &str, currency: &str) -> Result<Self, SimulatedReply> {
        let refuse = |text: String| SimulatedReply::text(404, text);
        let wallet = SimulatedWallet::from_name(wallet).ok_or_else(|| {
            let names = "spot, wallet, fiat, futures_usdt, futures_coin or earn";
            refuse(format!("There is no wallet {wallet}. It must be {names}.\n"))
        })?;
        match (decode_percent(account), decode_percent(currency)) {
            (Some(account), Some(currency)) if !currency.is_empty() => Ok(Self { account, wallet, currency }),
            _ => {
                let text = "The account and the currency must be percent-encoded UTF-8 and not empty.\n";
                Err(refuse(text.to_owned()))
            }
        }
    }

    fn set_balance(&self, simulator: &Simulator, body: &[u8]) -> Result<SimulatedReply, SimulatedReply> {
        let BalanceUpdate { available, freeze, parts, hidden } =
            parse_body(body, "balance", r#"{"available":"120.5","freeze":"0"}"#)?;
        check_decimal("available", &available, "120.5", "row")?;
        check_decimal("freeze", &freeze, "120.5", "row")?;
        if let Some(field) = parts.iter().flatten().find_map(|(field, _)| self.refuse_part(field)) {
            return Err(field);
        }
        let balance =
            SimulatedBalance { parts, is_hidden: hidden, ..SimulatedBalance::new(&available, &freeze) };
        simulator
            .set_row(&self.account, self.wallet, &self.currency, balance)
            .map_err(|error| SimulatedReply::text(404, format!("{error}.\n")))?;
        let text =
            format!("{} of {}: {available} available, {freeze} frozen.\n", self.currency, self.account);
        Ok(SimulatedReply::text(200, text))
    }

    /// The error, if the wallet has no part of this name.
    fn refuse_part(&self, field: &str) -> Option<SimulatedReply> {
        let known: &[&str] = match self.wallet {
            SimulatedWallet::Spot => &["trade", "withdraw", "lock", "freeze", "copyTrade"],
            SimulatedWallet::FuturesUsdt | SimulatedWallet::FuturesCoin => {
                &["openOrderMarginFrozen", "isolatedMargin", "crossedMargin", "openOrderFeeFrozen"]
            }
            SimulatedWallet::Earn => &v4_json::EARN_PRODUCTS,
            SimulatedWallet::Wallet | SimulatedWallet::Fiat => &[],
        };
        let names = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let text = format!("The wallet has no part {field:?} of a frozen amount. Its parts: {names}.\n");
        (!known.contains(&field)).then(|| SimulatedReply::text(400, text))
    }

    fn remove_balance(&self, simulator: &Simulator) -> Result<SimulatedReply, SimulatedReply> {
        match simulator.remove_balance(&self.account, self.wallet, &self.currency) {
            Ok(true) => {
                let text = format!("{} removed from {}.\n", self.currency, self.account);
                Ok(SimulatedReply::text(200, text))
            }
            Ok(false) => {
                let text = format!("{} has no balance of {}.\n", self.account, self.currency);
                Err(SimulatedReply::text(404, text))
            }
            Err(error) => Err(SimulatedReply::text(404, format!("{error}.\n"))),
        }
    }
}

/// A position in the path of a request.
struct PositionPath {
    account: String,
    wallet: SimulatedWallet,
    key: PositionKey,
}

impl PositionPath {
    fn parse(account: &str, wallet: &str, symbol: &str, side: &str) -> Result<Self, SimulatedReply> {
        let BalancePath { account, wallet, currency: symbol } = BalancePath::parse(account, wallet, symbol)?;
        let side = match side {
            "long" => SimulatedSide::Long,
            "short" => SimulatedSide::Short,
            _ => return Err(SimulatedReply::text(404, "The side must be long or short.\n")),
        };
        Ok(Self { account, wallet, key: (symbol, side) })
    }

    fn set_position(&self, simulator: &Simulator, body: &[u8]) -> Result<SimulatedReply, SimulatedReply> {
        let position: SimulatedPosition = parse_body(body, "position", POSITION_EXAMPLE)?;
        simulator
            .set_position(&self.account, self.wallet, self.key.clone(), position)
            .map_err(|error| SimulatedReply::text(404, format!("{error}.\n")))?;
        Ok(SimulatedReply::text(200, format!("{} of {} is open.\n", self.key.0, self.account)))
    }

    fn remove_position(&self, simulator: &Simulator) -> Result<SimulatedReply, SimulatedReply> {
        match simulator.remove_position(&self.account, self.wallet, &self.key) {
            Ok(true) => {
                Ok(SimulatedReply::text(200, format!("{} of {} is closed.\n", self.key.0, self.account)))
            }
            Ok(false) => {
                let text = format!("{} has no position in {} on this side.\n", self.account, self.key.0);
                Err(SimulatedReply::text(404, text))
            }
            Err(error) => Err(SimulatedReply::text(404, format!("{error}.\n"))),
        }
    }
}

const POSITION_EXAMPLE: &str = r#"{"isolated":true,"size":"10","entry":"27060","mark":"27050","liquidation":"28002.38","leverage":25,"margin":"1.0824","profit":"0.01"}"#;

/// The help page with the exchange's accounts and address.
fn render_help(simulator: &Simulator, local: SocketAddr) -> String {
    let exchange = simulator.lock_exchange();
    let mut accounts = String::new();
    for account in exchange.accounts() {
        let _ = writeln!(accounts, "  {:<14} {}  {}", account.name, account.access_key, account.secret_key);
    }
    let first = exchange.accounts().next().map_or("", |account| account.name.as_str());
    HELP.replace("{accounts}", accounts.trim_end())
        .replace("{base}", &format!("http://{local}"))
        .replace("{first}", first)
}

const HELP: &str = include_str!("help.txt");
