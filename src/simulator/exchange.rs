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
    CallCounts, CallLog, CallOutcome, CallRecord, Effect, Fault, KeyState, LimitReply, NonceRefusal,
    RefusalCause, SimulatedAccount, SimulatedApi, SimulatedBalance, SimulatedEndpoint, SimulatedWallet,
    SimulatorConfig, UnknownAccount,
    auth_headers::AuthHeaders,
    fault::{FaultTarget, WireFormat},
    query::QueryParameters,
    reply::{ReplyDate, SimulatedReply},
    sliding_window::SlidingWindow,
    v4,
};

const MAX_RECORDS: usize = 65_536;
const MAX_CALLERS: usize = 4_096;

/// One call as it arrived.
pub(super) struct IncomingCall<'a> {
    pub(super) endpoint: SimulatedEndpoint,
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) ip: IpAddr,
}

/// The whole state of the exchange.
pub(super) struct ExchangeState {
    rules: SimulatorConfig,
    started: Instant,
    start_ms: i64,
    keys: Vec<AccountState>,
    /// What was last paid, by market.
    pub(super) prices: BTreeMap<String, String>,
    callers: HashMap<IpAddr, CallerState>,
    faults: Vec<ActiveFault>,
    records: VecDeque<CallRecord>,
    unknown_requests: u64,
}

/// An account, its key and what it has used up.
struct AccountState {
    account: SimulatedAccount,
    last_nonce: i64,
    asset_calls: SlidingWindow,
    balances_calls: SlidingWindow,
    balance_calls: SlidingWindow,
    locked_until: Option<Instant>,
    counts: CallCounts,
}

/// An address that calls.
struct CallerState {
    other_calls: SlidingWindow,
    all_calls: SlidingWindow,
    /// Positions in `keys` of the accounts it called with a known key.
    accounts: BTreeSet<usize>,
    locked_until: Option<Instant>,
    counts: CallCounts,
}

/// A fault that was injected.
struct ActiveFault {
    fault: Fault,
    until: Option<Instant>,
    hits: u64,
    /// The answers that an [`Effect::Cached`] repeats.
    cached: BTreeMap<SimulatedEndpoint, SimulatedReply>,
}

/// A fault that applies to a call.
struct MatchedFault {
    /// Position in `faults`.
    position: usize,
    effect: Effect,
}

/// Why a call is refused, and what it is told.
struct CallRefusal {
    cause: RefusalCause,
    told: RefusalBody,
    /// The end of a lock.
    retry_at: Option<Instant>,
}

/// What a refused call is told, in its dialect.
enum RefusalBody {
    V1 { code: i64, text: String },
    V4(&'static str),
    Futures { code: &'static str, msg: String },
}

impl ExchangeState {
    pub(super) fn new(rules: SimulatorConfig, accounts: Vec<SimulatedAccount>, now: Instant) -> Self {
        let keys = accounts.into_iter().map(|account| AccountState {
            account,
            last_nonce: 0,
            asset_calls: SlidingWindow::new(rules.asset_calls_per_second, Duration::from_secs(1)),
            balances_calls: SlidingWindow::new(rules.v4_calls_per_second, Duration::from_secs(1)),
            balance_calls: SlidingWindow::new(rules.v4_calls_per_second, Duration::from_secs(1)),
            locked_until: None,
            counts: CallCounts::default(),
        });
        Self {
            started: now,
            start_ms: rules.clock_start_ms.unwrap_or_else(machine_time_ms),
            keys: keys.collect(),
            prices: PRICES.map(|(market, price)| (market.to_owned(), price.to_owned())).into(),
            callers: HashMap::new(),
            faults: Vec::new(),
            records: VecDeque::new(),
            unknown_requests: 0,
            rules,
        }
    }

    /// Answers one call that arrived at `now`.
    pub(super) fn call(&mut self, call: &IncomingCall, now: Instant) -> SimulatedReply {
        let query = QueryParameters::parse(call.query);
        let headers = AuthHeaders::of(call.headers);
        let key = self.key_of(call.endpoint, query.as_ref().ok(), &headers);
        let admitted = self.admit(call, key, now);
        let hit = self.hit(call, key, now, FaultTarget::Reply);
        let (reply, outcome) = if let Some(reply) = hit.as_ref().and_then(|hit| self.in_place(hit, call)) {
            (reply, CallOutcome::Faulted)
        } else {
            let answer = admitted.and_then(|()| self.answer(call, &query, &headers, key, now));
            let (reply, outcome) = match answer {
                Ok(body) => (SimulatedReply::json(body), CallOutcome::Accepted),
                Err(refusal) => (self.refuse(&refusal, now), CallOutcome::Refused(refusal.cause)),
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
    fn in_place(&self, hit: &MatchedFault, call: &IncomingCall) -> Option<SimulatedReply> {
        let cached = self.faults.get(hit.position).and_then(|fault| fault.cached.get(&call.endpoint));
        cached.cloned().or_else(|| SimulatedReply::in_place(&hit.effect, call.endpoint.dialect()))
    }

    /// Stores an answer that an [`Effect::Cached`] repeats from now on.
    fn remember(
        &mut self,
        hit: &MatchedFault,
        endpoint: SimulatedEndpoint,
        reply: &SimulatedReply,
        now: Instant,
    ) {
        let Effect::Cached { age, date_behind } = hit.effect else {
            return;
        };
        let age = age.map(|seconds| seconds.to_string());
        let date = date_behind.map_or_else(|| ReplyDate::At(self.server_time_ms(now)), ReplyDate::Behind);
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

    pub(super) fn accounts(&self) -> impl Iterator<Item = &SimulatedAccount> {
        self.keys.iter().map(|key| &key.account)
    }

    pub(super) fn rows(
        &mut self,
        account: &str,
        wallet: SimulatedWallet,
    ) -> Result<&mut BTreeMap<String, SimulatedBalance>, UnknownAccount> {
        let mut keys = self.keys.iter_mut();
        let key = keys.find(|key| key.account.name == account);
        let key = key.ok_or_else(|| UnknownAccount(account.to_owned()))?;
        Ok(key.account.wallets.entry(wallet).or_default())
    }

    pub(super) fn inject_fault(&mut self, fault: Fault, now: Instant) {
        self.faults.retain(|fault| fault.is_left(now));
        self.faults.push(ActiveFault {
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
    pub(super) fn count_unknown_request(&mut self) {
        self.unknown_requests += 1;
    }

    pub(super) fn call_log(&self, now: Instant) -> CallLog {
        let with_lock = |counts: &CallCounts, until| CallCounts {
            locked_for_seconds: left(until, now),
            ..counts.clone()
        };
        CallLog {
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
            unknown_requests: self.unknown_requests,
            records: self.records.iter().cloned().collect(),
        }
    }

    /// Everything a person may want to read, as JSON.
    pub(super) fn state(&self, now: Instant) -> Value {
        let calls = self.call_log(now);
        let accounts: BTreeMap<_, _> = self
            .keys
            .iter()
            .map(|key| {
                let SimulatedAccount { name, wallets, .. } = &key.account;
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
            "strays": calls.unknown_requests,
            "faults": faults,
        })
    }

    /// The position of the account whose access key a signed call carries.
    fn key_of(
        &self,
        endpoint: SimulatedEndpoint,
        query: Option<&QueryParameters>,
        headers: &AuthHeaders,
    ) -> Option<usize> {
        let (sent, api) = match endpoint.dialect() {
            _ if !endpoint.is_asset() => return None,
            WireFormat::V1 => (query?.get("accesskey")?, SimulatedApi::V1),
            WireFormat::V4 | WireFormat::Futures => (headers.appkey.as_deref()?, SimulatedApi::V4),
        };
        let knows = |account: &SimulatedAccount| account.api.is_none_or(|known| known == api);
        self.keys.iter().position(|key| key.account.access_key == sent && knows(&key.account))
    }

    /// Notes the call in the windows of its key and its IP, locks what passed a limit, and refuses what is locked.
    fn admit(&mut self, call: &IncomingCall, key: Option<usize>, now: Instant) -> Result<(), CallRefusal> {
        let rules = &self.rules;
        let until = now.checked_add(rules.lock);
        if self.callers.len() >= MAX_CALLERS {
            self.callers.retain(|_, caller| {
                !caller.all_calls.is_idle(now) || left(caller.locked_until, now).is_some()
            });
        }
        let caller = self.callers.entry(call.ip).or_insert_with(|| CallerState {
            other_calls: SlidingWindow::new(rules.other_calls_per_second, Duration::from_secs(1)),
            all_calls: SlidingWindow::new(rules.ip_calls_per_minute, Duration::from_mins(1)),
            accounts: BTreeSet::new(),
            locked_until: None,
            counts: CallCounts::default(),
        });
        caller.accounts.extend(key);
        // Every window takes note of the call, also of one that is refused.
        let within_minute = caller.all_calls.record_call(now);
        let within_second = call.endpoint.is_asset() || caller.other_calls.record_call(now);
        let mut own = key.and_then(|key| self.keys.get_mut(key));
        let (within_asset, of_key) = own.as_mut().map_or((true, 0), |key| {
            let (window, limit) = match call.endpoint {
                SimulatedEndpoint::V4Balances => (&mut key.balances_calls, rules.v4_calls_per_second),
                SimulatedEndpoint::V4Balance => (&mut key.balance_calls, rules.v4_calls_per_second),
                _ => (&mut key.asset_calls, rules.asset_calls_per_second),
            };
            (window.record_call(now), limit)
        });

        let locks = [caller.locked_until, own.as_ref().and_then(|key| key.locked_until)];
        if let Some(end) = locks.into_iter().flatten().filter(|end| *end > now).max() {
            return Err(CallRefusal::locked(
                call,
                RefusalCause::Locked,
                "too many calls before this one",
                end,
                now,
            ));
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
            return Err(CallRefusal::locked(call, RefusalCause::Limit, &limit, until.unwrap_or(now), now));
        }
        if let Some(key) = own.filter(|_| !within_asset) {
            key.locked_until = until;
            key.counts.breaches += 1;
            key.counts.locks += 1;
            let limit = format!("more than {of_key} asset calls in a second");
            return Err(CallRefusal::locked(call, RefusalCause::Limit, &limit, until.unwrap_or(now), now));
        }
        Ok(())
    }

    /// The body of the answer to an admitted call.
    fn answer(
        &mut self,
        call: &IncomingCall,
        query: &Result<QueryParameters, String>,
        headers: &AuthHeaders,
        key: Option<usize>,
        now: Instant,
    ) -> Result<String, CallRefusal> {
        let dialect = call.endpoint.dialect();
        if dialect != WireFormat::V1 {
            return self.answer_v4(call, query, headers, key, now);
        }
        let query = query.as_ref().map_err(|sentence| CallRefusal::parameters(sentence))?;
        let data = match call.endpoint {
            SimulatedEndpoint::GetTickers => return Ok(tickers(&self.prices)),
            SimulatedEndpoint::GetServerTime => json!({"serverTime": self.reported_time_ms(call, now)}),
            SimulatedEndpoint::GetAccounts => json!([
                {"name": " wallet account ", "id": 1},
                {"name": " Trading account ", "id": 2},
                {"name": " Fiat account ", "id": 3},
            ]),
            SimulatedEndpoint::GetBalance | SimulatedEndpoint::GetFunds => {
                let key = self.authorize(call, query, key, now)?;
                let wallet = wallet(call.endpoint, query)?;
                let edits = self.edits(call, key, now);
                let shown: BTreeMap<_, _> = self.rows_of(key, wallet, &edits).into_iter().collect();
                return Ok(success(&shown));
            }
            _ => return Err(CallRefusal::parameters("there is no such method")),
        };
        Ok(success(&data))
    }

    /// The time that a time endpoint answers.
    fn reported_time_ms(&mut self, call: &IncomingCall, now: Instant) -> i64 {
        let time = self.server_time_ms(now);
        match self.hit(call, None, now, FaultTarget::Time) {
            Some(MatchedFault { effect: Effect::WrongTime { ahead_ms }, .. }) => {
                time.saturating_add(ahead_ms)
            }
            _ => time,
        }
    }

    /// The same of v4: a signed call is judged by its headers before its parameters.
    fn answer_v4(
        &mut self,
        call: &IncomingCall,
        query: &Result<QueryParameters, String>,
        headers: &AuthHeaders,
        key: Option<usize>,
        now: Instant,
    ) -> Result<String, CallRefusal> {
        let endpoint = call.endpoint;
        let wrong = |sentence: &str| CallRefusal::wrong_parameter(endpoint.dialect(), sentence);
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
            SimulatedEndpoint::V4Time => {
                v4::success(&json!({"serverTime": self.reported_time_ms(call, now)}))
            }
            SimulatedEndpoint::V4Client => v4::success(&json!({"ip": call.ip})),
            SimulatedEndpoint::V4Symbols => v4::success(&v4::symbols(time, &self.prices)),
            SimulatedEndpoint::V4Currencies => v4::success(&v4::currencies(time, &self.prices)),
            SimulatedEndpoint::V4Chains => v4::success(&v4::chains()),
            SimulatedEndpoint::V4Prices | SimulatedEndpoint::V4Days => {
                let asked = query.get("symbol").or_else(|| query.get("symbols"));
                let shape = if endpoint == SimulatedEndpoint::V4Prices { v4::price } else { v4::day };
                let tickers = v4::tickers(time, &self.prices, asked, shape);
                let unknown = || CallRefusal { told: RefusalBody::V4("SYMBOL_001"), ..wrong("") };
                v4::success(&tickers.ok_or_else(unknown)?)
            }
            SimulatedEndpoint::FuturesUsdtSymbols => v4::futures_success(&v4::futures_symbols("U_BASED")),
            SimulatedEndpoint::FuturesCoinSymbols => v4::futures_success(&v4::futures_symbols("COIN_BASED")),
            _ => {
                let position = position.ok_or_else(|| wrong("there is no such method"))?;
                return self.assets_v4(call, position, query, now);
            }
        })
    }

    /// The rows of a wallet in v4's shapes, as the faults leave them.
    fn assets_v4(
        &mut self,
        call: &IncomingCall,
        position: usize,
        query: &QueryParameters,
        now: Instant,
    ) -> Result<String, CallRefusal> {
        let (wallet, name) = match call.endpoint {
            SimulatedEndpoint::FuturesUsdtBalances | SimulatedEndpoint::FuturesUsdtBalance => {
                (SimulatedWallet::FuturesUsdt, "coin")
            }
            SimulatedEndpoint::FuturesCoinBalances | SimulatedEndpoint::FuturesCoinBalance => {
                (SimulatedWallet::FuturesCoin, "coin")
            }
            _ => (SimulatedWallet::Spot, "currency"),
        };
        let wrong = |sentence: &str| CallRefusal::wrong_parameter(call.endpoint.dialect(), sentence);
        let edits = self.edits(call, position, now);
        let numbers = self.rules.v4_numbers;
        let shown = |(place, (currency, row)): (usize, (&str, ServedRow))| {
            let text = match row {
                ServedRow::True(row) if name == "coin" => v4::coin(currency, row, numbers),
                ServedRow::True(row) => v4::asset(place, currency, row, numbers),
                ServedRow::False(value) => v4::odd(name, currency, value),
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
            SimulatedEndpoint::V4Balances => Ok(v4::assets(&match query.get("currencies") {
                Some(list) => all(&|currency| list.split(',').any(|listed| listed == currency)),
                None => all(&|_| true),
            })),
            SimulatedEndpoint::V4Balance => {
                let asked = query.get("currency").ok_or_else(|| wrong("parameter currency is missing"))?;
                let unknown = || CallRefusal { told: RefusalBody::V4("CURRENCY_001"), ..wrong("") };
                Ok(v4::one_asset(one(asked).ok_or_else(unknown)?))
            }
            SimulatedEndpoint::FuturesUsdtBalance | SimulatedEndpoint::FuturesCoinBalance => {
                let asked = query.get("coin").ok_or_else(|| wrong("parameter coin is missing"))?;
                let unknown = || {
                    CallRefusal::futures(RefusalCause::Parameters, "invalid_coin", "invalid coin".to_owned())
                };
                Ok(v4::one_coin(one(asked).ok_or_else(unknown)?))
            }
            _ => Ok(v4::coins(&all(&|_| true))),
        }
    }

    /// Checks the headers of a signed call of v4, in the order in which its documents number the errors; the position of
    /// its account.
    fn authorize_v4(
        &mut self,
        call: &IncomingCall,
        query: Option<&QueryParameters>,
        headers: &AuthHeaders,
        key: Option<usize>,
        now: Instant,
    ) -> Result<usize, CallRefusal> {
        let is_spot = call.endpoint.dialect() == WireFormat::V4;
        // What spot has a code for, futures say in words.
        let refused = |cause: RefusalCause, mc: &'static str, code: &'static str, msg: &str| {
            if is_spot {
                CallRefusal::v4(cause, mc)
            } else {
                CallRefusal::futures(cause, code, msg.to_owned())
            }
        };
        let missing = |name: &str, mc| {
            refused(RefusalCause::Headers, mc, "400", &format!("the header validate-{name} is missing"))
        };
        let present = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
        if !present(&headers.appkey) {
            return Err(missing("appkey", "AUTH_001"));
        }
        if !present(&headers.timestamp) {
            return Err(missing("timestamp", "AUTH_002"));
        }
        if is_spot && !present(&headers.algorithms) {
            return Err(CallRefusal::v4(RefusalCause::Headers, "AUTH_005"));
        }
        if is_spot && !present(&headers.recvwindow) {
            return Err(CallRefusal::v4(RefusalCause::Headers, "AUTH_003"));
        }
        if !present(&headers.signature) {
            return Err(missing("signature", "AUTH_007"));
        }
        if is_spot && headers.algorithms.as_deref() != Some("HmacSHA256") {
            return Err(CallRefusal::v4(RefusalCause::Headers, "AUTH_006"));
        }
        let window = headers.recvwindow.as_deref().filter(|_| is_spot);
        let window = match window.map(|window| window.parse::<i64>().ok()) {
            None => i64::try_from(self.rules.futures_window.as_millis()).unwrap_or(i64::MAX),
            Some(Some(window)) if (2_000..=60_000).contains(&window) => window,
            Some(_) => return Err(CallRefusal::v4(RefusalCause::Headers, "AUTH_004")),
        };
        let unknown = || refused(RefusalCause::AccessKey, "AUTH_101", "400", "the appkey does not exist");
        let position = key.ok_or_else(unknown)?;
        if self.hit(call, key, now, FaultTarget::Key).is_some() {
            return Err(unknown());
        }
        let server_time = self.server_time_ms(now);
        let ahead = if is_spot { self.rules.v4_ahead } else { self.rules.futures_ahead };
        let account = &self.keys.get(position).ok_or_else(unknown)?.account;
        if account.key == KeyState::Inactive {
            return Err(refused(RefusalCause::Inactive, "AUTH_102", "403", "the appkey is not activated"));
        }
        if account.ips.as_ref().is_some_and(|ips| !ips.contains(&call.ip)) {
            let msg = format!("ip {} is not on the whitelist", call.ip);
            return Err(refused(RefusalCause::Ip, "AUTH_104", "403", &msg));
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
                Some((_, text)) => refused(RefusalCause::Nonce, "AUTH_103", "403", text),
                None => refused(RefusalCause::Nonce, "AUTH_105", "403", &msg),
            });
        }
        let query = query.map(QueryParameters::string_to_sign).unwrap_or_default();
        let signed = format!("{}{}{query}", call.endpoint.signs(), if query.is_empty() { "" } else { "#" });
        let is_signed = if is_spot {
            headers.sign_spot(&signed, &account.secret_key)
        } else {
            headers.sign_futures(&signed, &account.secret_key)
        };
        if !is_signed {
            return Err(refused(RefusalCause::Signature, "AUTH_103", "403", "invalid signature"));
        }
        let may_read = match account.key {
            KeyState::NotAllowedToRead => false,
            KeyState::NotForFutures => is_spot,
            KeyState::Active | KeyState::Inactive => true,
        };
        if !may_read {
            return Err(refused(
                RefusalCause::Permission,
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
        call: &IncomingCall,
        query: &QueryParameters,
        key: Option<usize>,
        now: Instant,
    ) -> Result<usize, CallRefusal> {
        if let Some(name) = query.repeated() {
            return Err(CallRefusal::parameters(&format!("parameter {name} is given more than once")));
        }
        if query.get("accesskey").is_none() {
            return Err(CallRefusal::parameters("parameter accesskey is missing"));
        }
        let unknown = || CallRefusal::new(RefusalCause::AccessKey, 307, "AccessKey error");
        let position = key.ok_or_else(unknown)?;
        if self.hit(call, key, now, FaultTarget::Key).is_some() {
            return Err(unknown());
        }
        let server_time = self.server_time_ms(now);
        let nonce_refusal = self.rules.nonce_refusal;
        let key = self.keys.get_mut(position).ok_or_else(unknown)?;
        if key.account.key == KeyState::Inactive {
            return Err(CallRefusal::new(
                RefusalCause::Inactive,
                307,
                "AccessKey error: the key is not activated",
            ));
        }
        if key.account.ips.as_ref().is_some_and(|ips| !ips.contains(&call.ip)) {
            let text = format!("AccessKey error: IP {} is not on the IP whitelist of the key", call.ip);
            return Err(CallRefusal::new(RefusalCause::Ip, 307, &text));
        }
        let nonce = nonce(query, server_time, self.rules.nonce_window)
            .map_err(|refusal| refusal.with_nonce_wording(nonce_refusal))?;
        if !query.signed_with(&key.account.secret_key) {
            return Err(CallRefusal::new(RefusalCause::Signature, 308, "Sign error"));
        }
        if self.rules.strict_nonce && nonce <= key.last_nonce {
            let text = format!("nonce {nonce} is not above the last accepted nonce {}", key.last_nonce);
            return Err(CallRefusal::new(RefusalCause::Replay, 400, &text).with_nonce_wording(nonce_refusal));
        }
        key.last_nonce = nonce;
        if key.account.key == KeyState::NotAllowedToRead {
            return Err(CallRefusal::new(
                RefusalCause::Permission,
                307,
                "AccessKey error: the key has no read permission",
            ));
        }
        Ok(position)
    }

    /// What faults do to the rows that this call reads; each is used up by one.
    fn edits(&mut self, call: &IncomingCall, position: usize, now: Instant) -> Vec<Effect> {
        let mut edits = Vec::new();
        for fault in self.faults.iter_mut().filter(|fault| fault.fault.effect.target() == FaultTarget::Rows) {
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
        wallet: SimulatedWallet,
        edits: &'a [Effect],
    ) -> Vec<(&'a str, ServedRow<'a>)> {
        let key = self.keys.get(position);
        let rows = key.and_then(|key| key.account.wallets.get(&wallet));
        let mut shown: BTreeMap<&str, ServedRow> = rows
            .into_iter()
            .flatten()
            .map(|(currency, row)| (currency.as_str(), ServedRow::True(row)))
            .collect();
        for edit in edits {
            match edit {
                Effect::DropCurrency(currency) => drop(shown.remove(currency.as_str())),
                Effect::EmptyData => shown.clear(),
                Effect::Zeros => shown.values_mut().for_each(|row| *row = ServedRow::True(&ZERO)),
                Effect::Row { currency, value } => drop(shown.insert(currency, ServedRow::False(value))),
                _ => {}
            }
        }
        shown.into_iter().collect()
    }

    /// The oldest fault with this target that applies to a call; it is used up by one.
    fn hit(
        &mut self,
        call: &IncomingCall,
        key: Option<usize>,
        now: Instant,
        target: FaultTarget,
    ) -> Option<MatchedFault> {
        let name = key.and_then(|key| self.keys.get(key)).map(|key| key.account.name.as_str());
        let mut faults = self.faults.iter_mut().enumerate();
        let (position, fault) = faults.find(|(_, fault)| {
            fault.fault.effect.target() == target && fault.concerns(call.endpoint, name, now)
        })?;
        fault.hits += 1;
        Some(MatchedFault { position, effect: fault.fault.effect.clone() })
    }

    fn refuse(&self, refusal: &CallRefusal, now: Instant) -> SimulatedReply {
        let reply = SimulatedReply::json(match &refusal.told {
            RefusalBody::V1 { code, text } => self.rules.error_shape.body(*code, text).to_string(),
            RefusalBody::V4(mc) => v4::error(mc),
            RefusalBody::Futures { code, msg } => v4::futures_error(code, msg),
        });
        let retry_after =
            (self.rules.limit_reply == LimitReply::Status429).then(|| left(refusal.retry_at, now));
        match (refusal.retry_at, &refusal.told) {
            (None, _) => reply,
            (Some(_), RefusalBody::V1 { .. }) if retry_after.is_none() => reply,
            (Some(_), _) => reply.too_many(retry_after.flatten()),
        }
    }

    fn record(&mut self, call: &IncomingCall, key: Option<usize>, outcome: CallOutcome, now: Instant) {
        if let Some(caller) = self.callers.get_mut(&call.ip) {
            caller.counts.add(outcome);
        }
        let key = key.and_then(|key| self.keys.get_mut(key));
        let account = key.map(|key| {
            key.counts.add(outcome);
            key.account.name.clone()
        });
        if self.records.len() >= MAX_RECORDS {
            self.records.pop_front();
        }
        self.records.push_back(CallRecord {
            since_start: now.saturating_duration_since(self.started),
            ip: call.ip,
            account,
            endpoint: call.endpoint,
            outcome,
        });
    }
}

impl ActiveFault {
    fn is_left(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until) && self.fault.calls.is_none_or(|calls| self.hits < calls)
    }

    fn concerns(&self, endpoint: SimulatedEndpoint, account: Option<&str>, now: Instant) -> bool {
        let Fault { account: whose, endpoint: what, .. } = &self.fault;
        self.is_left(now)
            && what.is_none_or(|what| what == endpoint)
            && (whose.is_none() || whose.as_deref() == account)
    }
}

impl CallRefusal {
    fn new(cause: RefusalCause, code: i64, text: &str) -> Self {
        Self { cause, told: RefusalBody::V1 { code, text: text.to_owned() }, retry_at: None }
    }

    fn v4(cause: RefusalCause, mc: &'static str) -> Self {
        Self { cause, told: RefusalBody::V4(mc), retry_at: None }
    }

    fn futures(cause: RefusalCause, code: &'static str, msg: String) -> Self {
        Self { cause, told: RefusalBody::Futures { code, msg }, retry_at: None }
    }

    fn parameters(sentence: &str) -> Self {
        Self::new(RefusalCause::Parameters, 400, sentence)
    }

    /// The same refusal of a v1 nonce, worded as the rules have it.
    fn with_nonce_wording(self, wording: NonceRefusal) -> Self {
        match (self.cause, wording.unnamed()) {
            (cause @ (RefusalCause::Nonce | RefusalCause::Replay), Some((code, text))) => {
                Self::new(cause, code, text)
            }
            _ => self,
        }
    }

    /// The same in any dialect; spot of v4 has no words for it.
    fn wrong_parameter(dialect: WireFormat, sentence: &str) -> Self {
        match dialect {
            WireFormat::V1 => Self::parameters(sentence),
            WireFormat::V4 => Self::v4(RefusalCause::Parameters, "FUND_017"),
            WireFormat::Futures => Self::futures(RefusalCause::Parameters, "400", sentence.to_owned()),
        }
    }

    fn locked(call: &IncomingCall, cause: RefusalCause, why: &str, end: Instant, now: Instant) -> Self {
        let seconds = left(Some(end), now).unwrap_or_default();
        let text = format!("account locked: {why}, try again in {seconds} seconds");
        let told = match call.endpoint.dialect() {
            WireFormat::V1 => RefusalBody::V1 { code: 404, text },
            WireFormat::V4 => RefusalBody::V4("GATEWAY_0001"),
            WireFormat::Futures => RefusalBody::Futures { code: "429", msg: text },
        };
        Self { cause, told, retry_at: Some(end) }
    }
}

/// A row as it is, or as a fault wants it.
#[derive(Serialize)]
#[serde(untagged)]
enum ServedRow<'a> {
    True(&'a SimulatedBalance),
    False(&'a Value),
}

/// The row that [`Effect::Zeros`] puts in place of every other.
static ZERO: LazyLock<SimulatedBalance> = LazyLock::new(|| SimulatedBalance::new("0", "0"));

/// The nonce of a call, if it is one and inside the window.
fn nonce(query: &QueryParameters, server_time: i64, window: Duration) -> Result<i64, CallRefusal> {
    let refused = |text: String| CallRefusal::new(RefusalCause::Nonce, 400, &text);
    let sent = query.get("nonce").ok_or_else(|| CallRefusal::parameters("parameter nonce is missing"))?;
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
fn wallet(endpoint: SimulatedEndpoint, query: &QueryParameters) -> Result<SimulatedWallet, CallRefusal> {
    if endpoint == SimulatedEndpoint::GetBalance {
        return Ok(SimulatedWallet::Spot);
    }
    match query.get("account") {
        Some("1") => Ok(SimulatedWallet::Wallet),
        Some("2") => Ok(SimulatedWallet::Spot),
        Some("3") => Ok(SimulatedWallet::Fiat),
        Some(other) => {
            Err(CallRefusal::parameters(&format!("parameter account is {other}: it must be 1, 2 or 3")))
        }
        None => Err(CallRefusal::parameters("parameter account is missing: it must be 1, 2 or 3")),
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
    struct TestExchange {
        exchange: ExchangeState,
        start: Instant,
    }

    impl TestExchange {
        fn new(mut rules: SimulatorConfig) -> Self {
            rules.clock_start_ms = Some(NONCE);
            let account =
                |name: &str| SimulatedAccount::new(name, &format!("{name}AccessKey"), "mySecretKey");
            let start = Instant::now();
            Self { exchange: ExchangeState::new(rules, vec![account("my"), account("other")], start), start }
        }

        /// Rules under which one signature is good for all calls.
        fn of_limits() -> Self {
            Self::new(SimulatorConfig {
                strict_nonce: false,
                nonce_window: Duration::from_hours(1),
                ..SimulatorConfig::default()
            })
        }

        fn call(&mut self, endpoint: SimulatedEndpoint, query: &str, ip: IpAddr, ms: u64) -> CallOutcome {
            let call = IncomingCall { endpoint, query, headers: &HeaderMap::new(), ip };
            let now = self.start + Duration::from_millis(ms);
            self.exchange.call(&call, now);
            self.exchange.records.back().map_or(CallOutcome::Faulted, |record| record.outcome)
        }

        fn signed(&mut self, ms: u64) -> CallOutcome {
            self.call(SimulatedEndpoint::GetBalance, SIGNED, HOME, ms)
        }

        fn server_time(&mut self, ms: u64) -> CallOutcome {
            self.call(SimulatedEndpoint::GetServerTime, "", HOME, ms)
        }
    }

    use CallOutcome::{Accepted, Refused};

    #[test]
    fn the_nonce_window_is_exact_on_both_sides() {
        for (offset, outcome) in [
            (60_000, Accepted),
            (60_001, Refused(RefusalCause::Nonce)),
            (-60_000, Accepted),
            (-60_001, Refused(RefusalCause::Nonce)),
        ] {
            let mut trial =
                TestExchange::new(SimulatorConfig { clock_offset_ms: offset, ..SimulatorConfig::default() });
            assert_eq!(trial.signed(0), outcome, "{offset}");
        }
        assert_eq!(
            TestExchange::new(SimulatorConfig::default()).signed(60_001),
            Refused(RefusalCause::Nonce)
        );
    }

    /// Both are signed with the key pair of the other vectors, at `NONCE` and with a window of 5000.
    #[test]
    fn the_windows_of_v4_are_exact_on_both_sides() {
        let spot = "72897bacbf45f2f3405208aefd60bae9be02b7344cea5df6f013d04aacb6a68f";
        let futures = "4687131059b9d182bef2338a05dddc0ae135faf999ef541e2362ee8e774fca2e";
        for (endpoint, signature, offset, outcome) in [
            (SimulatedEndpoint::V4Balances, spot, 4_999, Accepted),
            (SimulatedEndpoint::V4Balances, spot, 5_000, Refused(RefusalCause::Nonce)),
            (SimulatedEndpoint::V4Balances, spot, -1_000, Accepted),
            (SimulatedEndpoint::V4Balances, spot, -1_001, Refused(RefusalCause::Nonce)),
            (SimulatedEndpoint::FuturesUsdtBalances, futures, 4_999, Accepted),
            (SimulatedEndpoint::FuturesUsdtBalances, futures, 5_000, Refused(RefusalCause::Nonce)),
            (SimulatedEndpoint::FuturesUsdtBalances, futures, -50, Accepted),
            (SimulatedEndpoint::FuturesUsdtBalances, futures, -51, Refused(RefusalCause::Nonce)),
        ] {
            let mut trial =
                TestExchange::new(SimulatorConfig { clock_offset_ms: offset, ..SimulatorConfig::default() });
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
            trial
                .exchange
                .call(&IncomingCall { endpoint, query: "", headers: &headers, ip: HOME }, trial.start);
            let found = trial.exchange.records.back().map(|record| record.outcome);
            assert_eq!(found, Some(outcome), "{endpoint:?} {offset}");
        }
    }

    #[test]
    fn the_fourth_asset_call_in_a_second_locks_for_ten_minutes() {
        let mut trial = TestExchange::of_limits();
        assert_eq!([0, 0, 999].map(|ms| trial.signed(ms)), [Accepted; 3]);
        assert_eq!(trial.signed(999), Refused(RefusalCause::Limit));
        assert_eq!(trial.signed(600_998), Refused(RefusalCause::Locked));
        assert_eq!(trial.signed(600_999), Accepted);
        // The other account was never concerned.
        let other = SIGNED.replacen("my", "other", 1);
        let outcome = trial.call(SimulatedEndpoint::GetBalance, &other, HOME, 1_000);
        assert_eq!(outcome, Refused(RefusalCause::Signature));
    }

    #[test]
    fn three_asset_calls_in_every_second_are_fine() {
        let mut trial = TestExchange::of_limits();
        let times = (0..30).map(|third| third * 1_000 / 3 + third % 3);
        assert!(times.map(|ms| trial.signed(ms)).all(|outcome| outcome == Accepted));
    }

    #[test]
    fn badly_signed_calls_use_up_the_limit_of_a_known_key() {
        let mut trial = TestExchange::of_limits();
        for query in
            ["accesskey=myAccessKey", "accesskey=myAccessKey&nonce=1", "accesskey=myAccessKey&a=1&a=1"]
        {
            assert!(matches!(trial.call(SimulatedEndpoint::GetFunds, query, HOME, 0), Refused(_)));
        }
        assert_eq!(trial.signed(0), Refused(RefusalCause::Limit));
    }

    #[test]
    fn calls_during_a_lock_do_not_extend_it_but_fill_the_window() {
        let mut trial = TestExchange::of_limits();
        let _ = [0; 4].map(|ms| trial.signed(ms));
        assert_eq!([599_500; 3].map(|ms| trial.signed(ms)), [Refused(RefusalCause::Locked); 3]);
        assert_eq!(trial.signed(600_000), Refused(RefusalCause::Limit));
        assert_eq!(trial.signed(1_200_000), Accepted);
        assert_eq!(trial.exchange.call_log(trial.start).count_breaches(), 2);
    }

    #[test]
    fn the_eleventh_other_call_in_a_second_locks_every_account_of_the_caller() {
        let mut trial = TestExchange::of_limits();
        assert_eq!(trial.signed(0), Accepted);
        assert_eq!([0; 10].map(|ms| trial.server_time(ms)), [Accepted; 10]);
        assert_eq!(trial.server_time(999), Refused(RefusalCause::Limit));
        assert_eq!(trial.server_time(2_000), Refused(RefusalCause::Locked));
        let elsewhere = trial.call(SimulatedEndpoint::GetBalance, SIGNED, AWAY, 2_000);
        assert_eq!(elsewhere, Refused(RefusalCause::Locked));
        let unlocked = trial.call(SimulatedEndpoint::GetServerTime, "", AWAY, 2_000);
        assert_eq!(unlocked, Accepted);
        assert_eq!(trial.server_time(600_999), Accepted);
    }

    #[test]
    fn the_1001st_call_in_a_minute_locks_the_caller() {
        for (ms, outcome) in [(59_999, Refused(RefusalCause::Limit)), (60_000, Accepted)] {
            let mut trial = TestExchange::new(SimulatorConfig {
                other_calls_per_second: 1_000,
                ..SimulatorConfig::default()
            });
            let mut spread = (0..1_000).map(|call| call * 59_999 / 1_000);
            assert!(spread.all(|ms| trial.server_time(ms) == Accepted));
            assert_eq!(trial.server_time(ms), outcome);
        }
    }

    #[test]
    fn a_nonce_must_rise_and_a_refused_call_uses_none_up() {
        let mut trial = TestExchange::new(SimulatorConfig::default());
        let forged = SIGNED.replace("84b2", "84b3").replace("832183", "832999");
        let outcome = trial.call(SimulatedEndpoint::GetBalance, &forged, HOME, 0);
        assert_eq!(outcome, Refused(RefusalCause::Signature));
        assert_eq!(trial.signed(1), Accepted);
        assert_eq!(trial.signed(2), Refused(RefusalCause::Replay));
        let next = "accesskey=myAccessKey&nonce=1562919832184\
            &signature=eb177c57e063177bfe12108e4e45b59941207362a953a5e65bd35735691517ee";
        assert_eq!(trial.call(SimulatedEndpoint::GetBalance, next, HOME, 1_001), Accepted);
    }

    #[test]
    fn a_fault_does_not_hide_a_call_from_the_limits() {
        let mut trial = TestExchange::of_limits();
        trial.exchange.inject_fault(Fault::new(Effect::Maintenance).for_calls(4), trial.start);
        assert_eq!([0; 4].map(|ms| trial.signed(ms)), [CallOutcome::Faulted; 4]);
        assert_eq!(trial.signed(1_000), Refused(RefusalCause::Locked));
    }

    #[test]
    fn forgets_idle_callers_before_it_remembers_too_many() {
        let mut trial = TestExchange::of_limits();
        let mut from = |number: u32, ms| {
            let ip = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            trial.call(SimulatedEndpoint::GetServerTime, "", ip, ms);
            trial.exchange.callers.len()
        };
        assert_eq!((1..=4_096).map(|number| from(number, 0)).last(), Some(4_096));
        assert_eq!(from(5_000, 60_000), 1);
    }
}
