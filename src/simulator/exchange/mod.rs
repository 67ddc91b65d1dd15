//! The exchange's decisions: admission, authorization, answer and faults of each call.
//!
//! Must not know sockets. Reads no clock: time is an argument. `ExchangeState` is the only state.

mod admission;
mod call;
mod positions;
mod refusal;
#[cfg(test)]
mod tests;
mod v1;
mod v4;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::IpAddr,
    sync::LazyLock,
    time::Duration,
};

use hyper::header::AGE;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

pub(super) use self::call::IncomingCall;
use self::{call::ParsedCall, refusal::CallRefusal};
use super::{
    account::{SimulatedAccount, SimulatedApi, SimulatedBalance, SimulatedWallet, UnknownAccount},
    active_faults::{ActiveFaults, MatchedFault},
    auth_headers::AuthHeaders,
    call_log::{CallCounts, CallLog, CallOutcome, CallRecord},
    clock::{SimulatedClock, seconds_until},
    config::SimulatorConfig,
    endpoint::{SimulatedEndpoint, WireFormat},
    fault::{Effect, Fault, FaultTarget},
    fault_reply,
    market_state::SimulatedMarketState,
    position::{PositionKey, SimulatedPosition},
    query::QueryParameters,
    reply::{ReplyDate, SimulatedReply},
    sliding_window::SlidingWindow,
};

const MAX_RECORDS: usize = 65_536;

/// The whole state of the exchange.
pub(super) struct ExchangeState {
    config: SimulatorConfig,
    clock: SimulatedClock,
    accounts: Vec<AccountState>,
    /// Last price by market.
    pub(super) prices: BTreeMap<String, String>,
    /// State of each market that is not open.
    pub(super) market_states: BTreeMap<String, SimulatedMarketState>,
    callers: HashMap<IpAddr, CallerState>,
    faults: ActiveFaults,
    records: VecDeque<CallRecord>,
    unknown_requests: u64,
}

/// An account and the use of its key.
struct AccountState {
    account: SimulatedAccount,
    last_nonce: i64,
    /// v1 and futures calls.
    asset_calls: SlidingWindow,
    v4_balances_calls: SlidingWindow,
    v4_balance_calls: SlidingWindow,
    locked_until: Option<Instant>,
    counts: CallCounts,
}

/// An address that has called the exchange.
struct CallerState {
    /// Calls that do not read assets.
    other_calls: SlidingWindow,
    all_calls: SlidingWindow,
    /// Positions in `accounts` of the accounts whose keys this address has used.
    account_indexes: BTreeSet<usize>,
    locked_until: Option<Instant>,
    counts: CallCounts,
}

/// A row of an answer.
#[derive(Serialize)]
#[serde(untagged)]
enum ServedRow<'a> {
    /// The account's balance.
    Stored(&'a SimulatedBalance),
    /// The value that a fault puts in place of the balance.
    Replaced(&'a Value),
}

impl ExchangeState {
    pub(super) fn new(config: SimulatorConfig, accounts: Vec<SimulatedAccount>, now: Instant) -> Self {
        Self {
            clock: SimulatedClock::new(&config, now),
            accounts: accounts.into_iter().map(|account| AccountState::new(account, &config)).collect(),
            prices: PRICES.map(|(market, price)| (market.to_owned(), price.to_owned())).into(),
            market_states: BTreeMap::new(),
            callers: HashMap::new(),
            faults: ActiveFaults::default(),
            records: VecDeque::new(),
            unknown_requests: 0,
            config,
        }
    }

    /// Answers one call that arrived at `now`.
    pub(super) fn answer_call(&mut self, call: &IncomingCall, now: Instant) -> SimulatedReply {
        let call = self.parse_call(call, now);
        let admission = self.admit(&call);
        let fault = self.apply_fault(&call, FaultTarget::Reply);
        let replacement = fault.as_ref().and_then(|fault| self.build_replacement(fault, &call));
        let (reply, outcome) = if let Some(reply) = replacement {
            (reply, CallOutcome::Faulted)
        } else {
            let (reply, outcome) = match admission.and_then(|()| self.answer_admitted(&call)) {
                Ok(body) => (SimulatedReply::json(body), CallOutcome::Accepted),
                Err(refusal) => (refusal.to_reply(&self.config, now), CallOutcome::Refused(refusal.cause)),
            };
            (self.alter_reply(reply, fault.as_ref(), &call), outcome)
        };
        self.record_outcome(&call, outcome);
        reply
    }

    fn parse_call(&self, call: &IncomingCall, now: Instant) -> ParsedCall {
        let query = QueryParameters::parse(call.query);
        let headers = AuthHeaders::parse(call.headers);
        let account_index = self.find_account(call.endpoint, query.as_ref().ok(), &headers);
        ParsedCall { endpoint: call.endpoint, query, headers, ip: call.ip, account_index, now }
    }

    /// Finds the position of the account whose access key a signed call carries.
    fn find_account(
        &self,
        endpoint: SimulatedEndpoint,
        query: Option<&QueryParameters>,
        headers: &AuthHeaders,
    ) -> Option<usize> {
        let (sent, api) = match endpoint.wire_format() {
            _ if !endpoint.is_asset_call() => return None,
            WireFormat::V1 => (query?.get("accesskey")?, SimulatedApi::V1),
            WireFormat::V4Spot | WireFormat::Futures => (headers.appkey.as_deref()?, SimulatedApi::V4),
        };
        self.accounts.iter().position(|AccountState { account, .. }| {
            account.access_key == sent && account.api.is_none_or(|accepted| accepted == api)
        })
    }

    /// The body of the answer to an admitted call.
    fn answer_admitted(&mut self, call: &ParsedCall) -> Result<String, CallRefusal> {
        match call.endpoint.wire_format() {
            WireFormat::V1 => self.answer_v1(call),
            WireFormat::V4Spot | WireFormat::Futures => self.answer_v4(call),
        }
    }

    /// The reply that a fault sends in place of the exchange's answer, if it does.
    fn build_replacement(&self, fault: &MatchedFault, call: &ParsedCall) -> Option<SimulatedReply> {
        let cached = self.faults.cached_reply(fault, call.endpoint);
        cached.or_else(|| fault_reply::build_replacement(&fault.effect, call.endpoint.wire_format()))
    }

    /// Alters the exchange's own answer as a fault demands. A cache fault stores the answer for later calls.
    fn alter_reply(
        &mut self,
        reply: SimulatedReply,
        fault: Option<&MatchedFault>,
        call: &ParsedCall,
    ) -> SimulatedReply {
        let Some(fault) = fault else {
            return reply;
        };
        if let Effect::Cached { age, date_behind } = fault.effect {
            let age = age.map(|seconds| seconds.to_string());
            let now_ms = self.clock.unix_ms(call.now);
            let date = date_behind.map_or(ReplyDate::At(now_ms), ReplyDate::Behind);
            let repeated = reply.clone().with_header(AGE, age.as_deref()).with_date(date);
            self.faults.cache_reply(fault, call.endpoint, repeated);
        }
        reply.apply_effect(&fault.effect)
    }

    fn record_outcome(&mut self, call: &ParsedCall, outcome: CallOutcome) {
        if let Some(caller) = self.callers.get_mut(&call.ip) {
            caller.counts.add(outcome);
        }
        let account = call.account_index.and_then(|index| self.accounts.get_mut(index));
        let account = account.map(|state| {
            state.counts.add(outcome);
            state.account.name.clone()
        });
        if self.records.len() >= MAX_RECORDS {
            self.records.pop_front();
        }
        self.records.push_back(CallRecord {
            since_start: call.now.saturating_duration_since(self.clock.started()),
            ip: call.ip,
            account,
            endpoint: call.endpoint,
            outcome,
        });
    }

    /// Counts a request for a path or method that the exchange does not have.
    pub(super) fn count_unknown_request(&mut self) {
        self.unknown_requests += 1;
    }

    pub(super) fn server_time_ms(&self, now: Instant) -> i64 {
        self.clock.unix_ms(now)
    }

    pub(super) fn set_clock_offset_ms(&mut self, offset_ms: i64) {
        self.clock.set_offset_ms(offset_ms);
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = &SimulatedAccount> {
        self.accounts.iter().map(|state| &state.account)
    }

    /// The rows of a wallet, to be changed.
    pub(super) fn rows_mut(
        &mut self,
        account: &str,
        wallet: SimulatedWallet,
    ) -> Result<&mut BTreeMap<String, SimulatedBalance>, UnknownAccount> {
        let mut accounts = self.accounts.iter_mut().map(|state| &mut state.account);
        let found = accounts.find(|candidate| candidate.name == account);
        let found = found.ok_or_else(|| UnknownAccount(account.to_owned()))?;
        Ok(found.wallets.entry(wallet).or_default())
    }

    pub(super) fn positions_mut(
        &mut self,
        account: &str,
        wallet: SimulatedWallet,
    ) -> Result<&mut BTreeMap<PositionKey, SimulatedPosition>, UnknownAccount> {
        let mut accounts = self.accounts.iter_mut().map(|state| &mut state.account);
        let found = accounts.find(|candidate| candidate.name == account);
        let found = found.ok_or_else(|| UnknownAccount(account.to_owned()))?;
        Ok(found.positions.entry(wallet).or_default())
    }

    pub(super) fn inject_fault(&mut self, fault: Fault, now: Instant) {
        self.faults.inject(fault, now);
    }

    /// Ends all faults. Returns their number.
    pub(super) fn clear_faults(&mut self, now: Instant) -> usize {
        self.faults.clear(now)
    }

    pub(super) fn call_log(&self, now: Instant) -> CallLog {
        let with_lock = |counts: &CallCounts, locked_until| CallCounts {
            locked_for_seconds: seconds_until(locked_until, now),
            ..counts.clone()
        };
        let accounts = self
            .accounts
            .iter()
            .map(|state| (state.account.name.clone(), with_lock(&state.counts, state.locked_until)));
        let ips =
            self.callers.iter().map(|(ip, caller)| (*ip, with_lock(&caller.counts, caller.locked_until)));
        CallLog {
            accounts: accounts.collect(),
            ips: ips.collect(),
            unknown_requests: self.unknown_requests,
            records: self.records.iter().cloned().collect(),
        }
    }

    /// The state in JSON, for the control pages. Contains no secret key.
    pub(super) fn to_json(&self, now: Instant) -> Value {
        let log = self.call_log(now);
        let accounts: BTreeMap<_, _> = self
            .accounts()
            .map(|SimulatedAccount { name, wallets, positions, .. }| {
                let list = |(wallet, rows): (&SimulatedWallet, &BTreeMap<PositionKey, SimulatedPosition>)| {
                    let row = |((symbol, side), position): (&PositionKey, &SimulatedPosition)| {
                        json!({"symbol": symbol, "side": side, "position": position})
                    };
                    (*wallet, rows.iter().map(row).collect::<Vec<_>>())
                };
                let positions: BTreeMap<_, _> = positions.iter().map(list).collect();
                let calls = log.accounts.get(name);
                (name, json!({"calls": calls, "balances": wallets, "positions": positions}))
            })
            .collect();
        json!({
            "server_time_ms": self.server_time_ms(now),
            "accounts": accounts,
            "prices": self.prices,
            "markets": self.market_states,
            "ips": log.ips,
            "strays": log.unknown_requests,
            "faults": self.faults.to_json(now),
        })
    }

    /// Finds the oldest fault with this target that applies to a call, and counts one hit.
    fn apply_fault(&mut self, call: &ParsedCall, target: FaultTarget) -> Option<MatchedFault> {
        let account = call.account_index.and_then(|index| self.accounts.get(index));
        let name = account.map(|state| state.account.name.as_str());
        self.faults.apply(target, call.endpoint, name, call.now)
    }

    /// Effects of all faults on the rows of a call. Counts one hit for each of these faults.
    fn apply_row_faults(&mut self, call: &ParsedCall) -> Vec<Effect> {
        let account = call.account_index.and_then(|index| self.accounts.get(index));
        let name = account.map(|state| state.account.name.as_str());
        self.faults.apply_to_rows(call.endpoint, name, call.now)
    }

    /// The answer of a time endpoint: the exchange's time, or a wrong time if a fault demands it.
    fn answered_time_ms(&mut self, call: &ParsedCall) -> i64 {
        let time = self.server_time_ms(call.now);
        match self.apply_fault(call, FaultTarget::Time) {
            Some(MatchedFault { effect: Effect::WrongTime { ahead_ms }, .. }) => {
                time.saturating_add(ahead_ms)
            }
            _ => time,
        }
    }

    /// The rows of a wallet by currency, changed by the effects of faults.
    fn served_rows<'a>(
        &'a self,
        account_index: usize,
        wallet: SimulatedWallet,
        effects: &'a [Effect],
    ) -> BTreeMap<&'a str, ServedRow<'a>> {
        /// The row that [`Effect::Zeros`] puts in place of every other row.
        static ZERO: LazyLock<SimulatedBalance> = LazyLock::new(|| SimulatedBalance::new("0", "0"));
        let account = self.accounts.get(account_index);
        let stored = account.and_then(|state| state.account.wallets.get(&wallet)).into_iter().flatten();
        let mut rows: BTreeMap<&str, ServedRow> =
            stored.map(|(currency, row)| (currency.as_str(), ServedRow::Stored(row))).collect();
        for effect in effects {
            match effect {
                Effect::DropCurrency(currency) => drop(rows.remove(currency.as_str())),
                Effect::EmptyData => rows.clear(),
                Effect::Zeros => rows.values_mut().for_each(|row| *row = ServedRow::Stored(&ZERO)),
                Effect::Row { currency, value } => drop(rows.insert(currency, ServedRow::Replaced(value))),
                _ => {}
            }
        }
        rows
    }
}

impl AccountState {
    fn new(account: SimulatedAccount, config: &SimulatorConfig) -> Self {
        Self {
            account,
            last_nonce: 0,
            asset_calls: SlidingWindow::new(config.asset_calls_per_second, Duration::from_secs(1)),
            v4_balances_calls: SlidingWindow::new(config.v4_calls_per_second, Duration::from_secs(1)),
            v4_balance_calls: SlidingWindow::new(config.v4_calls_per_second, Duration::from_secs(1)),
            locked_until: None,
            counts: CallCounts::default(),
        }
    }
}

/// Last prices of a few markets, until other prices are set.
const PRICES: [(&str, &str); 4] =
    [("btc_usdt", "64210.00"), ("eth_usdt", "3180.00"), ("ltc_usdt", "72.35"), ("xt_usdt", "2.71")];
