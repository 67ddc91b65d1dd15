//! The simulated exchange of the model: answers calls according to the scenario's faults, and records them. It has the
//! documented limits of the exchange, but shares no code with the rate limiter. Its time is tokio's paused clock.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    task,
    time::{Instant, sleep},
};

use super::{
    egress::{ADDRESSES_MAX, ModelEgress, seen_address},
    record::{CallResult, Event, RecordedCall},
    scenario::{HostFault, ModelAccount, NO_KEY, Scenario},
};
use crate::{
    clock::UnixTime,
    exchange::{Failure, Reason, ScriptedRequest, ScriptedResponse},
};

/// The exchange's time at the start. It is years in the past, so that this machine's clock is
/// always wrong.
const EPOCH: UnixTime = UnixTime::from_secs(1_700_000_000);
/// The longest latency after the fault period.
pub(super) const RECOVERED_LATENCY_MAX: Duration = Duration::from_millis(200);

/// The state of the simulated exchange.
pub(super) struct ExchangeModel {
    start: Instant,
    scenario: Scenario,
    rng: Rng,
    /// Whether the fault period lasts.
    pub has_faults: bool,
    keys: Vec<usize>,
    /// Whose calls each task makes, because a call for the time names no account.
    pub tasks: HashMap<task::Id, TaskOwner>,
    /// When the exchange's lock of each account ends. A restart of the process does not end it.
    locked_until: Vec<Duration>,
    /// When the exchange's lock of each address ends.
    addresses_locked_until: [Duration; ADDRESSES_MAX + 1],
    /// The accounts of each process's configuration, without prices.
    pub polled: HashMap<usize, Vec<ModelAccount>>,
    /// The time that the machine was suspended.
    pub suspended: Duration,
    pub calls: Vec<RecordedCall>,
    pub log: Vec<(Duration, Event)>,
}

/// The process of a task, and the account that it polls.
#[derive(Clone, Copy)]
pub(super) struct TaskOwner {
    pub process: usize,
    pub account: usize,
}

pub(super) type SharedModel = Arc<Mutex<ExchangeModel>>;

pub(super) fn lock(model: &SharedModel) -> MutexGuard<'_, ExchangeModel> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers a call of the task that runs it.
pub(super) async fn answer_call(
    model: SharedModel,
    request: ScriptedRequest,
) -> Result<ScriptedResponse, Failure> {
    let (id, reply) = {
        let mut model = lock(&model);
        let owner = model.tasks[&task::id()];
        let id = model.record_call(owner, &request);
        (id, model.plan_reply(owner.account, &request))
    };
    let mut call = CallInFlight { model, id, result: CallResult::Other };
    if reply.latency > request.timeout {
        sleep(request.timeout).await;
        return Err(Failure::new(Reason::Timeout, "no answer"));
    }
    if !reply.latency.is_zero() {
        sleep(reply.latency).await;
    }
    call.result = reply.result;
    reply.response
}

/// Records the end of its call when it is dropped, also because the process was killed.
pub(super) struct CallInFlight {
    pub model: SharedModel,
    pub id: usize,
    pub result: CallResult,
}

impl Drop for CallInFlight {
    fn drop(&mut self) {
        let mut model = lock(&self.model);
        let now = model.now();
        model.log.push((now, Event::End(self.id, self.result)));
        let call = &mut model.calls[self.id];
        call.end = now;
        call.good = self.result == CallResult::Good && (call.wallet.is_some() || call.key == NO_KEY);
    }
}

/// The reply to a call, and when it arrives.
struct PlannedReply {
    latency: Duration,
    result: CallResult,
    response: Result<ScriptedResponse, Failure>,
}

impl PlannedReply {
    fn new(
        latency: Duration,
        status: u16,
        retry_after: Option<Duration>,
        body: &str,
        result: CallResult,
    ) -> Self {
        let response = Ok(ScriptedResponse { status, retry_after, body: body.as_bytes().to_vec() });
        Self { latency, result, response }
    }

    fn failed(latency: Duration, reason: Reason) -> Self {
        Self { latency, result: CallResult::Other, response: Err(Failure::new(reason, "simulated")) }
    }

    fn nonce_expired(latency: Duration, request: &ScriptedRequest) -> Self {
        let body = match &*request.path {
            path if is_futures(path) => {
                futures_error("403", "The request time 1 exceeds the specified time 2")
            }
            path if path.starts_with(V4_SINGLE) => r#"{"rc":1,"mc":"AUTH_105"}"#.to_owned(),
            _ => r#"{"code":400,"info":"nonce expired"}"#.to_owned(),
        };
        Self::new(latency, 200, None, &body, CallResult::Nonce)
    }
}

impl ExchangeModel {
    pub(super) fn new(scenario: &Scenario, accounts: &[ModelAccount], rng: Rng) -> Self {
        Self {
            start: Instant::now(),
            scenario: scenario.clone(),
            rng,
            has_faults: true,
            keys: accounts.iter().map(|account| account.key).collect(),
            tasks: HashMap::new(),
            locked_until: vec![Duration::ZERO; accounts.len()],
            addresses_locked_until: [Duration::ZERO; ADDRESSES_MAX + 1],
            polled: HashMap::new(),
            suspended: Duration::ZERO,
            calls: Vec::new(),
            log: Vec::new(),
        }
    }

    pub(super) fn host_count(&self) -> usize {
        self.scenario.hosts
    }

    pub(super) fn account_count(&self) -> usize {
        self.keys.len()
    }

    /// The time since the start, without suspends.
    pub(super) fn driven(&self) -> Duration {
        self.start.elapsed()
    }

    /// The time since the start, with suspends.
    pub(super) fn now(&self) -> Duration {
        self.driven() + self.suspended
    }

    fn record_call(&mut self, owner: TaskOwner, request: &ScriptedRequest) -> usize {
        let TaskOwner { process, account } = owner;
        let nonce = find_nonce(request);
        let now = self.now();
        let key = self.keys[account];
        self.push_call(RecordedCall {
            process,
            account,
            key,
            address: self.find_address(owner, request),
            configured_address: Arc::clone(&request.address),
            is_lent: false,
            host: request.host.clone(),
            path: request.path.clone(),
            wallet: (nonce.is_some() || [V4_LIST, FUTURES_LIST].contains(&&*request.path)).then(|| {
                let account = request.query.split('&').find(|pair| pair.starts_with("account="));
                format!("{} {}", request.path, account.unwrap_or_default())
            }),
            nonce: nonce.map(|nonce| nonce.parse().unwrap_or_else(|_| panic!("{nonce}"))),
            timeout: request.timeout,
            start: now,
            end: Duration::MAX,
            good: false,
        })
    }

    /// The address at which the exchange sees a call. If the file has groups, prices are read by an address that has none.
    fn find_address(&self, owner: TaskOwner, request: &ScriptedRequest) -> usize {
        let has_groups = self.polled[&owner.process].iter().any(|account| account.egress.is_some());
        if self.keys[owner.account] == NO_KEY && has_groups {
            ADDRESSES_MAX
        } else {
            parse_address(&request.address)
        }
    }

    /// The address of the last call.
    fn called_address(&self) -> usize {
        self.calls.last().map_or(0, |call| call.address)
    }

    /// Records the start of a call. Returns its index.
    pub(super) fn push_call(&mut self, call: RecordedCall) -> usize {
        let id = self.calls.len();
        self.log.push((call.start, Event::Start(id)));
        self.calls.push(call);
        id
    }

    fn plan_reply(&mut self, account: usize, request: &ScriptedRequest) -> PlannedReply {
        let nonce = self.calls.last().and_then(|call| call.nonce);
        let is_nonce_bad =
            nonce.is_some_and(|nonce| nonce.abs_diff((EPOCH + self.now()).as_millis()) > 60_000);
        if !self.has_faults {
            let latency = self.draw_latency(RECOVERED_LATENCY_MAX.min(request.timeout / 4));
            let good = |model: &Self| model.good_reply(request, 0, latency);
            return if is_nonce_bad { PlannedReply::nonce_expired(latency, request) } else { good(self) };
        }
        let host = request.host.bytes().find(u8::is_ascii_digit).map_or(0, |digit| usize::from(digit - b'0'));
        let host_fault = self.scenario.faults.hosts[host];
        let latency_thousandths = u32::try_from(self.scenario.faults.latency).unwrap_or(0);
        let longest = request.timeout.mul_f64(f64::from(latency_thousandths) / 1_000.0);
        let latency = match self.rng.u8(..) {
            0 => request.timeout,
            1 => Duration::ZERO,
            _ => self.draw_latency(longest),
        };
        let is_clock_call = is_clock_call(request);
        let failed = |reason| PlannedReply::failed(latency, reason);
        let latency = match host_fault {
            HostFault::Unreachable => return failed(Reason::Connect),
            HostFault::Hanging => return PlannedReply::failed(Duration::MAX, Reason::Timeout),
            HostFault::NoServerTime if is_clock_call && self.rng.bool() => return failed(Reason::Http),
            HostFault::NoServerTime if is_clock_call => return failed(Reason::Unavailable),
            HostFault::Slow => request.timeout.mul_f64(0.95),
            _ => latency,
        };
        let address = self.called_address();
        if self.locked_until[account].max(self.addresses_locked_until[address]) > self.now() + latency {
            return self.limit_reply(latency);
        }
        if is_nonce_bad {
            return PlannedReply::nonce_expired(latency, request);
        }
        let offset_seconds = if let HostFault::WrongServerTime(seconds) = host_fault { seconds } else { 0 };
        self.draw_fault(account, request, latency)
            .unwrap_or_else(|| self.good_reply(request, offset_seconds, latency))
    }

    /// Draws whether a fault occurs, and which one.
    fn draw_fault(
        &mut self,
        account: usize,
        request: &ScriptedRequest,
        latency: Duration,
    ) -> Option<PlannedReply> {
        let is_v4 = self.scenario.is_v4;
        let is_futures = is_futures(&request.path);
        let is_signed = find_nonce(request).is_some() || request.path.starts_with(V4_SINGLE) || is_futures;
        let mut draw = self.rng.u32(0..1_000);
        let mut is_drawn = |chance: u32| {
            let hit = draw < chance;
            draw = if hit { u32::MAX } else { draw.saturating_sub(chance) };
            hit
        };
        let faults = self.scenario.faults.clone();
        let reply = match () {
            () if is_drawn(faults.unreachable) => PlannedReply::failed(latency, Reason::Connect),
            () if is_drawn(faults.hanging) => PlannedReply::failed(Duration::MAX, Reason::Timeout),
            () if is_drawn(faults.unavailable) => {
                PlannedReply::new(latency, 503, None, "busy", CallResult::Other)
            }
            () if is_drawn(faults.limited) => {
                let until = self.now() + latency + Duration::from_mins(10);
                if self.rng.bool() {
                    self.locked_until[account] = until;
                } else if self.scenario.addresses > 1 && self.rng.bool() {
                    let address = self.called_address();
                    self.addresses_locked_until[address] = until;
                }
                self.limit_reply(latency)
            }
            () if is_drawn(faults.refused) && is_signed => {
                let (code, info) =
                    if self.rng.bool() { (307, "AccessKey error") } else { (308, "sign error") };
                let v4_code = if code == 307 { "AUTH_101" } else { "AUTH_103" };
                let body = if is_futures {
                    futures_error("403", info)
                } else if is_v4 {
                    format!(r#"{{"rc":1,"mc":"{v4_code}","result":null}}"#)
                } else {
                    format!(r#"{{"code":{code},"data":null,"info":"{info}"}}"#)
                };
                PlannedReply::new(latency, 200, None, &body, CallResult::Refused)
            }
            () if is_drawn(faults.nonce) && is_signed => PlannedReply::nonce_expired(latency, request),
            () if is_drawn(faults.empty) && is_signed => {
                let body = match &*request.path {
                    FUTURES_LIST | POSITIONS => FUTURES_EMPTY,
                    V4_LIST => r#"{"rc":0,"mc":"SUCCESS","result":{"assets":[]}}"#,
                    V4_SINGLE => r#"{"rc":0,"mc":"SUCCESS","result":null}"#,
                    _ => r#"{"code":200,"data":{}}"#,
                };
                PlannedReply::new(latency, 200, None, body, CallResult::Good)
            }
            () if is_drawn(faults.garbage) => {
                PlannedReply::new(latency, 200, None, "<html>", CallResult::Other)
            }
            () => return None,
        };
        Some(reply)
    }

    fn draw_latency(&mut self, longest: Duration) -> Duration {
        Duration::from_millis(self.rng.u64(0..=to_millis(longest)))
    }

    fn good_reply(&self, request: &ScriptedRequest, offset_seconds: i64, latency: Duration) -> PlannedReply {
        // A part of a poll, and not a poll of its own.
        let part = match &*request.path {
            V1_MARKETS => Some(r#"{"btc_usdt":{}}"#),
            V4_MARKETS => Some(V4_MARKETS_BODY),
            POSITIONS => Some(FUTURES_EMPTY),
            _ => None,
        };
        if let Some(body) = part {
            return PlannedReply::new(latency, 200, None, body, CallResult::Other);
        }
        let body = if is_clock_call(request) {
            let now = (EPOCH + self.now() + latency / 2).as_millis();
            let time = now.saturating_add_signed(offset_seconds.saturating_mul(1_000));
            if self.scenario.is_v4 {
                format!(r#"{{"rc":0,"mc":"SUCCESS","result":{{"serverTime":{time}}}}}"#)
            } else {
                format!(r#"{{"code":200,"data":{{"serverTime":{time}}},"info":"success"}}"#)
            }
        } else if request.path == V4_LIST {
            format!(r#"{{"rc":0,"mc":"SUCCESS","result":{{"assets":[{}]}}}}"#, v4_row("usdt"))
        } else if request.path == V4_SINGLE && request.query.ends_with("=hidden") {
            format!(r#"{{"rc":0,"mc":"SUCCESS","result":{}}}"#, v4_row("hidden"))
        } else if request.path == V4_SINGLE {
            r#"{"rc":1,"mc":"CURRENCY_001","result":null}"#.to_owned()
        } else if request.path == FUTURES_LIST {
            FUTURES_BODY.to_owned()
        } else if request.path == V4_PRICES {
            r#"{"rc":0,"mc":"SUCCESS","result":[{"s":"btc_usdt","p":"5"}]}"#.to_owned()
        } else if request.path.ends_with("getTickers") {
            r#"{"btc_usdt":{"price":5}}"#.to_owned()
        } else {
            r#"{"code":200,"data":{"usdt":{"available":"5","freeze":"0"}},"info":"success"}"#.to_owned()
        };
        PlannedReply::new(latency, 200, None, &body, CallResult::Good)
    }

    fn limit_reply(&mut self, latency: Duration) -> PlannedReply {
        let retry_after = self.rng.bool().then(|| Duration::from_secs(self.rng.u64(1..=1_200)));
        let result = CallResult::Limit(retry_after);
        if retry_after.is_some() || self.scenario.is_v4 || self.rng.bool() {
            return PlannedReply::new(latency, 429, retry_after, "", result);
        }
        PlannedReply::new(latency, 200, None, r#"{"code":404,"info":"account locked"}"#, result)
    }
}

/// The list of v4 spot, which has one of the three watched currencies.
const V4_LIST: &str = "/v4/balances";
/// The call for one currency. The exchange has one of the two that the list leaves out.
const V4_SINGLE: &str = "/v4/balance";
const V4_PRICES: &str = "/v4/public/ticker/price";
const V1_MARKETS: &str = "/data/api/v1/getMarketConfig";
/// The list of markets.
pub(super) const V4_MARKETS: &str = "/v4/public/symbol";
const V4_MARKETS_BODY: &str = r#"{"rc":0,"mc":"SUCCESS","result":{"symbols":[{"symbol":"btc_usdt","state":"ONLINE","tradingEnabled":true}]}}"#;
/// The balances of a futures wallet.
const FUTURES_LIST: &str = "/future/user/v1/balance/list";
const FUTURES_BODY: &str = r#"{"returnCode":0,"msgInfo":"success","error":null,"result":[{"coin":"usdt","walletBalance":"5","availableBalance":"5","openOrderMarginFrozen":"0","isolatedMargin":"0","crossedMargin":"0"}]}"#;
/// The open positions of a futures wallet.
pub(super) const POSITIONS: &str = "/future/user/v1/position";
const FUTURES_EMPTY: &str = r#"{"returnCode":0,"msgInfo":"success","error":null,"result":[]}"#;

fn is_futures(path: &str) -> bool {
    path.starts_with("/future/")
}

fn futures_error(code: &str, message: &str) -> String {
    format!(
        r#"{{"returnCode":1,"msgInfo":"failure","error":{{"code":"{code}","msg":"{message}"}},"result":null}}"#
    )
}

fn v4_row(currency: &str) -> String {
    format!(r#"{{"currency":"{currency}","availableAmount":"5","frozenAmount":"0"}}"#)
}

/// The text of [`ModelEgress::configured`] in a configuration.
pub(super) fn address_text(egress: ModelEgress) -> String {
    format!("address{}", egress.configured)
}

/// The address at which the exchange sees calls that leave by `text`.
fn parse_address(text: &str) -> usize {
    let configured = text.strip_prefix("address").and_then(|number| number.parse().ok());
    seen_address(configured.map(|configured| ModelEgress { name: 0, configured }))
}

fn is_clock_call(request: &ScriptedRequest) -> bool {
    request.path.ends_with("getServerTime") || request.path.ends_with("/public/time")
}

fn find_nonce(request: &ScriptedRequest) -> Option<&str> {
    request.query.split('&').find_map(|pair| pair.strip_prefix("nonce="))
}

fn to_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
