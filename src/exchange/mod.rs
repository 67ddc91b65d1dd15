//! Asking the exchange: one read of one wallet, and all that keeps it honest and harmless.
//! Failover, clock, limits, signature, transport and decoding meet here and nowhere else.
//! Knows no metric, no page, and not when to ask: that is the poller's affair.

mod amount;
mod api_version;
mod auth_backoff;
mod balance;
mod credentials;
mod currency;
mod decode;
mod endpoints;
mod error_text;
mod failover;
mod failure;
pub mod futures;
mod http;
mod price;
mod rate_limiter;
mod root_store;
mod secret;
mod server_clock;
mod signing;
mod staleness;
mod transport;
pub mod v1;
pub mod v4;

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::futures::Notified;

#[cfg(test)]
pub(crate) use self::transport::{Script, ScriptedRequest, ScriptedResponse};
pub use self::{
    amount::Amount,
    api_version::ApiVersion,
    balance::{Balance, BalanceAnswer, RawBody, Wallet},
    credentials::{Credentials, KeyHalf, KeySource},
    currency::currency_name,
    endpoints::Endpoints,
    failure::{Detail, Failure, Reason},
    http::BaseUrl,
    price::{PriceTable, QUOTE},
    rate_limiter::{KEY_CALLS, KEY_SPAN, PACE_SPAN, PROCESS_CALLS, PROCESS_SPAN, Paused},
    secret::{KeyId, KeyPair, Secret},
    server_clock::ClockReading,
};
use self::{
    api_version::Endpoint,
    auth_backoff::AuthBackoff,
    failover::{Deadline, HostRotation, PreferredHost},
    http::Reply,
    rate_limiter::{Caller, Permit, RateLimiter},
    server_clock::ServerClock,
    staleness::FreshnessCheck,
    transport::Transport,
};
use crate::clock::{Clock, Timestamp};

/// How long a read waits in all for leave to make its calls. Where this is not enough, others use up
/// the limits, and a poll that fails and says so is better than one that hangs.
const PERMIT_WAIT_MAX: Duration = Duration::from_mins(1);
/// How long a read waits for another's reading of the host's clock before it does without.
const CLOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// What all accounts share: the HTTP client, the limits, the refused keys, the exchange's clocks.
#[derive(Debug)]
pub struct Client {
    clock: Clock,
    transport: Transport,
    rate_limiter: Arc<RateLimiter>,
    auth_backoff: Mutex<AuthBackoff>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    /// The pair last sent for each account: whoever answers a call without one may remember it.
    last_sent_keys: Mutex<HashMap<Box<str>, KeyPair>>,
    startup_delay: Duration,
}

/// The clock of one host. Whoever reads it from the exchange takes the turn first; whoever only
/// needs the time never waits.
#[derive(Debug)]
struct Host {
    name: String,
    /// How the last reading failed, if it did, and when.
    reading: tokio::sync::Mutex<Option<(Duration, Failure)>>,
    clock: Mutex<ServerClock>,
}

impl Host {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), reading: tokio::sync::Mutex::default(), clock: Mutex::default() }
    }

    fn clock(&self) -> MutexGuard<'_, ServerClock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is needed to ask for one account. Held by its poller alone, so that one call of an account
/// is in flight at a time.
#[derive(Debug)]
pub struct Session {
    /// The `account` label.
    pub account: Box<str>,
    /// Where to ask, and in which version of the API.
    pub endpoints: Endpoints,
    /// What to sign with.
    pub credentials: Credentials,
    /// By the first of the wallets that are asked for at the same base URLs.
    preferences: HashMap<Wallet, PreferredHost>,
}

/// What is needed to ask for prices: no key, for anyone may. Held by one poller alone, so that one
/// call for prices is in flight at a time.
#[derive(Debug)]
pub struct PriceClient {
    /// Where to ask, and in which version of the API.
    pub endpoints: Endpoints,
    preference: PreferredHost,
}

impl PriceClient {
    /// A ticker that has not been read yet.
    #[must_use]
    pub fn new(endpoints: Endpoints) -> Self {
        Self { endpoints, preference: PreferredHost::default() }
    }
}

/// Nothing was sent: the account is paused, or its key was refused to another account while the
/// read waited for its turn. That is no failed poll, for none was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped;

/// What to read, and within what time.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest<'a> {
    /// The wallet.
    pub wallet: Wallet,
    /// The last good answer; one that is equal is not decoded again.
    pub last_body: Option<&'a RawBody>,
    /// The most time that all calls of the read may take.
    pub timeout: Duration,
    /// The place of a base URL that is not to be asked, because another one must confirm what it answered.
    pub except: Option<usize>,
}

/// A read that came to an end.
#[derive(Debug)]
pub struct ReadOutcome {
    /// What came of it.
    pub outcome: Result<ReadAnswer, Failure>,
    /// The time its calls took, waiting for leave to make them not counted.
    pub took: Duration,
    /// The clocks that the calls used, by host, where they are known.
    pub clocks: Vec<(String, ClockReading)>,
    /// Whether a new key pair has worked and is now in use.
    pub rotated: bool,
}

/// A good answer, and the base URL that gave it.
#[derive(Debug)]
pub struct ReadAnswer {
    /// When its request was sent. Ages count from here.
    pub sent: Timestamp,
    /// The place of the base URL that gave it.
    pub place: usize,
    /// The answer; `None` if its body is the one that was known already.
    pub answer: Option<BalanceAnswer>,
}

/// A good answer to the call for prices.
#[derive(Debug)]
pub struct PricesAnswer {
    /// When its request was sent.
    pub sent: Timestamp,
    /// What it said.
    pub prices: PriceTable,
}

impl Session {
    /// A session that has not asked yet.
    #[must_use]
    pub fn new(account: Box<str>, endpoints: Endpoints, credentials: Credentials) -> Self {
        Self { account, endpoints, credentials, preferences: HashMap::new() }
    }

    fn host_rotation(&self, request: ReadRequest<'_>, now: Duration) -> HostRotation {
        let wallet = request.wallet;
        let preference =
            self.preferences.get(&endpoints::representative_wallet(wallet)).copied().unwrap_or_default();
        HostRotation::new(preference, self.endpoints.for_wallet(wallet).len(), now).excluding(request.except)
    }

    fn record_success(&mut self, wallet: Wallet, place: usize, now: Duration) {
        self.preferences
            .entry(endpoints::representative_wallet(wallet))
            .or_default()
            .record_success(place, now);
    }

    /// On whose behalf its calls are made.
    fn caller(&self) -> Caller<'_> {
        Caller::Account { key: self.credentials.pair().id(), name: &self.account }
    }
}

/// The state of one read under way.
struct ReadAttempt<'a> {
    session: &'a mut Session,
    /// The answer that is known already.
    last_body: Option<&'a RawBody>,
    began: Duration,
    deadline: Deadline,
    /// The hosts whose clocks the calls went by.
    clocks: Vec<Arc<Host>>,
    /// The clock that stamped the last signed call.
    stamped_by: ServerClock,
}

impl<'a> ReadAttempt<'a> {
    fn new(session: &'a mut Session, began: Duration, timeout: Duration) -> Self {
        Self {
            session,
            last_body: None,
            began,
            deadline: Deadline::new(timeout),
            clocks: Vec::new(),
            stamped_by: ServerClock::default(),
        }
    }

    /// Notes that a call used the clock of `host`.
    fn record_clock(&mut self, host: &Arc<Host>) {
        if !self.clocks.iter().any(|known| Arc::ptr_eq(known, host)) {
            self.clocks.push(Arc::clone(host));
        }
    }
}

/// A call under way: for whom, to whom, and what an answer to it must be held against.
struct CallContext<'a> {
    caller: Caller<'a>,
    base: &'a BaseUrl,
    path: &'static str,
    /// What no text may hold that comes of it.
    secrets: &'a [&'a str],
    sent: Timestamp,
    timeout: Duration,
    /// How long a cache may have kept the answer.
    max_cached: Duration,
    /// By which clock its answer must be of now.
    clock: DateClock,
}

/// By which clock the `Date` of an answer is judged.
#[derive(Clone, Copy)]
enum DateClock {
    /// The exchange's, as it was last read.
    Read(ClockReading),
    /// This machine's: the exchange's was never read.
    Ours,
    /// None: the answer tells the time itself.
    Untold,
}

impl From<Option<ClockReading>> for DateClock {
    fn from(reading: Option<ClockReading>) -> Self {
        reading.map_or(Self::Ours, Self::Read)
    }
}

impl CallContext<'_> {
    /// The `Date` of an answer that is made at `now`.
    fn expected_date(&self, now: Timestamp) -> Option<Duration> {
        match self.clock {
            DateClock::Read(reading) => Some(reading.expected_date(now)),
            DateClock::Ours => Some(now.unix),
            DateClock::Untold => None,
        }
    }
}

/// Why a call brought nothing.
enum CallError {
    Paused,
    /// Another account's call with the same key was refused meanwhile.
    Refused,
    Failed(Failure),
}

impl From<Paused> for CallError {
    fn from(_: Paused) -> Self {
        Self::Paused
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A pause that began between two calls of a read: the first call's own failure was the host's, and is
/// lost to the pause; what can be said is that no answer came.
fn paused_midway() -> Failure {
    Failure::new(Reason::RateLimited, "stopped halfway: all accounts were paused after limit replies")
}

/// Reads a reply by `decode`. One without a whole body says what it says by its status alone.
fn decode_reply<'a, T>(
    status: u16,
    body: Result<Cow<'a, [u8]>, String>,
    decode: impl FnOnce(u16, Cow<'a, [u8]>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let broken = match body {
        Ok(body) => return decode(status, body),
        Err(why) => why,
    };
    let text = format!("HTTP {status}, and {broken}");
    match decode(status, Cow::default()) {
        Err(failure) => Err(Failure { text, ..failure }),
        Ok(_) => Err(Failure::new(Reason::Body, text)),
    }
}

/// What an answer of `wallet` that was good before says, taken apart once more; `None` if it says nothing.
#[must_use]
pub fn decode_again(api: ApiVersion, wallet: Wallet, original: &RawBody) -> Option<BalanceAnswer> {
    let answer = Endpoint::new(api, wallet)?.decode_balances(original.status(), original.body()).ok()?;
    Some(BalanceAnswer { raw_body: Some(original.clone()), ..answer })
}

impl Client {
    /// An exchange that has not been asked yet, and is not asked for the first [`silence`](Self::silence). That holds for
    /// base URLs on this machine too: a proxy may pass their calls on.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub fn new(clock: Clock) -> Result<Self, String> {
        Ok(Self::with_transport(Transport::http()?, clock, true))
    }

    /// A simulated exchange that ends with this process, so that no call of an earlier process counts: it may be asked
    /// at once.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub fn simulated(clock: Clock) -> Result<Self, String> {
        Ok(Self::with_transport(Transport::http()?, clock, false))
    }

    /// An exchange whose answers are made up by `script`.
    #[cfg(test)]
    pub(crate) fn scripted(script: Script, clock: Clock) -> Self {
        Self::with_transport(Transport::Script(script), clock, true)
    }

    fn with_transport(transport: Transport, clock: Clock, is_real: bool) -> Self {
        Self {
            clock,
            transport,
            rate_limiter: Arc::new(RateLimiter::new(clock, is_real)),
            auth_backoff: Mutex::default(),
            hosts: Mutex::default(),
            last_sent_keys: Mutex::default(),
            startup_delay: if is_real { PACE_SPAN } else { Duration::ZERO },
        }
    }

    /// What was wrong at the start with the certificate authorities that the user named; a sentence.
    #[must_use]
    pub fn trust_warning(&self) -> Option<&str> {
        self.transport.trust_warning()
    }

    /// How long nothing is sent after the start: a process that was killed this very moment may have made all the calls
    /// that a second allows.
    #[must_use]
    pub fn startup_delay(&self) -> Duration {
        self.startup_delay
    }

    /// Reads a wallet once: from the base URL that worked last, then, if it is the host that fails,
    /// from the others, freshly signed, all within the timeout.
    ///
    /// # Errors
    /// If nothing was asked: see [`Unasked`].
    pub async fn read(
        &self,
        session: &mut Session,
        request: ReadRequest<'_>,
    ) -> Result<ReadOutcome, Skipped> {
        let mut attempt = ReadAttempt::new(session, self.clock.now().elapsed, request.timeout);
        attempt.last_body = request.last_body;
        let outcome = match self.read_from_any(&mut attempt, request).await {
            Ok(answer) => Ok(answer),
            Err(CallError::Failed(failure)) => Err(failure),
            Err(CallError::Refused) => return Err(Skipped),
            Err(CallError::Paused) if attempt.deadline.exceeded().is_none() => return Err(Skipped),
            Err(CallError::Paused) => Err(paused_midway()),
        };
        let took = attempt.deadline.exceeded().unwrap_or_default();
        let clocks = attempt.clocks.iter();
        let clocks = clocks.filter_map(|host| Some((host.name.clone(), host.clock().reading()?))).collect();
        let rotated = outcome.is_ok() && session.credentials.record_success();
        Ok(ReadOutcome { outcome, took, clocks, rotated })
    }

    /// Reads the prices once: from the base URL that worked last, then, if it is the host that fails,
    /// from the others, all within `timeout`. No key has a part in it.
    ///
    /// # Errors
    /// If nothing was asked: see [`Unasked`].
    pub async fn prices(
        &self,
        ticker: &mut PriceClient,
        timeout: Duration,
    ) -> Result<Result<PricesAnswer, Failure>, Skipped> {
        let mut budget = Deadline::new(timeout);
        match self.prices_from_any(ticker, &mut budget).await {
            Ok(prices) => Ok(Ok(prices)),
            Err(CallError::Failed(failure)) => Ok(Err(failure)),
            Err(CallError::Refused) => Err(Skipped),
            Err(CallError::Paused) if budget.exceeded().is_none() => Err(Skipped),
            Err(CallError::Paused) => Ok(Err(paused_midway())),
        }
    }

    async fn prices_from_any(
        &self,
        ticker: &mut PriceClient,
        budget: &mut Deadline,
    ) -> Result<PricesAnswer, CallError> {
        let api = ticker.endpoints.api;
        let bases = &ticker.endpoints.base_urls;
        let mut turns = HostRotation::new(ticker.preference, bases.len(), self.clock.now().elapsed);
        while let Some((place, share)) = turns.next(budget.remaining()) {
            let Some(base) = bases.get(place) else { continue };
            match self.prices_from(budget, base, api, share).await {
                Ok(prices) => {
                    ticker.preference.record_success(place, self.clock.now().elapsed);
                    return Ok(prices);
                }
                Err(CallError::Failed(failure)) => turns.record_failure(failure)?,
                Err(stop) => return Err(stop),
            }
        }
        Err(turns.into_failure().into())
    }

    async fn prices_from(
        &self,
        budget: &mut Deadline,
        base: &BaseUrl,
        api: ApiVersion,
        share: u32,
    ) -> Result<PricesAnswer, CallError> {
        let request = api.prices_request();
        let timeout = budget.call_timeout(base, share)?;
        let permit = self.permit(budget, Caller::Anyone).await?;
        let sent = self.clock.now();
        let reply = self.transport.get(base, &request, &[], timeout).await;
        budget.spend(sent.age(self.clock.now()));
        let clock = self.host(&base.host()).clock().reading().into();
        let prices = {
            let pairs = self.last_sent_keys();
            let secrets: Vec<_> = pairs.values().flat_map(|pair| [pair.access(), pair.secret()]).collect();
            let (caller, path) = (Caller::Anyone, request.path);
            let (secrets, max_cached) = (&*secrets, timeout);
            let call = CallContext { caller, base, path, secrets, sent, timeout, max_cached, clock };
            self.check_reply(&call, reply, |status, body| api.decode_prices(status, &body))
        };
        drop(permit);
        Ok(PricesAnswer { sent, prices: prices? })
    }

    /// Asks `base` for its time. Returns how far it is ahead of ours, in seconds.
    ///
    /// # Errors
    /// Whatever kept the time from coming, or a pause.
    pub async fn measure_skew(
        &self,
        session: &mut Session,
        base: &BaseUrl,
        timeout: Duration,
    ) -> Result<f64, Failure> {
        let mut attempt = ReadAttempt::new(session, self.clock.now().elapsed, timeout);
        match self.read_clock(&mut attempt, base, timeout).await {
            Ok(reading) => Ok(reading.skew_seconds(self.clock.now())),
            Err(CallError::Failed(failure)) => Err(failure),
            Err(CallError::Paused | CallError::Refused) => {
                Err(Failure::new(Reason::RateLimited, "paused after a limit reply"))
            }
        }
    }

    /// The pause the session's account is in now.
    #[must_use]
    pub fn pause(&self, session: &Session) -> Option<Paused> {
        self.rate_limiter.pause(session.caller())
    }

    /// The pause that calls for prices are in now.
    #[must_use]
    pub fn price_pause(&self) -> Option<Paused> {
        self.rate_limiter.pause(Caller::Anyone)
    }

    /// Ends when a pause begins, whosever it is, after this was called.
    pub fn pause_begins(&self) -> Notified<'_> {
        self.rate_limiter.pause_begins()
    }

    /// Until when the session's key pair is not to be tried for `wallet` because it was refused,
    /// even if that is past by now; `None` if it was not.
    #[must_use]
    pub fn refused_until(&self, session: &Session, wallet: Wallet) -> Option<Duration> {
        self.auth_backoff().blocked_until(session.credentials.pair().pair_id(), wallet)
    }

    async fn read_from_any(
        &self,
        attempt: &mut ReadAttempt<'_>,
        request: ReadRequest<'_>,
    ) -> Result<ReadAnswer, CallError> {
        let wallet = request.wallet;
        let api = attempt.session.endpoints.api;
        let Some(call) = Endpoint::new(api, wallet) else {
            let text = format!("API {} has no wallet {wallet}: nothing was asked", api.label());
            return Err(Failure::new(Reason::Api, text).into());
        };
        let mut turns = attempt.session.host_rotation(request, self.clock.now().elapsed);
        while let Some((place, share)) = turns.next(attempt.deadline.remaining()) {
            let Some(base) = attempt.session.endpoints.for_wallet(wallet).get(place).cloned() else {
                continue;
            };
            match self.read_from(attempt, &base, wallet, call, share).await {
                Ok((sent, answer)) => {
                    if request.except.is_none() {
                        attempt.session.record_success(wallet, place, self.clock.now().elapsed);
                    }
                    return Ok(ReadAnswer { sent, place, answer });
                }
                Err(CallError::Failed(failure)) => turns.record_failure(failure)?,
                Err(stop) => return Err(stop),
            }
        }
        Err(turns.into_failure().into())
    }

    /// Reads from one base URL, with a new key pair first if there is one to be tried.
    async fn read_from(
        &self,
        attempt: &mut ReadAttempt<'_>,
        base: &BaseUrl,
        wallet: Wallet,
        call: Endpoint,
        share: u32,
    ) -> Result<(Timestamp, Option<BalanceAnswer>), CallError> {
        let host = self.sync_clock(attempt, base, call, share).await?;
        loop {
            let result = self.read_once(attempt, base, wallet, call, &host, share).await;
            let Err(CallError::Failed(failure)) = &result else { return result };
            if failure.reason.may_be_clock_fault()
                && self.resync_after_refusal(attempt, base, call, share).await
            {
                // The key may be a good one.
                self.auth_backoff().forget(attempt.session.credentials.pair().pair_id(), wallet);
                continue;
            }
            let credentials = &mut attempt.session.credentials;
            let the_other_may_work = match failure.reason {
                reason if reason.is_key_fault() => credentials.record_refusal(),
                // Nobody knows every way in which a key may be refused.
                Reason::Http | Reason::Api | Reason::Decode => credentials.is_suspect(),
                _ => false,
            };
            if !the_other_may_work {
                return result;
            }
        }
    }

    async fn read_once(
        &self,
        attempt: &mut ReadAttempt<'_>,
        base: &BaseUrl,
        wallet: Wallet,
        call: Endpoint,
        host: &Arc<Host>,
        share: u32,
    ) -> Result<(Timestamp, Option<BalanceAnswer>), CallError> {
        let pair = attempt.session.credentials.pair().clone();
        let timeout = attempt.deadline.call_timeout(base, share)?;
        let mut permit = self.permit(&mut attempt.deadline, attempt.session.caller()).await?;
        let refused_meanwhile = self.auth_backoff().is_recorded(pair.pair_id(), wallet, attempt.began);
        if refused_meanwhile {
            return Err(CallError::Refused);
        }
        let sent = self.clock.now();
        let clock = self.clock_of(attempt.session, host);
        let time = if call.needs_nonce() {
            permit.next_nonce(&base.host(), clock.time_ms(sent))
        } else {
            clock.signing_time_ms(sent)
        };
        let request = call.sign(&pair, time);
        self.last_sent_keys().insert(attempt.session.account.clone(), pair.clone());
        let known = attempt.last_body.map(RawBody::body).unwrap_or_default();
        let reply = self.transport.get(base, &request, known, timeout).await;
        attempt.deadline.spend(sent.age(self.clock.now()));
        attempt.record_clock(host);
        attempt.stamped_by = clock;
        let (secrets, path) = ([pair.access(), pair.secret()], request.path);
        let (caller, clock) = (attempt.session.caller(), clock.reading().into());
        let (secrets, max_cached) = (&secrets, call.max_cache_age(timeout));
        let asked = CallContext { caller, base, path, secrets, sent, timeout, max_cached, clock };
        // The permit is held until the reply is understood: nobody may slip in before a pause.
        let result = self.check_reply(&asked, reply, |status, body| {
            if attempt.last_body.is_some_and(|known| known.equals(status, &body)) {
                return Ok(None);
            }
            let answer = call.decode_balances(status, &body)?;
            Ok(Some(BalanceAnswer { raw_body: Some(RawBody::new(status, body.into_owned())), ..answer }))
        });
        let note = |worked| {
            let now = self.clock.now().elapsed;
            self.auth_backoff().record(pair.pair_id(), wallet, worked, now);
        };
        match &result {
            Ok(_) => note(true),
            Err(failure) if failure.reason.is_key_fault() => note(false),
            Err(_) => {}
        }
        if let Err(failure) = &result
            && failure.reason.may_be_clock_fault()
            && failure.reason != Reason::Cached
        {
            permit.release_nonce();
        }
        drop(permit);
        Ok((sent, result?))
    }

    /// Reads the exchange's clock again after a refusal, at most once in 30 seconds, unless another read has done so
    /// since. Returns whether it has moved from the one that stamped the refused call.
    async fn resync_after_refusal(
        &self,
        attempt: &mut ReadAttempt<'_>,
        base: &BaseUrl,
        call: Endpoint,
        share: u32,
    ) -> bool {
        let host = self.host(&clock_host(attempt.session, base, call).host());
        let used = attempt.stamped_by;
        let has_moved =
            |session: &Session| self.clock_of(session, &host).has_moved_since(&used, self.clock.now());
        if has_moved(attempt.session) {
            return true;
        }
        if host.clock().request_recheck(self.clock.now()) {
            // A clock that cannot be read has not moved.
            let _ = self.sync_clock(attempt, base, call, share).await;
        }
        has_moved(attempt.session)
    }

    /// Reads the clock by which calls of `base` are stamped, if that is due, and returns whose it is.
    /// A host that cannot even tell the time fails the read, but only that of who asked; one that has
    /// no such endpoint does not, nor does one that only tells the time for another.
    async fn sync_clock(
        &self,
        attempt: &mut ReadAttempt<'_>,
        base: &BaseUrl,
        call: Endpoint,
        share: u32,
    ) -> Result<Arc<Host>, CallError> {
        let teller = clock_host(attempt.session, base, call);
        let is_own = teller == *base;
        let host = self.host(&teller.host());
        if !host.clock().is_due(self.clock.now()) {
            return Ok(host);
        }
        // Others that ask the same host meanwhile wait here, and find it done, or share the failure:
        // were each to wait for a silent host in turn, the last would wait for hours. But none waits
        // for long: who has the turn may be waiting for leave itself, and what is known will do.
        let waiting_since = self.clock.now().elapsed;
        let Ok(mut turn) = tokio::time::timeout(CLOCK_WAIT_MAX, host.reading.lock()).await else {
            return Ok(Arc::clone(&host));
        };
        if !host.clock().is_due(self.clock.now()) {
            return Ok(Arc::clone(&host));
        }
        if let Some((_, failure)) = turn.as_ref().filter(|(at, _)| is_own && *at >= waiting_since) {
            return Err(failure.clone().into());
        }
        // Another's clock may take half of the time, for the call itself is still to come.
        let timeout =
            attempt.deadline.call_timeout(base, if is_own { share } else { share.saturating_mul(2) })?;
        let failure = match self.read_clock(attempt, &teller, timeout).await {
            Ok(_) => return Ok(Arc::clone(&host)),
            Err(CallError::Failed(failure)) if failure.reason != Reason::RateLimited => failure,
            Err(stop) => return Err(stop),
        };
        // A cache may keep the time, which is no secret, and let the balances through. So may a firewall refuse the time,
        // and only then: then the failure is not one of the host by its reason.
        if is_own && failure.reason.is_host_fault() && failure.reason != Reason::Cached {
            *turn = Some((self.clock.now().elapsed, failure.clone()));
            return Err(failure.into());
        }
        host.clock().record_failure(self.clock.now());
        drop(turn);
        tracing::warn!(
            host = teller.host(),
            reason = failure.reason.label(),
            "cannot read the exchange's clock, so requests go by the last reading or by this machine's clock: {}",
            failure.text
        );
        Ok(Arc::clone(&host))
    }

    async fn read_clock(
        &self,
        attempt: &mut ReadAttempt<'_>,
        base: &BaseUrl,
        timeout: Duration,
    ) -> Result<ClockReading, CallError> {
        let host = self.host(&base.host());
        let first = self.request_time(attempt, base, timeout).await?;
        let mut reading = first;
        if host.clock().contradicts(&first) {
            tokio::time::sleep(server_clock::CONFIRM_AFTER).await;
            let timeout = timeout.min(attempt.deadline.call_timeout(base, 1)?);
            reading = self.request_time(attempt, base, timeout).await?;
            if !host.clock().is_confirmed_by(&first, &reading) {
                let text =
                    format!("{base}: two readings of its clock in a row do not agree: neither is used");
                return Err(Failure::new(Reason::Clock, text).into());
            }
        }
        host.clock().store(reading, self.clock.now());
        Ok(reading)
    }

    async fn request_time(
        &self,
        attempt: &mut ReadAttempt<'_>,
        base: &BaseUrl,
        timeout: Duration,
    ) -> Result<ClockReading, CallError> {
        let api = attempt.session.endpoints.api;
        let request = api.server_time_request();
        let pair = attempt.session.credentials.pair().clone();
        let permit = self.permit(&mut attempt.deadline, attempt.session.caller()).await?;
        let sent = self.clock.now();
        let reply = self.transport.get(base, &request, &[], timeout).await;
        let received = self.clock.now();
        attempt.deadline.spend(sent.age(received));
        // The call is not signed, but the server may remember what was.
        let (secrets, path) = ([pair.access(), pair.secret()], request.path);
        let caller = attempt.session.caller();
        // No clock to hold its Date against: the clock that it would take is the one that is read.
        let secrets = &secrets;
        let call = CallContext {
            caller,
            base,
            path,
            secrets,
            sent,
            timeout,
            max_cached: timeout,
            clock: DateClock::Untold,
        };
        let date = reply.as_ref().ok().and_then(|reply| reply.date);
        let time = self.check_reply(&call, reply, |status, body| api.decode_server_time(status, &body));
        drop(permit);
        Ok(ClockReading::new(time?, sent, received).with_date(date))
    }

    async fn permit(&self, budget: &mut Deadline, caller: Caller<'_>) -> Result<Permit, CallError> {
        let began = self.clock.now();
        let leave = self.rate_limiter.permit(caller);
        let leave = tokio::time::timeout(PERMIT_WAIT_MAX.saturating_sub(budget.waited), leave).await;
        budget.waited += began.age(self.clock.now());
        let Ok(leave) = leave else {
            let text = "nothing was asked: calls of other accounts or with the same key take up the limits";
            return Err(Failure::new(Reason::Timeout, text).into());
        };
        Ok(leave?)
    }

    /// Turns a reply into what it says, if it is of now, and a failure into one that may be shown.
    fn check_reply<T>(
        &self,
        call: &CallContext<'_>,
        reply: Result<Reply<'_>, Failure>,
        decode: impl FnOnce(u16, Cow<'_, [u8]>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let now = self.clock.now();
        let decoded = reply.and_then(|reply| {
            let freshness = FreshnessCheck {
                since_sent: call.sent.age(now),
                timeout: call.timeout,
                expected_date: call.expected_date(now),
                max_cached: call.max_cached,
                cached: reply.age,
                made: reply.date,
            };
            // A refusal or a limit reply counts however old it is.
            let decoded = decode_reply(reply.status, reply.body, decode);
            let decoded = decoded.and_then(|value| freshness.check().map(|()| value));
            decoded.map_err(|failure| Failure {
                text: format!("{}{}: {}", call.base, call.path, failure.text),
                retry_after: reply.retry_after,
                ..failure
            })
        });
        decoded.map_err(|failure| {
            if failure.reason == Reason::RateLimited {
                self.rate_limiter.record_limit_reply(call.caller, failure.retry_after);
            }
            failure.redact(call.secrets)
        })
    }

    /// The exchange's clock. A host that has never told it has that of the session's others: our own,
    /// if it is ahead, would make a nonce that none of them can follow.
    fn clock_of(&self, session: &Session, host: &Host) -> ServerClock {
        let own = *host.clock();
        let others = session.endpoints.base_urls.iter().map(|base| *self.host(&base.host()).clock());
        let known = std::iter::once(own).chain(others).find(|clock| clock.reading().is_some());
        known.unwrap_or(own)
    }

    fn auth_backoff(&self) -> MutexGuard<'_, AuthBackoff> {
        self.auth_backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_sent_keys(&self) -> MutexGuard<'_, HashMap<Box<str>, KeyPair>> {
        self.last_sent_keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host(&self, name: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(name.to_owned()).or_insert_with(|| Arc::new(Host::new(name))))
    }
}

/// The base URL whose clock calls of `base` go by: its own, but the hosts of futures tell no time, and those of spot
/// do.
fn clock_host(session: &Session, base: &BaseUrl, call: Endpoint) -> BaseUrl {
    let spot = session.endpoints.base_urls.first().filter(|_| matches!(call, Endpoint::Futures));
    spot.unwrap_or(base).clone()
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::clock::simulated;

    fn session() -> Session {
        let half = || {
            let secret = Secret::new(&Zeroizing::new("key".to_owned()));
            KeyHalf::Given(secret.unwrap_or_else(|why| panic!("{why}")))
        };
        let credentials = Credentials::open(KeySource { access: half(), secret: half() }, Duration::ZERO);
        let base = BaseUrl::parse("https://host.test").unwrap_or_else(|why| panic!("{why}"));
        let endpoints = Endpoints { base_urls: vec![base], ..Endpoints::default() };
        Session::new("main".into(), endpoints, credentials.unwrap_or_else(|why| panic!("{why}")))
    }

    /// An exchange whose machine is suspended for this long while its answers to calls of `path` lie in the socket.
    fn answering(path: &'static str, asleep: Duration, clock: Clock) -> Client {
        let script = Script(Box::new(move |asked| {
            Box::pin(async move {
                if asked.path == path {
                    simulated::suspend(asleep);
                }
                let body: &[u8] = match asked.path.as_str() {
                    v1::SERVER_TIME_PATH => br#"{"code":200,"data":{"serverTime":1700000000000}}"#,
                    v1::PRICES_PATH => br#"{"btc_usdt":{"price":5}}"#,
                    _ => br#"{"code":200,"data":{"usdt":{"available":"5","freeze":"0"}}}"#,
                };
                Ok(ScriptedResponse { status: 200, retry_after: None, body: body.to_vec() })
            })
        }));
        Client::scripted(script, clock)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_lay_in_the_socket_while_the_machine_slept_is_dropped() {
        const TIMEOUT: Duration = Duration::from_secs(10);
        let balances = "/trade/api/v1/getBalance";
        for (asleep, reason) in [(TIMEOUT, None), (Duration::from_hours(8), Some(Reason::Timeout))] {
            for path in [balances, v1::SERVER_TIME_PATH] {
                simulated::start();
                let exchange = answering(path, asleep, Clock::start());
                let request =
                    ReadRequest { wallet: Wallet::Spot, last_body: None, timeout: TIMEOUT, except: None };
                let read = exchange.read(&mut session(), request).await.map(|read| read.outcome);
                let found = read.map(|outcome| outcome.err().map(|failure| failure.reason));
                // A slow answer about the time leaves none for the balances.
                let expected = if path == balances { reason } else { Some(Reason::Timeout) };
                assert_eq!(found, Ok(expected), "{path} {asleep:?}");
            }
            simulated::start();
            let exchange = answering(v1::PRICES_PATH, asleep, Clock::start());
            let read = exchange.prices(&mut PriceClient::new(session().endpoints), TIMEOUT).await;
            let found = read.map(|outcome| outcome.err().map(|failure| failure.reason));
            assert_eq!(found, Ok(reason), "prices {asleep:?}");
        }
    }
}
