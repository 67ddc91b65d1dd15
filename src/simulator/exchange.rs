//! What the exchange decides: whether a call is admitted, what it is told, and which fault gets in the way.
//!
//! Knows no socket and reads no clock: time is an argument. One `Exchange` is all the state there is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::IpAddr,
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hyper::{HeaderMap, header::AGE};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Account, Api, Arrival, Balance, Calls, Cause, Counts, Effect, Endpoint, Fault, KeyState, LimitReply,
    NonceRefusal, Outcome, Rules, UnknownAccount, Wallet,
    fault::{Dialect, Target},
    headers::Headers,
    limits::Window,
    query::Query,
    reply::{Date, Reply},
    v4,
};

const ARRIVALS_KEPT: usize = 65_536;
const ADDRESSES_KEPT: usize = 4_096;

/// One call as it arrived.
pub(super) struct Call<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) ip: IpAddr,
}

/// The whole state of the exchange.
pub(super) struct Exchange {
    rules: Rules,
    started: Instant,
    start_ms: i64,
    keys: Vec<Key>,
    /// What was last paid, by market.
    pub(super) prices: BTreeMap<String, String>,
    callers: HashMap<IpAddr, Caller>,
    faults: Vec<InForce>,
    arrivals: VecDeque<Arrival>,
    strays: u64,
}

/// An account, its key and what it has used up.
struct Key {
    account: Account,
    last_nonce: i64,
    asset_calls: Window,
    balances_calls: Window,
    balance_calls: Window,
    locked_until: Option<Instant>,
    counts: Counts,
}

/// An address that calls.
struct Caller {
    other_calls: Window,
    all_calls: Window,
    /// Positions in `keys` of the accounts it called with a known key.
    accounts: BTreeSet<usize>,
    locked_until: Option<Instant>,
    counts: Counts,
}

/// A fault that was injected.
struct InForce {
    fault: Fault,
    until: Option<Instant>,
    hits: u64,
    /// The answers that an [`Effect::Cached`] repeats.
    cached: BTreeMap<Endpoint, Reply>,
}

/// A fault that applies to a call.
struct Hit {
    /// Position in `faults`.
    position: usize,
    effect: Effect,
}

/// Why a call is refused, and what it is told.
struct Refusal {
    cause: Cause,
    told: Told,
    /// The end of a lock.
    retry_at: Option<Instant>,
}

/// What a refused call is told, in its dialect.
enum Told {
    V1 { code: i64, text: String },
    V4(&'static str),
    Futures { code: &'static str, msg: String },
}

impl Exchange {
    pub(super) fn new(rules: Rules, accounts: Vec<Account>, now: Instant) -> Self {
        let keys = accounts.into_iter().map(|account| Key {
            account,
            last_nonce: 0,
            asset_calls: Window::new(rules.asset_calls_per_second, Duration::from_secs(1)),
            balances_calls: Window::new(rules.v4_calls_per_second, Duration::from_secs(1)),
            balance_calls: Window::new(rules.v4_calls_per_second, Duration::from_secs(1)),
            locked_until: None,
            counts: Counts::default(),
        });
        Self {
            started: now,
            start_ms: rules.clock_start_ms.unwrap_or_else(machine_time_ms),
            keys: keys.collect(),
            prices: PRICES.map(|(market, price)| (market.to_owned(), price.to_owned())).into(),
            callers: HashMap::new(),
            faults: Vec::new(),
            arrivals: VecDeque::new(),
            strays: 0,
            rules,
        }
    }

    /// Answers one call that arrived at `now`.
    pub(super) fn call(&mut self, call: &Call, now: Instant) -> Reply {
        let query = Query::parse(call.query);
        let headers = Headers::of(call.headers);
        let key = self.key_of(call.endpoint, query.as_ref().ok(), &headers);
        let admitted = self.admit(call, key, now);
        let hit = self.hit(call, key, now, Target::Reply);
        let (reply, outcome) = if let Some(reply) = hit.as_ref().and_then(|hit| self.in_place(hit, call)) {
            (reply, Outcome::Faulted)
        } else {
            let answer = admitted.and_then(|()| self.answer(call, &query, &headers, key, now));
            let (reply, outcome) = match answer {
                Ok(body) => (Reply::json(body), Outcome::Accepted),
                Err(refusal) => (self.refuse(&refusal, now), Outcome::Refused(refusal.cause)),
            };
            let reply = match &hit {
                Some(hit) => {
                    self.remember(hit, call.endpoint, &reply, now);
                    reply.changed_by(&hit.effect)
                }
                None => reply,
            };
            (reply, outcome)
        };
        self.record(call, key, outcome, now);
        reply
    }

    /// The reply that a fault sends in place of the exchange's answer, if it does.
    fn in_place(&self, hit: &Hit, call: &Call) -> Option<Reply> {
        let cached = self.faults.get(hit.position).and_then(|fault| fault.cached.get(&call.endpoint));
        cached.cloned().or_else(|| Reply::in_place(&hit.effect, call.endpoint.dialect()))
    }

    /// Stores an answer that an [`Effect::Cached`] repeats from now on.
    fn remember(&mut self, hit: &Hit, endpoint: Endpoint, reply: &Reply, now: Instant) {
        let Effect::Cached { age, date_behind } = hit.effect else {
            return;
        };
        let age = age.map(|seconds| seconds.to_string());
        let date = date_behind.map_or_else(|| Date::At(self.server_time_ms(now)), Date::Behind);
        if let Some(fault) = self.faults.get_mut(hit.position) {
            fault.cached.insert(endpoint, reply.clone().with(AGE, age.as_deref()).dated(date));
        }
    }

    pub(super) fn server_time_ms(&self, now: Instant) -> i64 {
        let elapsed = now.saturating_duration_since(self.started).as_millis();
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        self.start_ms.saturating_add(elapsed).saturating_add(self.rules.clock_offset_ms)
    }

    pub(super) fn set_clock_offset_ms(&mut self, offset_ms: i64) {
        self.rules.clock_offset_ms = offset_ms;
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.keys.iter().map(|key| &key.account)
    }

    pub(super) fn rows(
        &mut self,
        account: &str,
        wallet: Wallet,
    ) -> Result<&mut BTreeMap<String, Balance>, UnknownAccount> {
        let mut keys = self.keys.iter_mut();
        let key = keys.find(|key| key.account.name == account);
        let key = key.ok_or_else(|| UnknownAccount(account.to_owned()))?;
        Ok(key.account.wallets.entry(wallet).or_default())
    }

    pub(super) fn inject(&mut self, fault: Fault, now: Instant) {
        self.faults.retain(|fault| fault.is_left(now));
        self.faults.push(InForce {
            until: fault.lasts.and_then(|time| now.checked_add(time)),
            fault,
            hits: 0,
            cached: BTreeMap::new(),
        });
    }

    pub(super) fn clear_faults(&mut self, now: Instant) -> usize {
        self.faults.retain(|fault| fault.is_left(now));
        let ended = self.faults.len();
        self.faults.clear();
        ended
    }

    /// Counts a request for something the exchange does not have.
    pub(super) fn stray(&mut self) {
        self.strays += 1;
    }

    pub(super) fn calls(&self, now: Instant) -> Calls {
        let with_lock =
            |counts: &Counts, until| Counts { locked_for_seconds: left(until, now), ..counts.clone() };
        Calls {
            accounts: self
                .keys
                .iter()
                .map(|key| (key.account.name.clone(), with_lock(&key.counts, key.locked_until)))
                .collect(),
            ips: self
                .callers
                .iter()
                .map(|(ip, caller)| (*ip, with_lock(&caller.counts, caller.locked_until)))
                .collect(),
            strays: self.strays,
            arrivals: self.arrivals.iter().cloned().collect(),
        }
    }

    /// Everything a person may want to read, as JSON.
    pub(super) fn state(&self, now: Instant) -> Value {
        let calls = self.calls(now);
        let accounts: BTreeMap<_, _> = self
            .keys
            .iter()
            .map(|key| {
                let Account { name, wallets, .. } = &key.account;
                (name, json!({"calls": calls.accounts.get(name), "balances": wallets}))
            })
            .collect();
        let faults = self.faults.iter().filter(|fault| fault.is_left(now));
        let faults: Vec<_> = faults
            .map(|fault| json!({"fault": fault.fault, "hits": fault.hits, "ends_in_seconds": left(fault.until, now)}))
            .collect();
        json!({
            "server_time_ms": self.server_time_ms(now),
            "accounts": accounts,
            "prices": self.prices,
            "ips": calls.ips,
            "strays": calls.strays,
            "faults": faults,
        })
    }

    /// The position of the account whose access key a signed call carries.
    fn key_of(&self, endpoint: Endpoint, query: Option<&Query>, headers: &Headers) -> Option<usize> {
        let (sent, api) = match endpoint.dialect() {
            _ if !endpoint.is_asset() => return None,
            Dialect::V1 => (query?.get("accesskey")?, Api::V1),
            Dialect::V4 | Dialect::Futures => (headers.appkey.as_deref()?, Api::V4),
        };
        let knows = |account: &Account| account.api.is_none_or(|known| known == api);
        self.keys.iter().position(|key| key.account.access_key == sent && knows(&key.account))
    }

    /// Notes the call in the windows of its key and its IP, locks what passed a limit, and refuses what is locked.
    fn admit(&mut self, call: &Call, key: Option<usize>, now: Instant) -> Result<(), Refusal> {
        let rules = &self.rules;
        let until = now.checked_add(rules.lock);
        if self.callers.len() >= ADDRESSES_KEPT {
            self.callers.retain(|_, caller| {
                !caller.all_calls.is_idle(now) || left(caller.locked_until, now).is_some()
            });
        }
        let caller = self.callers.entry(call.ip).or_insert_with(|| Caller {
            other_calls: Window::new(rules.other_calls_per_second, Duration::from_secs(1)),
            all_calls: Window::new(rules.ip_calls_per_minute, Duration::from_mins(1)),
            accounts: BTreeSet::new(),
            locked_until: None,
            counts: Counts::default(),
        });
        caller.accounts.extend(key);
        // Every window takes note of the call, also of one that is refused.
        let within_minute = caller.all_calls.note(now);
        let within_second = call.endpoint.is_asset() || caller.other_calls.note(now);
        let mut own = key.and_then(|key| self.keys.get_mut(key));
        let (within_asset, of_key) = own.as_mut().map_or((true, 0), |key| {
            let (window, limit) = match call.endpoint {
                Endpoint::V4Balances => (&mut key.balances_calls, rules.v4_calls_per_second),
                Endpoint::V4Balance => (&mut key.balance_calls, rules.v4_calls_per_second),
                _ => (&mut key.asset_calls, rules.asset_calls_per_second),
            };
            (window.note(now), limit)
        });

        let locks = [caller.locked_until, own.as_ref().and_then(|key| key.locked_until)];
        if let Some(end) = locks.into_iter().flatten().filter(|end| *end > now).max() {
            return Err(Refusal::locked(call, Cause::Locked, "too many calls before this one", end, now));
        }
        if !within_minute || !within_second {
            caller.locked_until = until;
            caller.counts.breaches += 1;
            caller.counts.locks += 1;
            for &key in &caller.accounts {
                if let Some(key) = self.keys.get_mut(key) {
                    key.locked_until = until.max(key.locked_until);
                    key.counts.locks += 1;
                }
            }
            let limit = if within_minute {
                format!("more than {} calls in a second", rules.other_calls_per_second)
            } else {
                format!("more than {} calls in a minute from one IP", rules.ip_calls_per_minute)
            };
            return Err(Refusal::locked(call, Cause::Limit, &limit, until.unwrap_or(now), now));
        }
        if let Some(key) = own.filter(|_| !within_asset) {
            key.locked_until = until;
            key.counts.breaches += 1;
            key.counts.locks += 1;
            let limit = format!("more than {of_key} asset calls in a second");
            return Err(Refusal::locked(call, Cause::Limit, &limit, until.unwrap_or(now), now));
        }
        Ok(())
    }

    /// The body of the answer to an admitted call.
    fn answer(
        &mut self,
        call: &Call,
        query: &Result<Query, String>,
        headers: &Headers,
        key: Option<usize>,
        now: Instant,
    ) -> Result<String, Refusal> {
        let dialect = call.endpoint.dialect();
        if dialect != Dialect::V1 {
            return self.answer_v4(call, query, headers, key, now);
        }
        let query = query.as_ref().map_err(|sentence| Refusal::parameters(sentence))?;
        let data = match call.endpoint {
            Endpoint::GetTickers => return Ok(tickers(&self.prices)),
            Endpoint::GetServerTime => json!({"serverTime": self.reported_time_ms(call, now)}),
            Endpoint::GetAccounts => json!([
                {"name": " wallet account ", "id": 1},
                {"name": " Trading account ", "id": 2},
                {"name": " Fiat account ", "id": 3},
            ]),
            Endpoint::GetBalance | Endpoint::GetFunds => {
                let key = self.authorize(call, query, key, now)?;
                let wallet = wallet(call.endpoint, query)?;
                let edits = self.edits(call, key, now);
                let shown: BTreeMap<_, _> = self.rows_of(key, wallet, &edits).into_iter().collect();
                return Ok(success(&shown));
            }
            _ => return Err(Refusal::parameters("there is no such method")),
        };
        Ok(success(&data))
    }

    /// The time that a time endpoint answers.
    fn reported_time_ms(&mut self, call: &Call, now: Instant) -> i64 {
        let time = self.server_time_ms(now);
        match self.hit(call, None, now, Target::Time) {
            Some(Hit { effect: Effect::WrongTime { ahead_ms }, .. }) => time.saturating_add(ahead_ms),
            _ => time,
        }
    }

    /// The same of v4: a signed call is judged by its headers before its parameters.
    fn answer_v4(
        &mut self,
        call: &Call,
        query: &Result<Query, String>,
        headers: &Headers,
        key: Option<usize>,
        now: Instant,
    ) -> Result<String, Refusal> {
        let endpoint = call.endpoint;
        let wrong = |sentence: &str| Refusal::wrong_parameter(endpoint.dialect(), sentence);
        let position = if endpoint.is_asset() {
            Some(self.authorize_v4(call, query.as_ref().ok(), headers, key, now)?)
        } else {
            None
        };
        let query = query.as_ref().map_err(|sentence| wrong(sentence))?;
        if let Some(name) = query.repeated().or_else(|| query.strange(endpoint.parameters())) {
            return Err(wrong(&format!("parameter {name} is unknown or given more than once")));
        }
        let time = self.server_time_ms(now);
        Ok(match endpoint {
            Endpoint::V4Time => v4::success(&json!({"serverTime": self.reported_time_ms(call, now)})),
            Endpoint::V4Client => v4::success(&json!({"ip": call.ip})),
            Endpoint::V4Symbols => v4::success(&v4::symbols(time, &self.prices)),
            Endpoint::V4Currencies => v4::success(&v4::currencies(time, &self.prices)),
            Endpoint::V4Chains => v4::success(&v4::chains()),
            Endpoint::V4Prices | Endpoint::V4Days => {
                let asked = query.get("symbol").or_else(|| query.get("symbols"));
                let shape = if endpoint == Endpoint::V4Prices { v4::price } else { v4::day };
                let tickers = v4::tickers(time, &self.prices, asked, shape);
                let unknown = || Refusal { told: Told::V4("SYMBOL_001"), ..wrong("") };
                v4::success(&tickers.ok_or_else(unknown)?)
            }
            Endpoint::FuturesUsdtSymbols => v4::futures_success(&v4::futures_symbols("U_BASED")),
            Endpoint::FuturesCoinSymbols => v4::futures_success(&v4::futures_symbols("COIN_BASED")),
            _ => {
                let position = position.ok_or_else(|| wrong("there is no such method"))?;
                return self.assets_v4(call, position, query, now);
            }
        })
    }

    /// The rows of a wallet in v4's shapes, as the faults leave them.
    fn assets_v4(
        &mut self,
        call: &Call,
        position: usize,
        query: &Query,
        now: Instant,
    ) -> Result<String, Refusal> {
        let (wallet, name) = match call.endpoint {
            Endpoint::FuturesUsdtBalances | Endpoint::FuturesUsdtBalance => (Wallet::FuturesUsdt, "coin"),
            Endpoint::FuturesCoinBalances | Endpoint::FuturesCoinBalance => (Wallet::FuturesCoin, "coin"),
            _ => (Wallet::Spot, "currency"),
        };
        let wrong = |sentence: &str| Refusal::wrong_parameter(call.endpoint.dialect(), sentence);
        let edits = self.edits(call, position, now);
        let numbers = self.rules.v4_numbers;
        let shown = |(place, (currency, row)): (usize, (&str, Row))| {
            let text = match row {
                Row::True(row) if name == "coin" => v4::coin(currency, row, numbers),
                Row::True(row) => v4::asset(place, currency, row, numbers),
                Row::False(value) => v4::odd(name, currency, value),
            };
            (currency.to_owned(), text)
        };
        let rows: Vec<_> =
            self.rows_of(position, wallet, &edits).into_iter().enumerate().map(shown).collect();
        let all = |wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
            rows.iter().filter(|(currency, _)| wanted(currency)).map(|(_, row)| row.clone()).collect()
        };
        let one =
            |asked: &str| rows.iter().find(|(currency, _)| currency == asked).map(|(_, row)| row.clone());
        match call.endpoint {
            Endpoint::V4Balances => Ok(v4::assets(&match query.get("currencies") {
                Some(list) => all(&|currency| list.split(',').any(|listed| listed == currency)),
                None => all(&|_| true),
            })),
            Endpoint::V4Balance => {
                let asked = query.get("currency").ok_or_else(|| wrong("parameter currency is missing"))?;
                let unknown = || Refusal { told: Told::V4("CURRENCY_001"), ..wrong("") };
                Ok(v4::one_asset(one(asked).ok_or_else(unknown)?))
            }
            Endpoint::FuturesUsdtBalance | Endpoint::FuturesCoinBalance => {
                let asked = query.get("coin").ok_or_else(|| wrong("parameter coin is missing"))?;
                let unknown =
                    || Refusal::futures(Cause::Parameters, "invalid_coin", "invalid coin".to_owned());
                Ok(v4::one_coin(one(asked).ok_or_else(unknown)?))
            }
            _ => Ok(v4::coins(&all(&|_| true))),
        }
    }

    /// Checks the headers of a signed call of v4, in the order in which its documents number the errors; the position of
    /// its account.
    fn authorize_v4(
        &mut self,
        call: &Call,
        query: Option<&Query>,
        headers: &Headers,
        key: Option<usize>,
        now: Instant,
    ) -> Result<usize, Refusal> {
        let is_spot = call.endpoint.dialect() == Dialect::V4;
        // What spot has a code for, futures say in words.
        let refused = |cause: Cause, mc: &'static str, code: &'static str, msg: &str| {
            if is_spot { Refusal::v4(cause, mc) } else { Refusal::futures(cause, code, msg.to_owned()) }
        };
        let missing = |name: &str, mc| {
            refused(Cause::Headers, mc, "400", &format!("the header validate-{name} is missing"))
        };
        let present = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
        if !present(&headers.appkey) {
            return Err(missing("appkey", "AUTH_001"));
        }
        if !present(&headers.timestamp) {
            return Err(missing("timestamp", "AUTH_002"));
        }
        if is_spot && !present(&headers.algorithms) {
            return Err(Refusal::v4(Cause::Headers, "AUTH_005"));
        }
        if is_spot && !present(&headers.recvwindow) {
            return Err(Refusal::v4(Cause::Headers, "AUTH_003"));
        }
        if !present(&headers.signature) {
            return Err(missing("signature", "AUTH_007"));
        }
        if is_spot && headers.algorithms.as_deref() != Some("HmacSHA256") {
            return Err(Refusal::v4(Cause::Headers, "AUTH_006"));
        }
        let window = headers.recvwindow.as_deref().filter(|_| is_spot);
        let window = match window.map(|window| window.parse::<i64>().ok()) {
            None => i64::try_from(self.rules.futures_window.as_millis()).unwrap_or(i64::MAX),
            Some(Some(window)) if (2_000..=60_000).contains(&window) => window,
            Some(_) => return Err(Refusal::v4(Cause::Headers, "AUTH_004")),
        };
        let unknown = || refused(Cause::AccessKey, "AUTH_101", "400", "the appkey does not exist");
        let position = key.ok_or_else(unknown)?;
        if self.hit(call, key, now, Target::Key).is_some() {
            return Err(unknown());
        }
        let server_time = self.server_time_ms(now);
        let ahead = if is_spot { self.rules.v4_ahead } else { self.rules.futures_ahead };
        let account = &self.keys.get(position).ok_or_else(unknown)?.account;
        if account.key == KeyState::Inactive {
            return Err(refused(Cause::Inactive, "AUTH_102", "403", "the appkey is not activated"));
        }
        if account.ips.as_ref().is_some_and(|ips| !ips.contains(&call.ip)) {
            let msg = format!("ip {} is not on the whitelist", call.ip);
            return Err(refused(Cause::Ip, "AUTH_104", "403", &msg));
        }
        let sent = headers.timestamp.as_deref().unwrap_or_default();
        let time = sent.parse::<i64>().ok().filter(|_| sent.len() == 13);
        let ahead = i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX);
        let in_time = |time: i64| server_time - time < window && time - server_time <= ahead;
        if !time.is_some_and(in_time) {
            let msg = format!(
                "The request time {sent} exceeds the specified time {server_time} limit by {} second",
                window / 1_000
            );
            return Err(match self.rules.nonce_refusal.unnamed() {
                Some((_, text)) => refused(Cause::Nonce, "AUTH_103", "403", text),
                None => refused(Cause::Nonce, "AUTH_105", "403", &msg),
            });
        }
        let query = query.map(Query::string_to_sign).unwrap_or_default();
        let signed = format!("{}{}{query}", call.endpoint.signs(), if query.is_empty() { "" } else { "#" });
        let is_signed = if is_spot {
            headers.sign_spot(&signed, &account.secret_key)
        } else {
            headers.sign_futures(&signed, &account.secret_key)
        };
        if !is_signed {
            return Err(refused(Cause::Signature, "AUTH_103", "403", "invalid signature"));
        }
        let may_read = match account.key {
            KeyState::NotAllowedToRead => false,
            KeyState::NotForFutures => is_spot,
            KeyState::Active | KeyState::Inactive => true,
        };
        if !may_read {
            return Err(refused(
                Cause::Permission,
                "AUTH_106",
                "403",
                "the appkey has no permission for this",
            ));
        }
        Ok(position)
    }

    /// Checks the parameters of a signed call; the position of its account.
    fn authorize(
        &mut self,
        call: &Call,
        query: &Query,
        key: Option<usize>,
        now: Instant,
    ) -> Result<usize, Refusal> {
        if let Some(name) = query.repeated() {
            return Err(Refusal::parameters(&format!("parameter {name} is given more than once")));
        }
        if query.get("accesskey").is_none() {
            return Err(Refusal::parameters("parameter accesskey is missing"));
        }
        let unknown = || Refusal::new(Cause::AccessKey, 307, "AccessKey error");
        let position = key.ok_or_else(unknown)?;
        if self.hit(call, key, now, Target::Key).is_some() {
            return Err(unknown());
        }
        let server_time = self.server_time_ms(now);
        let nonce_refusal = self.rules.nonce_refusal;
        let key = self.keys.get_mut(position).ok_or_else(unknown)?;
        if key.account.key == KeyState::Inactive {
            return Err(Refusal::new(Cause::Inactive, 307, "AccessKey error: the key is not activated"));
        }
        if key.account.ips.as_ref().is_some_and(|ips| !ips.contains(&call.ip)) {
            let text = format!("AccessKey error: IP {} is not on the IP whitelist of the key", call.ip);
            return Err(Refusal::new(Cause::Ip, 307, &text));
        }
        let nonce = nonce(query, server_time, self.rules.nonce_window)
            .map_err(|refusal| refusal.with_nonce_wording(nonce_refusal))?;
        if !query.signed_with(&key.account.secret_key) {
            return Err(Refusal::new(Cause::Signature, 308, "Sign error"));
        }
        if self.rules.strict_nonce && nonce <= key.last_nonce {
            let text = format!("nonce {nonce} is not above the last accepted nonce {}", key.last_nonce);
            return Err(Refusal::new(Cause::Replay, 400, &text).with_nonce_wording(nonce_refusal));
        }
        key.last_nonce = nonce;
        if key.account.key == KeyState::NotAllowedToRead {
            return Err(Refusal::new(
                Cause::Permission,
                307,
                "AccessKey error: the key has no read permission",
            ));
        }
        Ok(position)
    }

    /// What faults do to the rows that this call reads; each is used up by one.
    fn edits(&mut self, call: &Call, position: usize, now: Instant) -> Vec<Effect> {
        let mut edits = Vec::new();
        for fault in self.faults.iter_mut().filter(|fault| fault.fault.effect.target() == Target::Rows) {
            let name = self.keys.get(position).map(|key| key.account.name.as_str());
            if fault.concerns(call.endpoint, name, now) {
                fault.hits += 1;
                edits.push(fault.fault.effect.clone());
            }
        }
        edits
    }

    /// The rows of a wallet by currency, as the faults leave them.
    fn rows_of<'a>(
        &'a self,
        position: usize,
        wallet: Wallet,
        edits: &'a [Effect],
    ) -> Vec<(&'a str, Row<'a>)> {
        let key = self.keys.get(position);
        let rows = key.and_then(|key| key.account.wallets.get(&wallet));
        let mut shown: BTreeMap<&str, Row> =
            rows.into_iter().flatten().map(|(currency, row)| (currency.as_str(), Row::True(row))).collect();
        for edit in edits {
            match edit {
                Effect::DropCurrency(currency) => drop(shown.remove(currency.as_str())),
                Effect::EmptyData => shown.clear(),
                Effect::Zeros => shown.values_mut().for_each(|row| *row = Row::True(&ZERO)),
                Effect::Row { currency, value } => drop(shown.insert(currency, Row::False(value))),
                _ => {}
            }
        }
        shown.into_iter().collect()
    }

    /// The oldest fault with this target that applies to a call; it is used up by one.
    fn hit(&mut self, call: &Call, key: Option<usize>, now: Instant, target: Target) -> Option<Hit> {
        let name = key.and_then(|key| self.keys.get(key)).map(|key| key.account.name.as_str());
        let mut faults = self.faults.iter_mut().enumerate();
        let (position, fault) = faults.find(|(_, fault)| {
            fault.fault.effect.target() == target && fault.concerns(call.endpoint, name, now)
        })?;
        fault.hits += 1;
        Some(Hit { position, effect: fault.fault.effect.clone() })
    }

    fn refuse(&self, refusal: &Refusal, now: Instant) -> Reply {
        let reply = Reply::json(match &refusal.told {
            Told::V1 { code, text } => self.rules.error_shape.body(*code, text).to_string(),
            Told::V4(mc) => v4::error(mc),
            Told::Futures { code, msg } => v4::futures_error(code, msg),
        });
        let retry_after =
            (self.rules.limit_reply == LimitReply::Status429).then(|| left(refusal.retry_at, now));
        match (refusal.retry_at, &refusal.told) {
            (None, _) => reply,
            (Some(_), Told::V1 { .. }) if retry_after.is_none() => reply,
            (Some(_), _) => reply.too_many(retry_after.flatten()),
        }
    }

    fn record(&mut self, call: &Call, key: Option<usize>, outcome: Outcome, now: Instant) {
        if let Some(caller) = self.callers.get_mut(&call.ip) {
            caller.counts.count(outcome);
        }
        let key = key.and_then(|key| self.keys.get_mut(key));
        let account = key.map(|key| {
            key.counts.count(outcome);
            key.account.name.clone()
        });
        if self.arrivals.len() >= ARRIVALS_KEPT {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back(Arrival {
            at: now.saturating_duration_since(self.started),
            ip: call.ip,
            account,
            endpoint: call.endpoint,
            outcome,
        });
    }
}

impl InForce {
    fn is_left(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until) && self.fault.calls.is_none_or(|calls| self.hits < calls)
    }

    fn concerns(&self, endpoint: Endpoint, account: Option<&str>, now: Instant) -> bool {
        let Fault { account: whose, endpoint: what, .. } = &self.fault;
        self.is_left(now)
            && what.is_none_or(|what| what == endpoint)
            && (whose.is_none() || whose.as_deref() == account)
    }
}

impl Refusal {
    fn new(cause: Cause, code: i64, text: &str) -> Self {
        Self { cause, told: Told::V1 { code, text: text.to_owned() }, retry_at: None }
    }

    fn v4(cause: Cause, mc: &'static str) -> Self {
        Self { cause, told: Told::V4(mc), retry_at: None }
    }

    fn futures(cause: Cause, code: &'static str, msg: String) -> Self {
        Self { cause, told: Told::Futures { code, msg }, retry_at: None }
    }

    fn parameters(sentence: &str) -> Self {
        Self::new(Cause::Parameters, 400, sentence)
    }

    /// The same refusal of a v1 nonce, worded as the rules have it.
    fn with_nonce_wording(self, wording: NonceRefusal) -> Self {
        match (self.cause, wording.unnamed()) {
            (cause @ (Cause::Nonce | Cause::Replay), Some((code, text))) => Self::new(cause, code, text),
            _ => self,
        }
    }

    /// The same in any dialect; spot of v4 has no words for it.
    fn wrong_parameter(dialect: Dialect, sentence: &str) -> Self {
        match dialect {
            Dialect::V1 => Self::parameters(sentence),
            Dialect::V4 => Self::v4(Cause::Parameters, "FUND_017"),
            Dialect::Futures => Self::futures(Cause::Parameters, "400", sentence.to_owned()),
        }
    }

    fn locked(call: &Call, cause: Cause, why: &str, end: Instant, now: Instant) -> Self {
        let seconds = left(Some(end), now).unwrap_or_default();
        let text = format!("account locked: {why}, try again in {seconds} seconds");
        let told = match call.endpoint.dialect() {
            Dialect::V1 => Told::V1 { code: 404, text },
            Dialect::V4 => Told::V4("GATEWAY_0001"),
            Dialect::Futures => Told::Futures { code: "429", msg: text },
        };
        Self { cause, told, retry_at: Some(end) }
    }
}

/// A row as it is, or as a fault wants it.
#[derive(Serialize)]
#[serde(untagged)]
enum Row<'a> {
    True(&'a Balance),
    False(&'a Value),
}

/// The row that [`Effect::Zeros`] puts in place of every other.
static ZERO: LazyLock<Balance> = LazyLock::new(|| Balance::new("0", "0"));

/// The nonce of a call, if it is one and inside the window.
fn nonce(query: &Query, server_time: i64, window: Duration) -> Result<i64, Refusal> {
    let refused = |text: String| Refusal::new(Cause::Nonce, 400, &text);
    let sent = query.get("nonce").ok_or_else(|| Refusal::parameters("parameter nonce is missing"))?;
    let digits = sent.len() == 13 && sent.bytes().all(|byte| byte.is_ascii_digit());
    let nonce = sent.parse::<i64>().ok().filter(|_| digits);
    let nonce = nonce.ok_or_else(|| {
        refused(format!("nonce {sent} is not a Unix time of 13 digits: server time is {server_time}"))
    })?;
    let window = window.as_millis();
    if u128::from(nonce.abs_diff(server_time)) > window {
        let text = format!(
            "nonce {nonce} is outside the window: server time is {server_time}, {window} ms either way"
        );
        return Err(refused(text));
    }
    Ok(nonce)
}

/// The wallet a signed call asks for.
fn wallet(endpoint: Endpoint, query: &Query) -> Result<Wallet, Refusal> {
    if endpoint == Endpoint::GetBalance {
        return Ok(Wallet::Spot);
    }
    match query.get("account") {
        Some("1") => Ok(Wallet::Wallet),
        Some("2") => Ok(Wallet::Spot),
        Some("3") => Ok(Wallet::Fiat),
        Some(other) => {
            Err(Refusal::parameters(&format!("parameter account is {other}: it must be 1, 2 or 3")))
        }
        None => Err(Refusal::parameters("parameter account is missing: it must be 1, 2 or 3")),
    }
}

/// The envelope of a good answer, its members in the documented order.
fn success(data: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        code: u16,
        data: &'a T,
        info: &'a str,
    }
    let envelope = Envelope { code: 200, data, info: "success" };
    serde_json::to_string(&envelope).unwrap_or_default()
}

/// Whole seconds until a time, rounded up; none once it is reached.
fn left(until: Option<Instant>, now: Instant) -> Option<u64> {
    let left = until?.checked_duration_since(now).filter(|left| !left.is_zero())?;
    Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))
}

fn machine_time_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What was last paid on a few markets, until something else is set.
const PRICES: [(&str, &str); 4] =
    [("btc_usdt", "64210.00"), ("eth_usdt", "3180.00"), ("ltc_usdt", "72.35"), ("xt_usdt", "2.71")];

/// The answer of getTickers, in the form of the documentation's sample: numbers, and no envelope.
fn tickers(prices: &BTreeMap<String, String>) -> String {
    let ticker = |(market, price): (&String, &String)| {
        let (market, price) = (json!(market), v4::amount(price, true));
        format!(
            r#"{market}:{{"high":{price},"moneyVol":33765013.61761934,"rate":1.3900,"low":{price},"price":{price},"ask":{price},"bid":{price},"coinVol":2944.208780}}"#
        )
    };
    format!("{{{}}}", prices.iter().map(ticker).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: i64 = 1_562_919_832_183;
    const SIGNED: &str = "accesskey=myAccessKey&nonce=1562919832183\
        &signature=84b2653615cbb0bbc19af3f4fdb609f3a60530651b75e2aa788029c5dfe7e452";
    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const AWAY: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    /// An exchange, and calls at milliseconds since its start.
    struct Trial {
        exchange: Exchange,
        start: Instant,
    }

    impl Trial {
        fn new(mut rules: Rules) -> Self {
            rules.clock_start_ms = Some(NONCE);
            let account = |name: &str| Account::new(name, &format!("{name}AccessKey"), "mySecretKey");
            let start = Instant::now();
            Self { exchange: Exchange::new(rules, vec![account("my"), account("other")], start), start }
        }

        /// Rules under which one signature is good for all calls.
        fn of_limits() -> Self {
            Self::new(Rules {
                strict_nonce: false,
                nonce_window: Duration::from_hours(1),
                ..Rules::default()
            })
        }

        fn call(&mut self, endpoint: Endpoint, query: &str, ip: IpAddr, ms: u64) -> Outcome {
            let call = Call { endpoint, query, headers: &HeaderMap::new(), ip };
            let now = self.start + Duration::from_millis(ms);
            self.exchange.call(&call, now);
            self.exchange.arrivals.back().map_or(Outcome::Faulted, |arrival| arrival.outcome)
        }

        fn signed(&mut self, ms: u64) -> Outcome {
            self.call(Endpoint::GetBalance, SIGNED, HOME, ms)
        }

        fn server_time(&mut self, ms: u64) -> Outcome {
            self.call(Endpoint::GetServerTime, "", HOME, ms)
        }
    }

    use Outcome::{Accepted, Refused};

    #[test]
    fn the_nonce_window_is_exact_on_both_sides() {
        for (offset, outcome) in [
            (60_000, Accepted),
            (60_001, Refused(Cause::Nonce)),
            (-60_000, Accepted),
            (-60_001, Refused(Cause::Nonce)),
        ] {
            let mut trial = Trial::new(Rules { clock_offset_ms: offset, ..Rules::default() });
            assert_eq!(trial.signed(0), outcome, "{offset}");
        }
        assert_eq!(Trial::new(Rules::default()).signed(60_001), Refused(Cause::Nonce));
    }

    /// Both are signed with the key pair of the other vectors, at `NONCE` and with a window of 5000.
    #[test]
    fn the_windows_of_v4_are_exact_on_both_sides() {
        let spot = "72897bacbf45f2f3405208aefd60bae9be02b7344cea5df6f013d04aacb6a68f";
        let futures = "4687131059b9d182bef2338a05dddc0ae135faf999ef541e2362ee8e774fca2e";
        for (endpoint, signature, offset, outcome) in [
            (Endpoint::V4Balances, spot, 4_999, Accepted),
            (Endpoint::V4Balances, spot, 5_000, Refused(Cause::Nonce)),
            (Endpoint::V4Balances, spot, -1_000, Accepted),
            (Endpoint::V4Balances, spot, -1_001, Refused(Cause::Nonce)),
            (Endpoint::FuturesUsdtBalances, futures, 4_999, Accepted),
            (Endpoint::FuturesUsdtBalances, futures, 5_000, Refused(Cause::Nonce)),
            (Endpoint::FuturesUsdtBalances, futures, -50, Accepted),
            (Endpoint::FuturesUsdtBalances, futures, -51, Refused(Cause::Nonce)),
        ] {
            let mut trial = Trial::new(Rules { clock_offset_ms: offset, ..Rules::default() });
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("validate-algorithms", "HmacSHA256"),
                ("validate-appkey", "myAccessKey"),
                ("validate-recvwindow", "5000"),
                ("validate-timestamp", "1562919832183"),
                ("validate-signature", signature),
            ] {
                headers.insert(name, hyper::header::HeaderValue::from_static(value));
            }
            trial.exchange.call(&Call { endpoint, query: "", headers: &headers, ip: HOME }, trial.start);
            let found = trial.exchange.arrivals.back().map(|arrival| arrival.outcome);
            assert_eq!(found, Some(outcome), "{endpoint:?} {offset}");
        }
    }

    #[test]
    fn the_fourth_asset_call_in_a_second_locks_for_ten_minutes() {
        let mut trial = Trial::of_limits();
        assert_eq!([0, 0, 999].map(|ms| trial.signed(ms)), [Accepted; 3]);
        assert_eq!(trial.signed(999), Refused(Cause::Limit));
        assert_eq!(trial.signed(600_998), Refused(Cause::Locked));
        assert_eq!(trial.signed(600_999), Accepted);
        // The other account was never concerned.
        let other = SIGNED.replacen("my", "other", 1);
        let outcome = trial.call(Endpoint::GetBalance, &other, HOME, 1_000);
        assert_eq!(outcome, Refused(Cause::Signature));
    }

    #[test]
    fn three_asset_calls_in_every_second_are_fine() {
        let mut trial = Trial::of_limits();
        let times = (0..30).map(|third| third * 1_000 / 3 + third % 3);
        assert!(times.map(|ms| trial.signed(ms)).all(|outcome| outcome == Accepted));
    }

    #[test]
    fn badly_signed_calls_use_up_the_limit_of_a_known_key() {
        let mut trial = Trial::of_limits();
        for query in
            ["accesskey=myAccessKey", "accesskey=myAccessKey&nonce=1", "accesskey=myAccessKey&a=1&a=1"]
        {
            assert!(matches!(trial.call(Endpoint::GetFunds, query, HOME, 0), Refused(_)));
        }
        assert_eq!(trial.signed(0), Refused(Cause::Limit));
    }

    #[test]
    fn calls_during_a_lock_do_not_extend_it_but_fill_the_window() {
        let mut trial = Trial::of_limits();
        let _ = [0; 4].map(|ms| trial.signed(ms));
        assert_eq!([599_500; 3].map(|ms| trial.signed(ms)), [Refused(Cause::Locked); 3]);
        assert_eq!(trial.signed(600_000), Refused(Cause::Limit));
        assert_eq!(trial.signed(1_200_000), Accepted);
        assert_eq!(trial.exchange.calls(trial.start).breaches(), 2);
    }

    #[test]
    fn the_eleventh_other_call_in_a_second_locks_every_account_of_the_caller() {
        let mut trial = Trial::of_limits();
        assert_eq!(trial.signed(0), Accepted);
        assert_eq!([0; 10].map(|ms| trial.server_time(ms)), [Accepted; 10]);
        assert_eq!(trial.server_time(999), Refused(Cause::Limit));
        assert_eq!(trial.server_time(2_000), Refused(Cause::Locked));
        let elsewhere = trial.call(Endpoint::GetBalance, SIGNED, AWAY, 2_000);
        assert_eq!(elsewhere, Refused(Cause::Locked));
        let unlocked = trial.call(Endpoint::GetServerTime, "", AWAY, 2_000);
        assert_eq!(unlocked, Accepted);
        assert_eq!(trial.server_time(600_999), Accepted);
    }

    #[test]
    fn the_1001st_call_in_a_minute_locks_the_caller() {
        for (ms, outcome) in [(59_999, Refused(Cause::Limit)), (60_000, Accepted)] {
            let mut trial = Trial::new(Rules { other_calls_per_second: 1_000, ..Rules::default() });
            let mut spread = (0..1_000).map(|call| call * 59_999 / 1_000);
            assert!(spread.all(|ms| trial.server_time(ms) == Accepted));
            assert_eq!(trial.server_time(ms), outcome);
        }
    }

    #[test]
    fn a_nonce_must_rise_and_a_refused_call_uses_none_up() {
        let mut trial = Trial::new(Rules::default());
        let forged = SIGNED.replace("84b2", "84b3").replace("832183", "832999");
        let outcome = trial.call(Endpoint::GetBalance, &forged, HOME, 0);
        assert_eq!(outcome, Refused(Cause::Signature));
        assert_eq!(trial.signed(1), Accepted);
        assert_eq!(trial.signed(2), Refused(Cause::Replay));
        let next = "accesskey=myAccessKey&nonce=1562919832184\
            &signature=eb177c57e063177bfe12108e4e45b59941207362a953a5e65bd35735691517ee";
        assert_eq!(trial.call(Endpoint::GetBalance, next, HOME, 1_001), Accepted);
    }

    #[test]
    fn a_fault_does_not_hide_a_call_from_the_limits() {
        let mut trial = Trial::of_limits();
        trial.exchange.inject(Fault::new(Effect::Maintenance).calls(4), trial.start);
        assert_eq!([0; 4].map(|ms| trial.signed(ms)), [Outcome::Faulted; 4]);
        assert_eq!(trial.signed(1_000), Refused(Cause::Locked));
    }

    #[test]
    fn forgets_idle_callers_before_it_remembers_too_many() {
        let mut trial = Trial::of_limits();
        let mut from = |number: u32, ms| {
            let ip = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            trial.call(Endpoint::GetServerTime, "", ip, ms);
            trial.exchange.callers.len()
        };
        assert_eq!((1..=4_096).map(|number| from(number, 0)).last(), Some(4_096));
        assert_eq!(from(5_000, 60_000), 1);
    }
}
