//! The pages under `/simulator/`: what people and scripts read and change. They count towards no limit.
//!
//! Only HTTP and wording; every change is a call on [`Simulator`].

use std::{fmt::Write as _, net::SocketAddr};

use http_body_util::{BodyExt as _, Limited};
use hyper::{Method, Request, body::Incoming, header::ALLOW};
use serde::Deserialize;
use tokio::time::Instant;

use super::{Fault, SimulatedWallet, Simulator, query::decode, reply::SimulatedReply};

const BODY_CAP: usize = 64 * 1024;

/// Answers a request under `/simulator/`.
pub(super) async fn answer(
    simulator: &Simulator,
    local: SocketAddr,
    request: Request<Incoming>,
) -> SimulatedReply {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let parts: Vec<&str> = path.trim_start_matches("/simulator").split('/').skip(1).collect();
    match (parts.as_slice(), method) {
        ([] | [""], Method::GET) => SimulatedReply::text(200, help(simulator, local)),
        (["state"], Method::GET) => {
            let state = simulator.exchange().state(Instant::now());
            SimulatedReply::json(format!("{state:#}\n"))
        }
        (["faults"], Method::POST) => match body(request).await {
            Ok(body) => inject_fault(simulator, &body),
            Err(reply) => reply,
        },
        (["faults"], Method::DELETE) => SimulatedReply::text(
            200,
            format!("Faults ended: {}.\n", simulator.exchange().clear_faults(Instant::now())),
        ),
        (["clock"], Method::PUT) => match body(request).await {
            Ok(body) => set_clock(simulator, &body),
            Err(reply) => reply,
        },
        (["accounts", account, wallet, currency], method @ (Method::PUT | Method::DELETE)) => {
            let row = match BalancePath::parse(account, wallet, currency) {
                Ok(row) => row,
                Err(sentence) => return SimulatedReply::text(404, sentence),
            };
            if method == Method::DELETE {
                return row.remove(simulator);
            }
            match body(request).await {
                Ok(body) => row.set(simulator, &body),
                Err(reply) => reply,
            }
        }
        (["prices", market], method @ (Method::PUT | Method::DELETE)) => {
            let Some(market) = decode(market).filter(|market| !market.is_empty()) else {
                return SimulatedReply::text(
                    404,
                    "The market must be percent-encoded UTF-8 and not empty.\n".to_owned(),
                );
            };
            if method == Method::DELETE {
                return remove_price(simulator, &market);
            }
            match body(request).await {
                Ok(body) => set_price(simulator, &market, &body),
                Err(reply) => reply,
            }
        }
        ([] | ["" | "state"], _) => not_allowed("GET"),
        (["faults"], _) => not_allowed("POST, DELETE"),
        (["clock"], _) => not_allowed("PUT"),
        (["accounts", _, _, _] | ["prices", _], _) => not_allowed("PUT, DELETE"),
        _ => SimulatedReply::text(404, "There is no such page; /simulator/ lists them.\n".to_owned()),
    }
}

fn not_allowed(methods: &str) -> SimulatedReply {
    SimulatedReply::text(405, format!("This page answers {methods}.\n")).with(ALLOW, Some(methods))
}

async fn body(request: Request<Incoming>) -> Result<Vec<u8>, SimulatedReply> {
    match Limited::new(request.into_body(), BODY_CAP).collect().await {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(SimulatedReply::text(413, "The body is over 64 KiB: send less.\n".to_owned()))
        }
        Err(error) => Err(SimulatedReply::text(400, format!("The body could not be read: {error}.\n"))),
    }
}

fn inject_fault(simulator: &Simulator, body: &[u8]) -> SimulatedReply {
    let fault: Fault = match serde_json::from_slice(body) {
        Ok(fault) => fault,
        Err(error) => {
            let sentence = format!("The fault is not understood: {error}. Send one like {EXAMPLE_FAULT}\n");
            return SimulatedReply::text(400, sentence);
        }
    };
    let known = |name: &String| simulator.exchange().accounts().any(|account| account.name == *name);
    if let Some(name) = fault.account.as_ref().filter(|name| !known(name)) {
        return SimulatedReply::text(
            400,
            format!("account {name} does not exist: /simulator/ lists those that do.\n"),
        );
    }
    if let Err(sentence) = fault.effect.check() {
        return SimulatedReply::text(400, sentence + ".\n");
    }
    simulator.inject_fault(fault);
    SimulatedReply::text(200, "The fault is in force; DELETE /simulator/faults ends it.\n".to_owned())
}

fn set_clock(simulator: &Simulator, body: &[u8]) -> SimulatedReply {
    let ClockUpdate { ahead_ms } = match serde_json::from_slice(body) {
        Ok(clock) => clock,
        Err(error) => {
            let example = r#"{"ahead_ms":3600000}"#;
            return SimulatedReply::text(
                400,
                format!("The clock is not understood: {error}. Send {example}\n"),
            );
        }
    };
    if ahead_ms.unsigned_abs() > CLOCK_AHEAD_MAX_MS {
        let sentence = format!(
            "ahead_ms {ahead_ms} is too far: give {CLOCK_AHEAD_MAX_MS} at most, or the same below zero.\n"
        );
        return SimulatedReply::text(400, sentence);
    }
    simulator.set_clock_offset_ms(ahead_ms);
    SimulatedReply::text(
        200,
        format!("The exchange's clock is {ahead_ms} ms ahead of the machine's clock.\n"),
    )
}

fn set_price(simulator: &Simulator, market: &str, body: &[u8]) -> SimulatedReply {
    let PriceUpdate { price } = match serde_json::from_slice(body) {
        Ok(paid) => paid,
        Err(error) => {
            let example = r#"{"price":"64210.5"}"#;
            return SimulatedReply::text(
                400,
                format!("The price is not understood: {error}. Send {example}\n"),
            );
        }
    };
    if !is_decimal(&price) {
        let sentence = format!(
            "price {price:?} is not a decimal number: send one like \"64210.5\", or a fault with the effect body to serve a wrong one.\n"
        );
        return SimulatedReply::text(400, sentence);
    }
    simulator.set_price(market, &price);
    SimulatedReply::text(200, format!("{market}: {price}.\n"))
}

fn remove_price(simulator: &Simulator, market: &str) -> SimulatedReply {
    if simulator.remove_price(market) {
        return SimulatedReply::text(200, format!("The market {market} is closed.\n"));
    }
    SimulatedReply::text(404, format!("There is no market {market}.\n"))
}

const EXAMPLE_FAULT: &str = r#"{"effect":"maintenance","seconds":60}"#;

/// Ten years.
const CLOCK_AHEAD_MAX_MS: u64 = 315_360_000_000;

/// The body of a PUT of the clock.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockUpdate {
    ahead_ms: i64,
}

/// The body of a PUT of a price.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceUpdate {
    price: String,
}

/// The row of an account that a path names.
struct BalancePath {
    account: String,
    wallet: SimulatedWallet,
    currency: String,
}

/// The body of a PUT of a balance.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BalanceUpdate {
    available: String,
    freeze: String,
}

impl BalancePath {
    fn parse(account: &str, wallet: &str, currency: &str) -> Result<Self, String> {
        let Some((_, wallet)) = SimulatedWallet::WORDS.into_iter().find(|(word, _)| *word == wallet) else {
            let words = "spot, wallet, fiat, futures_usdt or futures_coin";
            return Err(format!("There is no wallet {wallet}: it must be {words}.\n"));
        };
        match (decode(account), decode(currency)) {
            (Some(account), Some(currency)) if !currency.is_empty() => Ok(Self { account, wallet, currency }),
            _ => {
                Err("The account and the currency must be percent-encoded UTF-8 and not empty.\n".to_owned())
            }
        }
    }

    fn set(&self, simulator: &Simulator, body: &[u8]) -> SimulatedReply {
        let BalanceUpdate { available, freeze } = match serde_json::from_slice(body) {
            Ok(amounts) => amounts,
            Err(error) => {
                let example = r#"{"available":"120.5","freeze":"0"}"#;
                return SimulatedReply::text(
                    400,
                    format!("The amounts are not understood: {error}. Send {example}\n"),
                );
            }
        };
        for (key, amount) in [("available", &available), ("freeze", &freeze)] {
            if !is_decimal(amount) {
                let sentence = format!(
                    "{key} {amount:?} is not a decimal number: send one like \"120.5\", or a fault with the effect row to serve a wrong one.\n"
                );
                return SimulatedReply::text(400, sentence);
            }
        }
        match simulator.set_balance(&self.account, self.wallet, &self.currency, &available, &freeze) {
            Ok(()) => SimulatedReply::text(
                200,
                format!("{} of {}: {available} available, {freeze} frozen.\n", self.currency, self.account),
            ),
            Err(error) => SimulatedReply::text(404, format!("{error}.\n")),
        }
    }

    fn remove(&self, simulator: &Simulator) -> SimulatedReply {
        match simulator.remove_balance(&self.account, self.wallet, &self.currency) {
            Ok(true) => {
                SimulatedReply::text(200, format!("{} removed from {}.\n", self.currency, self.account))
            }
            Ok(false) => {
                SimulatedReply::text(404, format!("{} has no row {}.\n", self.account, self.currency))
            }
            Err(error) => SimulatedReply::text(404, format!("{error}.\n")),
        }
    }
}

/// Whether it is digits, with at most one point between them.
fn is_decimal(amount: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match amount.split_once('.') {
        Some((whole, part)) => digits(whole) && digits(part),
        None => digits(amount),
    }
}

/// The page that says what there is.
fn help(simulator: &Simulator, local: SocketAddr) -> String {
    let mut accounts = String::new();
    for account in simulator.exchange().accounts() {
        let _ = writeln!(accounts, "  {:<14} {}  {}", account.name, account.access_key, account.secret_key);
    }
    let first =
        simulator.exchange().accounts().next().map_or_else(String::new, |account| account.name.clone());
    HELP.replace("{accounts}", accounts.trim_end())
        .replace("{base}", &format!("http://{local}"))
        .replace("{first}", &first)
}

const HELP: &str = include_str!("help.txt");
