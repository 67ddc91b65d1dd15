//! What the exchange answers → standing → exposition. Whatever it answers: no panic, an exposition that is whole, in
//! it the numbers that a slow second reading finds in the same bytes, no number that is too old, and no secret in
//! what is said of a failure.
//!
//! An input is a list of answers with a line `%%` between them. An answer is a line with the HTTP status, the seconds
//! since the answer before if they are not 30, and after them `v4`, `futures` or `earn` if it is not v1 that answers;
//! then the body. Without such a line the status is 200.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use xt_balance_exporter::{
    clock::{MonotonicTime, Timestamp, UnixTime, Uptime},
    exchange::{self, Balance, BalanceAnswer, Failure, Position, Reason, futures, futures_positions, v1, v4},
    exposition::cache,
    snapshot::store::AccountState,
    snapshot::store::{AccountEntry, Store},
    snapshot::wallet::{CurrencyFilter, PollOutcome, PollResult, Thresholds, WalletConfig, WatchedCurrency},
    web::status_page::{self, PageScope, StatusPage},
};

use super::{
    decimal::Decimal,
    exposition::{self, Samples},
    is_readable,
    json::{self, Json},
    unpacked,
};

/// What no text may show.
const SECRETS: [&str; 2] = ["fuzzaccesskey", "FuzzSecretKey"];
const MAX_AGE: Duration = Duration::from_secs(90);
const ANSWERS_MAX: usize = 8;
const ACCOUNT: &str = "main \\\"\u{1F4B0}";

/// Has the exporter read the answers in `input`.
///
/// # Panics
/// If a promise is broken.
pub fn run(input: &[u8]) {
    let mut now = Timestamp {
        monotonic: MonotonicTime::START,
        uptime: Uptime::START,
        unix: UnixTime::from_secs(1_700_000_000),
    };
    let store = Store::new(vec![account(now)]);
    let mut models = WALLETS.map(|(wallet, wishes)| Model::new(wallet, wishes()));
    for Told { status, wait, dialect, body } in answers(input).into_iter().take(ANSWERS_MAX) {
        now = now.later(wait);
        server_time(status, dialect, body);
        prices(status, dialect, body);
        positions(status, dialect, body);
        let seen = Seen::read(status, dialect, body);
        let read = decoded(status, dialect, body, &seen);
        for model in &mut models {
            model.take(&seen, now);
        }
        store.update_account(ACCOUNT, |account| {
            for known in &mut account.wallets {
                let doubt =
                    read.as_ref().ok().and_then(|answer| known.snapshot.find_suspect_claims(answer, now));
                let is_suspect = doubt.is_some();
                let believed = || PollOutcome::new(now, read.clone().map(Some));
                let outcome = doubt.map_or_else(believed, PollOutcome::Suspect);
                let took = Duration::from_millis(250);
                known.set_snapshot(known.snapshot.apply(PollResult { at: now, took, is_suspect, outcome }));
            }
        });
        agree(&store, &models, now);
    }
    agree(&store, &models, now.later(MAX_AGE));
    status_page(&store, now);
}

/// An answer in an input.
struct Told<'a> {
    status: u16,
    wait: Duration,
    dialect: Dialect,
    body: &'a [u8],
}

/// Who answers.
#[derive(Clone, Copy)]
enum Dialect {
    V1,
    V4,
    Futures,
    Earn,
}

/// The positions in a futures answer: each symbol and side occurs once, no size is 0, and no price is 0 or negative.
fn positions(status: u16, dialect: Dialect, body: &[u8]) {
    let Dialect::Futures = dialect else { return };
    let Ok(answer) = futures_positions::decode_positions(status, body) else { return };
    let key = |position: &Position| (position.symbol.clone(), position.side);
    assert!(answer.positions.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])));
    for position in &answer.positions {
        assert!(position.size.value() > 0.0);
        let prices = [&position.entry_price, &position.mark_price, &position.liquidation_price];
        assert!(prices.into_iter().flatten().all(|price| price.value() > 0.0));
        assert!(position.liquidation_distance().is_none_or(f64::is_finite));
    }
}

/// Takes an input apart.
fn answers(input: &[u8]) -> Vec<Told<'_>> {
    let mut left = input;
    let mut answers = Vec::new();
    loop {
        let end = left.windows(4).position(|four| four == b"\n%%\n");
        let (answer, after) = end.map_or((left, None), |end| (&left[..end], Some(&left[end + 4..])));
        answers.push(answer_of(answer));
        match after {
            Some(after) => left = after,
            None => return answers,
        }
    }
}

fn answer_of(answer: &[u8]) -> Told<'_> {
    let first = |text: &str| -> Option<(u16, u64, Dialect)> {
        let (text, dialect) = match text {
            text if text.ends_with(" v4") => (text.strip_suffix(" v4")?, Dialect::V4),
            text if text.ends_with(" futures") => (text.strip_suffix(" futures")?, Dialect::Futures),
            text if text.ends_with(" earn") => (text.strip_suffix(" earn")?, Dialect::Earn),
            text => (text, Dialect::V1),
        };
        let (status, wait) = text.split_once(' ').unwrap_or((text, "30"));
        Some((
            status.parse().ok().filter(|status| (100..1000).contains(status))?,
            wait.parse().ok()?,
            dialect,
        ))
    };
    let mut lines = answer.splitn(2, |byte| *byte == b'\n');
    let head = lines.next().and_then(|line| std::str::from_utf8(line).ok()).and_then(first);
    match head {
        Some((status, wait, dialect)) => {
            let body = lines.next().unwrap_or_default();
            Told { status, wait: Duration::from_secs(wait.min(100_000)), dialect, body }
        }
        None => Told { status: 200, wait: Duration::from_secs(30), dialect: Dialect::V1, body: answer },
    }
}

/// The owner's wishes for a wallet.
#[derive(Clone)]
struct Wishes {
    watch: Vec<WatchedCurrency>,
    filter: CurrencyFilter,
}

/// One wallet without any wish, and two with different ones.
const WALLETS: [(exchange::Wallet, fn() -> Wishes); 3] = [
    (exchange::Wallet::Spot, || Wishes { watch: vec![], filter: CurrencyFilter::default() }),
    (exchange::Wallet::Wallet, || Wishes {
        watch: vec![WatchedCurrency {
            currency: "usdt".into(),
            thresholds: Some(Thresholds { warn: 500.0, page: 200.0 }),
        }],
        filter: CurrencyFilter { only: vec!["btc".into(), "eth".into()], exclude: vec![], hide_zero: false },
    }),
    (exchange::Wallet::Fiat, || Wishes {
        watch: vec![
            WatchedCurrency { currency: "btc".into(), thresholds: None },
            WatchedCurrency {
                currency: "usdt".into(),
                thresholds: Some(Thresholds { warn: 0.1, page: 0.1 }),
            },
        ],
        filter: CurrencyFilter { only: vec![], exclude: vec!["doge".into()], hide_zero: true },
    }),
];

fn account(now: Timestamp) -> AccountEntry {
    let subject = |(wallet, wishes): (exchange::Wallet, fn() -> Wishes)| {
        let Wishes { watch, filter } = wishes();
        Arc::new(WalletConfig { account: ACCOUNT.into(), wallet, watch, filter, max_age: MAX_AGE })
    };
    let facts = AccountState {
        name: ACCOUNT.into(),
        labels: Arc::default(),
        paused_until: None,
        credentials_loaded: now.unix,
        poller_restarts: 0,
    };
    AccountEntry::new(facts, WALLETS.map(subject).into(), now.uptime)
}

/// What a second reading finds in an answer to a balance call.
#[derive(Debug)]
enum Seen {
    /// No good answer.
    Bad,
    /// A good answer.
    Good(Rows),
}

#[derive(Debug)]
struct Rows {
    /// Amounts by name.
    amounts: BTreeMap<String, (f64, f64)>,
    /// Names of unusable rows.
    unusable: BTreeSet<String>,
    /// Whether some row has no usable name.
    is_nameless: bool,
    /// How many rows there are in all.
    all: usize,
}

impl Seen {
    fn read(status: u16, dialect: Dialect, body: &[u8]) -> Self {
        let Some(data) = data(status, dialect, body) else { return Self::Bad };
        let Some(entries) = entries(dialect, &data) else { return Self::Bad };
        let all = entries.len();
        let mut by_name: BTreeMap<String, Vec<Option<(f64, f64)>>> = BTreeMap::new();
        let mut is_nameless = false;
        for (name, row) in entries {
            // A name that is no text or does not fit a label names nothing.
            match name.as_deref().and_then(label) {
                Some(name) => by_name.entry(name).or_default().push(amounts(dialect, row)),
                None => is_nameless = true,
            }
        }
        let (mut rows, mut unusable) = (BTreeMap::new(), BTreeSet::new());
        for (name, found) in by_name {
            match found.as_slice() {
                [Some(amounts)] => drop(rows.insert(name, *amounts)),
                // Two rows of one currency contradict each other even if one is unusable.
                _ => drop(unusable.insert(name)),
            }
        }
        if rows.is_empty() && all > 0 {
            return Self::Bad;
        }
        Self::Good(Rows { amounts: rows, unusable, is_nameless, all })
    }
}

/// The names and rows of an answer; `None` if there is no telling whose a row is.
fn entries(dialect: Dialect, data: &Json) -> Option<Vec<(json::Text, &Json)>> {
    let names_in = |rows: &'_ Json, name: &str| -> Option<Vec<json::Text>> {
        let Json::List(rows) = rows else { return None };
        let name = |row: &Json| match row.field(name) {
            Some(Json::Text(Some(text))) => Some(Some(text.clone())),
            _ => None,
        };
        rows.iter().map(name).collect()
    };
    let (rows, name) = match dialect {
        Dialect::V1 => {
            let Json::Object(entries) = data else { return None };
            return Some(entries.iter().map(|(name, row)| (name.clone(), row)).collect());
        }
        Dialect::V4 => (data.field("assets")?, "currency"),
        Dialect::Futures => (data, "coin"),
        Dialect::Earn => (data, "currency"),
    };
    let names = names_in(rows, name)?;
    let Json::List(rows) = rows else { return None };
    Some(names.into_iter().zip(rows).collect())
}

/// The `data` or `result` of a good answer.
fn data(status: u16, dialect: Dialect, body: &[u8]) -> Option<Json> {
    let text = std::str::from_utf8(body).ok();
    let read = text.and_then(json::read);
    match (&read, serde_json::from_slice::<Value>(body)) {
        (Some(read), Ok(value)) => assert!(read.is_like(&value), "{value} was read as {read:?}"),
        (Some(read), Err(error)) => assert!(read.is_beyond_value(), "{error}: {read:?}"),
        (None, Ok(value)) => panic!("not read: {value}"),
        (None, Err(_)) => {}
    }
    let read = read?;
    let (names, what): (&[&str], _) = match dialect {
        Dialect::V1 => (&["code", "data", "info", "msg", "msgInfo"], "data"),
        Dialect::V4 | Dialect::Earn => (&["rc", "mc", "result"], "result"),
        Dialect::Futures => (&["returnCode", "msgInfo", "error", "result"], "result"),
    };
    for name in names {
        if read.fields(name)?.len() > 1 {
            return None;
        }
    }
    let is = |name: &str, good: &[&str]| matches!(read.field(name), Some(Json::Number(digits)) if good.contains(&digits.as_str()));
    let is_good = match dialect {
        Dialect::V1 => is("code", &["200"]),
        Dialect::V4 | Dialect::Earn => {
            is("rc", &["0", "-0"])
                && matches!(read.field("mc"), Some(Json::Text(Some(mc))) if mc == "SUCCESS")
        }
        Dialect::Futures => is("returnCode", &["0", "-0"]) && !is_error(read.field("error")),
    };
    if !is_good || status != 200 {
        return None;
    }
    let Json::Object(entries) = read else { return None };
    entries.into_iter().find(|(name, _)| name.as_deref() == Some(what)).map(|(_, data)| data)
}

/// Whether `error` of futures names one: an object with a code that is not empty.
fn is_error(error: Option<&Json>) -> bool {
    let Some(error) = error else { return false };
    // An answer that cannot be read as an error is not an error.
    let readable = ["code", "msg"].iter().all(|name| error.fields(name).is_some_and(|found| found.len() < 2));
    match error.field("code") {
        _ if !readable => false,
        None | Some(Json::Null) => false,
        Some(Json::Text(Some(code))) => !code.is_empty(),
        Some(_) => true,
    }
}

fn amounts(dialect: Dialect, row: &Json) -> Option<(f64, f64)> {
    let pair = |free, frozen| Some((amount(row.field(free)?)?, amount(row.field(frozen)?)?));
    match dialect {
        Dialect::V1 => pair("available", "freeze"),
        Dialect::V4 => pair("availableAmount", "frozenAmount"),
        Dialect::Futures => margins(row),
        Dialect::Earn => Some((0.0, amount(row.field("amount")?)?)),
    }
}

/// Frozen is the sum of three margins, free what is said or else the rest.
fn margins(row: &Json) -> Option<(f64, f64)> {
    // A field that comes twice spoils the row, also where its value would not be needed.
    for name in ["walletBalance", "availableBalance"] {
        if row.fields(name)?.len() > 1 {
            return None;
        }
    }
    let exact = |name: &str| {
        let json = row.field(name)?;
        amount(json)?;
        let (Json::Number(text) | Json::Text(Some(text))) = json else { return None };
        Decimal::read(text)
    };
    let margins = Decimal::read(&exact("isolatedMargin")?.plus(&exact("crossedMargin")?)?)?;
    let frozen = exact("openOrderMarginFrozen")?.plus(&margins)?;
    let free = match row.field("availableBalance") {
        Some(Json::Null) | None => {
            exact("walletBalance")?.plus(&Decimal::read(&frozen)?.turned())?.parse().ok()?
        }
        Some(said) => amount(said)?,
    };
    Some((free, frozen.parse().ok()?))
}

/// Digits with at most one point among them, a sign before, an exponent after; what an f64 can hold.
fn amount(json: &Json) -> Option<f64> {
    let (Json::Number(text) | Json::Text(Some(text))) = json else { return None };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = |text: &str| text.strip_prefix(['+', '-']).unwrap_or(text).to_owned();
    let plain = unsigned(text);
    let (mantissa, exponent) = plain.split_once(['e', 'E']).map_or((&*plain, None), |(m, e)| (m, Some(e)));
    let exponent = exponent.map(unsigned);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fits = text.len() <= 128
        && digits(whole)
        && digits(fraction)
        && whole.len() + fraction.len() > 0
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(&exponent));
    let value: f64 = fits.then(|| text.parse().ok())??;
    value.is_finite().then_some(value)
}

/// Characters beyond ASCII that show nothing, from and to.
const INVISIBLE: &[(u32, u32)] = &[
    (0x85, 0x85),
    (0xA0, 0xA0),
    (0xAD, 0xAD),
    (0x34F, 0x34F),
    (0x61C, 0x61C),
    (0x115F, 0x1160),
    (0x1680, 0x1680),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2000, 0x200F),
    (0x2028, 0x202F),
    (0x205F, 0x206F),
    (0x2800, 0x2800),
    (0x3000, 0x3000),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0x1_BCA0, 0x1_BCA3),
    (0x1_D173, 0x1_D17A),
    (0xE_0000, 0xE_0FFF),
];

/// A currency's name as a label has it.
fn label(name: &str) -> Option<String> {
    let is_invisible = |c: char| INVISIBLE.iter().any(|(from, to)| (*from..=*to).contains(&u32::from(c)));
    let is_padding = |c: char| is_invisible(c) || (9..=13).contains(&u32::from(c)) || c == ' ';
    let name: String = name.trim_matches(is_padding).to_lowercase();
    let is_control = |c: char| c < ' ' || ('\u{7f}'..='\u{9f}').contains(&c);
    let is_fit = (1..=64).contains(&name.len()) && !name.contains(|c| is_control(c) || is_invisible(c));
    is_fit.then_some(name)
}

/// Decodes the answer and holds the result against the second reading.
fn decoded(status: u16, dialect: Dialect, body: &[u8], seen: &Seen) -> Result<BalanceAnswer, Failure> {
    let read = match dialect {
        Dialect::V1 => v1::decode_balances(status, body),
        Dialect::V4 => v4::decode_balances(status, body),
        Dialect::Futures => futures::decode_balances(status, body),
        Dialect::Earn => v4::decode_earn(status, body),
    };
    let read = read.map_err(|failure| failure.redact(&SECRETS));
    match (&read, seen) {
        (Err(failure), Seen::Bad) => fit_to_be_shown(status, failure),
        (Ok(answer), Seen::Good(Rows { amounts, unusable, is_nameless, all })) => {
            let names: Vec<_> = answer.balances.iter().map(|row| &*row.currency).collect();
            assert_eq!(names, amounts.keys().map(String::as_str).collect::<Vec<_>>());
            assert!(answer.unreadable.iter().map(|name| &**name).eq(unusable.iter().map(String::as_str)));
            assert_eq!(answer.rejected, (all - amounts.len()) as u64);
            assert_eq!(answer.nameless > 0, *is_nameless);
            answer.balances.iter().for_each(parts_have_one_amount_each);
        }
        _ => panic!("read as {read:?}, and on second sight as {seen:?}"),
    }
    read
}

/// No reason occurs twice, because two series with the same labels spoil a scrape.
fn parts_have_one_amount_each(row: &Balance) {
    let reasons: Vec<_> = row.amounts.frozen_parts.iter().map(|part| part.reason.label()).collect();
    assert_eq!(reasons.iter().collect::<BTreeSet<_>>().len(), reasons.len(), "{reasons:?}");
}

fn fit_to_be_shown(status: u16, failure: &Failure) {
    let text = &failure.text;
    assert!(is_readable(text) && text.chars().count() <= 301, "{text:?}");
    let lower = text.to_ascii_lowercase();
    assert!(!SECRETS.iter().any(|secret| lower.contains(&secret.to_ascii_lowercase())), "{text:?}");
    assert!(status != 429 || failure.reason == Reason::RateLimited, "{failure:?}");
}

/// Reads the same body as an answer to the other call.
fn server_time(status: u16, dialect: Dialect, body: &[u8]) {
    let read = match dialect {
        Dialect::V1 => v1::decode_server_time(status, body),
        Dialect::V4 => v4::decode_server_time(status, body),
        Dialect::Futures | Dialect::Earn => return,
    };
    let read = read.map_err(|failure| failure.redact(&SECRETS));
    let seen = data(status, dialect, body).and_then(|data| match data.field("serverTime") {
        Some(Json::Number(digits)) => digits.parse::<u64>().ok(),
        _ => None,
    });
    assert_eq!(read.as_ref().ok(), seen.as_ref(), "{read:?}");
    if let Err(failure) = read {
        fit_to_be_shown(status, &failure);
    }
}

/// Reads the same body as an answer to the call for prices.
fn prices(status: u16, dialect: Dialect, body: &[u8]) {
    let read = match dialect {
        Dialect::V1 => v1::decode_prices(status, body),
        Dialect::V4 => v4::decode_prices(status, body),
        Dialect::Futures | Dialect::Earn => return,
    };
    let read = read.map_err(|failure| failure.redact(&SECRETS));
    let shown = read.as_ref().ok().map(|prices| -> BTreeMap<_, _> {
        assert!(prices.iter().map(|(currency, _)| currency).is_sorted_by(|a, b| a < b), "{prices:?}");
        prices.iter().map(|(currency, price)| (currency.to_owned(), price)).collect()
    });
    assert_eq!(shown, paid(status, dialect, body), "{read:?}");
    if let Err(failure) = read {
        fit_to_be_shown(status, &failure);
    }
}

/// What a second reading finds in an answer to the call for prices: what currencies cost in USDT.
fn paid(status: u16, dialect: Dialect, body: &[u8]) -> Option<BTreeMap<String, f64>> {
    let markets = markets(status, dialect, body)?;
    let mut by_name: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
    for (market, price) in markets {
        let mut parts = market.rsplitn(2, '_');
        let is_in_usdt = parts.next().is_some_and(|quote| quote.to_lowercase() == "usdt");
        if let Some(name) = parts.next().filter(|_| is_in_usdt).and_then(label) {
            by_name.entry(name).or_default().push(price);
        }
    }
    by_name.remove("usdt");
    let single = by_name.into_iter().filter_map(|(name, found)| match found.as_slice() {
        [Some(price)] if *price > 0.0 => Some((name, *price)),
        _ => None,
    });
    let mut paid: BTreeMap<_, _> = single.collect();
    (!paid.is_empty()).then(|| {
        paid.insert("usdt".to_owned(), 1.0);
        paid
    })
}

/// The markets in an answer that have a name, and what was last paid there if that is an amount.
fn markets(status: u16, dialect: Dialect, body: &[u8]) -> Option<Vec<(String, Option<f64>)>> {
    let priced =
        |market: Option<String>, row: &Json, name: &str| Some((market?, row.field(name).and_then(amount)));
    if let Dialect::V4 = dialect {
        let Json::List(rows) = data(status, dialect, body)? else { return None };
        let market = |row: &Json| match row.field("s") {
            Some(Json::Text(market)) => market.clone(),
            _ => None,
        };
        return Some(rows.iter().filter_map(|row| priced(market(row), row, "p")).collect());
    }
    let Json::Object(rows) = json::read(std::str::from_utf8(body).ok()?)? else { return None };
    let is_error =
        |(name, row): &(json::Text, Json)| name.as_deref() == Some("code") && !matches!(row, Json::Object(_));
    if status != 200 || rows.iter().any(is_error) {
        return None;
    }
    Some(rows.iter().filter_map(|(market, row)| priced(market.clone(), row, "price")).collect())
}

/// What should be shown of a wallet.
struct Model {
    wallet: &'static str,
    wishes: Wishes,
    good: Option<(Timestamp, Shown, usize)>,
    /// Whether the last believed answer held anything.
    was_rich: bool,
    /// What the last answer claimed to be lost and was not believed: names, and `*` for everything; and when.
    claimed: BTreeSet<String>,
    claimed_at: MonotonicTime,
    up: bool,
    polls: usize,
    failures: usize,
    rejected: usize,
    suspect: usize,
}

/// Free and frozen amount by name, and whether a row was there by name of what is watched.
#[derive(Clone, Default)]
struct Shown {
    amounts: BTreeMap<String, (f64, f64)>,
    present: BTreeMap<String, bool>,
}

impl Model {
    fn new(wallet: exchange::Wallet, wishes: Wishes) -> Self {
        let wallet = wallet.label();
        Self {
            wallet,
            wishes,
            good: None,
            was_rich: false,
            claimed: BTreeSet::new(),
            claimed_at: MonotonicTime::START,
            up: false,
            polls: 0,
            failures: 0,
            rejected: 0,
            suspect: 0,
        }
    }

    /// What is claimed to be lost.
    fn claims(&self, rows: &Rows) -> BTreeSet<String> {
        let known = self.good.as_ref().map(|(_, shown, _)| shown);
        let mut claims = BTreeSet::new();
        for watch in &self.wishes.watch {
            let name = String::from(watch.currency.clone());
            let was_zero = known.and_then(|shown| shown.amounts.get(&name)) == Some(&(0.0, 0.0));
            let was_missing = known.and_then(|shown| shown.present.get(&name)) == Some(&false);
            let is_missing = !rows.is_nameless && !rows.unusable.contains(&name);
            let is_claimed = match rows.amounts.get(&name) {
                Some(amounts) => *amounts == (0.0, 0.0) && !was_zero,
                None => is_missing && !was_missing,
            };
            if is_claimed {
                claims.insert(name);
            }
        }
        let is_poor = rows.all == rows.amounts.len() && rows.amounts.values().all(|both| *both == (0.0, 0.0));
        let had_rows = self.good.as_ref().is_some_and(|(.., all)| *all > 0);
        if is_poor && (self.good.is_none() || self.was_rich || rows.all == 0 && had_rows) {
            claims.insert("*".to_owned());
        }
        claims
    }

    fn take(&mut self, seen: &Seen, now: Timestamp) {
        self.polls += 1;
        let Seen::Good(seen) = seen else {
            self.failures += 1;
            self.up = false;
            return;
        };
        let claims = self.claims(seen);
        let is_open = now.monotonic < self.claimed_at + MAX_AGE;
        let is_confirmed = is_open && claims.is_subset(&self.claimed);
        if !claims.is_empty() && !is_confirmed {
            self.suspect += 1;
            self.up = false;
            (self.claimed, self.claimed_at) = (claims, now.monotonic);
            return;
        }
        self.claimed.clear();
        self.was_rich = seen.amounts.values().any(|both| *both != (0.0, 0.0));
        let Rows { amounts: rows, unusable, is_nameless, all } = seen;
        self.up = true;
        self.rejected += all - rows.len();
        let mut shown = Shown::default();
        for (name, amounts) in rows {
            let filter = &self.wishes.filter;
            let is_in = |list: &[_]| list.iter().any(|listed| *listed == **name);
            let hidden = is_in(&filter.exclude)
                || !filter.only.is_empty() && !is_in(&filter.only)
                || filter.hide_zero && *amounts == (0.0, 0.0);
            if !hidden {
                shown.amounts.insert(name.clone(), *amounts);
            }
        }
        for WatchedCurrency { currency, .. } in &self.wishes.watch {
            let name = String::from(currency.clone());
            let row = rows.get(&name);
            let is_listed = row.is_some() || unusable.contains(&name);
            if is_listed || !is_nameless {
                shown.present.insert(name.clone(), is_listed);
            }
            match row {
                Some(amounts) => drop(shown.amounts.insert(name, *amounts)),
                None if is_listed || *is_nameless => {}
                None => drop(shown.amounts.insert(name, (0.0, 0.0))),
            }
        }
        self.good = Some((now, shown, *all));
    }

    /// Holds what is shown of this wallet against what should be.
    fn agrees(&self, samples: &Samples<'_>, now: Timestamp) {
        let own = [("account", ACCOUNT), ("wallet", self.wallet)];
        let by_currency = |name: &str| -> BTreeMap<String, f64> {
            let mine = samples.of(name).filter(|(labels, _)| labels["wallet"] == self.wallet);
            mine.map(|(labels, value)| (labels["currency"].clone().into_owned(), value)).collect()
        };
        let known = self.good.as_ref().filter(|(at, ..)| now.monotonic < at.monotonic + MAX_AGE);
        let Shown { amounts, present } = known.map(|(_, shown, _)| shown.clone()).unwrap_or_default();
        for (name, pick) in [
            ("xt_balance_free", (|(free, _)| free) as fn((f64, f64)) -> f64),
            ("xt_balance_frozen", |(_, frozen)| frozen),
        ] {
            let expected = amounts.iter().map(|(name, amounts)| (name.clone(), pick(*amounts))).collect();
            assert_eq!(by_currency(name), expected, "{name}");
        }
        let present = present.into_iter().map(|(name, present)| (name, f64::from(u8::from(present))));
        assert_eq!(by_currency("xt_watch_present"), present.collect());
        for (name, pick) in [
            ("xt_balance_free_threshold", (|thresholds| thresholds.warn) as fn(Thresholds) -> f64),
            ("xt_balance_free_page_threshold", |thresholds| thresholds.page),
        ] {
            let watch = self.wishes.watch.iter();
            let expected =
                watch.filter_map(|watch| Some((watch.currency.to_string(), pick(watch.thresholds?))));
            assert_eq!(by_currency(name), expected.collect(), "{name}");
        }
        let count = |name: &str| samples.one(name, &own);
        let exactly = |count: usize| Some(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        assert_eq!(count("xt_currencies"), known.and_then(|(.., all)| exactly(*all)));
        assert_eq!(count("xt_polls_total"), exactly(self.polls));
        assert_eq!(count("xt_poll_duration_seconds_count"), exactly(self.polls));
        assert_eq!(count("xt_rows_rejected_total"), exactly(self.rejected));
        assert_eq!(count("xt_suspect_snapshots_total"), exactly(self.suspect));
        assert_eq!(count("xt_up"), exactly(usize::from(self.up)));
        let at = self.good.as_ref().map_or(0.0, |(at, ..)| at.unix.as_secs_f64());
        assert_eq!(count("xt_last_success_timestamp_seconds"), Some(at));
        let failures =
            samples.of("xt_poll_failures_total").filter(|(labels, _)| labels["wallet"] == self.wallet);
        let failures: Vec<_> = failures.map(|(_, count)| count).collect();
        assert_eq!(
            (failures.len(), Some(failures.iter().sum())),
            (Reason::ALL.len(), exactly(self.failures))
        );
    }
}

fn agree(store: &Store, models: &[Model], now: Timestamp) {
    let whole = cache::render(store, now, None);
    let text = whole.plain.parts.concat();
    assert!(unpacked(&whole.gzip.parts.concat()) == text, "the compressed text is another");
    let text = String::from_utf8(text).unwrap_or_else(|error| panic!("{error}"));
    let samples = exposition::read(&text);
    for model in models {
        model.agrees(&samples, now);
    }
}

/// Renders the status page: nothing that was answered may become markup.
fn status_page(store: &Store, now: Timestamp) {
    let accounts = store.accounts();
    for scope in [PageScope::All, PageScope::Account] {
        let page = status_page::render(&StatusPage {
            accounts: &accounts,
            prices: store.prices().as_deref(),
            history: &store.history(),
            misconfigured: false,
            now,
            telemetry_path: "/metrics",
            version: "0",
            sort: None,
            scope,
        });
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>"));
        // The page shows currencies in upper case.
        let page = page.to_lowercase();
        for (open, close) in [("<style>", "</style>"), ("<script>", "</script>")] {
            assert_eq!((page.matches(open).count(), page.matches(close).count()), (1, 1));
        }
    }
}
