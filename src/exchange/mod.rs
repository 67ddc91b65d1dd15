//! Asking the exchange: one read of one wallet, and all that keeps it honest and harmless.
//! Failover, clock, limits, signature, transport and decoding meet here and nowhere else.
//! Knows no metric, no page, and not when to ask: that is the poller's affair.

mod balance;
mod dialect;
mod failover;
mod failure;
pub mod futures;
mod keyring;
mod limits;
mod price;
mod reading;
mod refusals;
mod secret;
mod server_clock;
mod signature;
mod transport;
pub mod v1;
pub mod v4;
mod venue;
mod wire;

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::futures::Notified;

#[cfg(test)]
pub(crate) use self::wire::{Asked, Script, Told};
pub use self::{
    balance::{Amount, Answer, Balance, Original, Wallet, currency_name},
    dialect::Api,
    failure::{Failure, Reason},
    keyring::{KeyHalf, KeySource, Keyring},
    limits::{KEY_CALLS, KEY_SPAN, PACE_SPAN, PROCESS_CALLS, PROCESS_SPAN, Paused},
    price::{Prices, QUOTE},
    secret::{KeyId, KeyPair, Secret},
    transport::BaseUrl,
    venue::Venue,
};
use self::{
    dialect::Call,
    failover::{Budget, Preference, Turns},
    limits::{Caller, Limits, Permit},
    refusals::Refusals,
    server_clock::ServerClock,
    transport::Reply,
    wire::Wire,
};
use crate::moment::Clock;

/// How long a read waits in all for leave to make its calls. Where this is not enough, others use up
/// the limits, and a poll that fails and says so is better than one that hangs.
const LEAVE_PATIENCE: Duration = Duration::from_mins(1);
/// How long a read waits for another's reading of the host's clock before it does without.
const CLOCK_PATIENCE: Duration = Duration::from_secs(2);

/// What all accounts share: the connection pool, the limits, the refused keys, the exchange's clocks.
#[derive(Debug)]
pub struct Exchange {
    clock: Clock,
    wire: Wire,
    limits: Arc<Limits>,
    refusals: Mutex<Refusals>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    /// The pair last sent for each account: whoever answers a call without one may remember it.
    sent: Mutex<HashMap<Box<str>, KeyPair>>,
    silence: Duration,
}

/// The clock of one host. Whoever reads it from the exchange takes the turn first; whoever only
/// needs the time never waits.
#[derive(Debug, Default)]
struct Host {
    /// How the last reading failed, if it did, and when.
    turn: tokio::sync::Mutex<Option<(Duration, Failure)>>,
    clock: Mutex<ServerClock>,
}

impl Host {
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
    pub venue: Venue,
    /// What to sign with.
    pub keyring: Keyring,
    /// By the first of the wallets that are asked for at the same base URLs.
    preferences: HashMap<Wallet, Preference>,
}

/// What is needed to ask for prices: no key, for anyone may. Held by one poller alone, so that one
/// call for prices is in flight at a time.
#[derive(Debug)]
pub struct Ticker {
    /// Where to ask, and in which version of the API.
    pub venue: Venue,
    preference: Preference,
}

impl Ticker {
    /// A ticker that has not been read yet.
    #[must_use]
    pub fn new(venue: Venue) -> Self {
        Self { venue, preference: Preference::default() }
    }
}

/// Nothing was sent: the account is paused, or its key was refused to another account while the
/// read waited for its turn. That is no failed poll, for none was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unasked;

/// A read that came to an end.
#[derive(Debug)]
pub struct Read {
    /// What came of it; a good answer is `None` if its body is the one that was known already.
    pub outcome: Result<Option<Answer>, Failure>,
    /// The time its calls took, waiting for leave to make them not counted.
    pub took: Duration,
    /// How far the clock of a host was found to be ahead of ours, in seconds, if it was asked.
    pub skews: Vec<(String, f64)>,
    /// Whether a new key pair has worked and is now in use.
    pub rotated: bool,
}

impl Session {
    /// A session that has not asked yet.
    #[must_use]
    pub fn new(account: Box<str>, venue: Venue, keyring: Keyring) -> Self {
        Self { account, venue, keyring, preferences: HashMap::new() }
    }

    fn turns(&self, wallet: Wallet, now: Duration) -> Turns {
        let preference = self.preferences.get(&venue::foremost(wallet)).copied().unwrap_or_default();
        Turns::new(preference, self.venue.of(wallet).len(), now)
    }

    fn worked(&mut self, wallet: Wallet, place: usize, now: Duration) {
        self.preferences.entry(venue::foremost(wallet)).or_default().worked(place, now);
    }

    /// On whose behalf its calls are made.
    fn caller(&self) -> Caller<'_> {
        Caller::Account { key: self.keyring.pair().id(), name: &self.account }
    }
}

/// The state of one read under way.
struct Attempt<'a> {
    session: &'a mut Session,
    /// The answer that is known already.
    known: Option<&'a Original>,
    began: Duration,
    budget: Budget,
    skews: Vec<(String, f64)>,
}

impl<'a> Attempt<'a> {
    fn new(session: &'a mut Session, began: Duration, timeout: Duration) -> Self {
        Self { session, known: None, began, budget: Budget::new(timeout), skews: Vec::new() }
    }
}

/// Why a call brought nothing.
enum Stop {
    Paused,
    /// Another account's call with the same key was refused meanwhile.
    Refused,
    Failed(Failure),
}

impl From<Paused> for Stop {
    fn from(_: Paused) -> Self {
        Self::Paused
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A pause that began between two calls of a read: the first call's own failure was the host's, and is
/// lost to the pause; what can be said is that no answer came.
fn stopped_halfway() -> Failure {
    Failure::new(Reason::RateLimited, "stopped halfway: all accounts were paused after limit replies")
}

/// What an answer of `wallet` that was good before says, taken apart once more; `None` if it says nothing.
#[must_use]
pub fn reread(api: Api, wallet: Wallet, original: &Original) -> Option<Answer> {
    let answer = Call::new(api, wallet)?.balances(original.status(), original.body()).ok()?;
    Some(Answer { original: Some(original.clone()), ..answer })
}

impl Exchange {
    /// An exchange that has not been asked yet, and will be at `places`. If one of them is beyond
    /// this machine, it is not asked for the first [`silence`](Self::silence).
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub fn new<'a>(clock: Clock, places: impl IntoIterator<Item = &'a BaseUrl>) -> Result<Self, String> {
        let is_real = !places.into_iter().all(BaseUrl::is_plain);
        Ok(Self::over(Wire::http()?, clock, is_real))
    }

    /// An exchange whose answers are made up by `script`.
    #[cfg(test)]
    pub(crate) fn scripted(script: Script, clock: Clock) -> Self {
        Self::over(Wire::Script(script), clock, true)
    }

    fn over(wire: Wire, clock: Clock, is_real: bool) -> Self {
        Self {
            clock,
            wire,
            limits: Arc::new(Limits::new(clock, is_real)),
            refusals: Mutex::default(),
            hosts: Mutex::default(),
            sent: Mutex::default(),
            silence: if is_real { PACE_SPAN } else { Duration::ZERO },
        }
    }

    /// How long nothing is sent after the start. A process that was killed this very moment may
    /// have made all the calls that a second allows; a simulated exchange on this machine, over plain
    /// HTTP, forgives them.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.silence
    }

    /// Reads `wallet` once: from the base URL that worked last, then, if it is the host that fails,
    /// from the others, freshly signed, all within `timeout`. An answer that is the `known` one is not
    /// taken apart again.
    ///
    /// # Errors
    /// If nothing was asked: see [`Unasked`].
    pub async fn read(
        &self,
        session: &mut Session,
        wallet: Wallet,
        known: Option<&Original>,
        timeout: Duration,
    ) -> Result<Read, Unasked> {
        let mut attempt = Attempt::new(session, self.clock.now().elapsed, timeout);
        attempt.known = known;
        let outcome = match self.read_from_any(&mut attempt, wallet).await {
            Ok(answer) => Ok(answer),
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::Refused) => return Err(Unasked),
            Err(Stop::Paused) if attempt.budget.spent().is_none() => return Err(Unasked),
            Err(Stop::Paused) => Err(stopped_halfway()),
        };
        let took = attempt.budget.spent().unwrap_or_default();
        let skews = std::mem::take(&mut attempt.skews);
        let rotated = outcome.is_ok() && session.keyring.worked();
        Ok(Read { outcome, took, skews, rotated })
    }

    /// Reads the prices once: from the base URL that worked last, then, if it is the host that fails,
    /// from the others, all within `timeout`. No key has a part in it.
    ///
    /// # Errors
    /// If nothing was asked: see [`Unasked`].
    pub async fn prices(
        &self,
        ticker: &mut Ticker,
        timeout: Duration,
    ) -> Result<Result<Prices, Failure>, Unasked> {
        let mut budget = Budget::new(timeout);
        match self.prices_from_any(ticker, &mut budget).await {
            Ok(prices) => Ok(Ok(prices)),
            Err(Stop::Failed(failure)) => Ok(Err(failure)),
            Err(Stop::Refused) => Err(Unasked),
            Err(Stop::Paused) if budget.spent().is_none() => Err(Unasked),
            Err(Stop::Paused) => Ok(Err(stopped_halfway())),
        }
    }

    async fn prices_from_any(&self, ticker: &mut Ticker, budget: &mut Budget) -> Result<Prices, Stop> {
        let api = ticker.venue.api;
        let bases = &ticker.venue.base_urls;
        let mut turns = Turns::new(ticker.preference, bases.len(), self.clock.now().elapsed);
        while let Some((place, share)) = turns.next(budget.left()) {
            let Some(base) = bases.get(place) else { continue };
            match self.prices_from(budget, base, api, share).await {
                Ok(prices) => {
                    ticker.preference.worked(place, self.clock.now().elapsed);
                    return Ok(prices);
                }
                Err(Stop::Failed(failure)) => turns.failed(failure)?,
                Err(stop) => return Err(stop),
            }
        }
        Err(turns.into_failure().into())
    }

    async fn prices_from(
        &self,
        budget: &mut Budget,
        base: &BaseUrl,
        api: Api,
        share: u32,
    ) -> Result<Prices, Stop> {
        let request = api.prices_call();
        let timeout = budget.for_a_call(base, share)?;
        let permit = self.permit(budget, Caller::Anyone).await?;
        let sent = self.clock.now();
        let reply = self.wire.get(base, &request, &[], timeout).await;
        budget.spend(sent.age(self.clock.now()));
        let prices = {
            let sent = self.sent();
            let secrets: Vec<_> = sent.values().flat_map(|pair| [pair.access(), pair.secret()]).collect();
            self.judge(Caller::Anyone, base, request.path, reply, &secrets, |status, body| {
                api.prices(status, &body)
            })
        };
        drop(permit);
        Ok(prices?)
    }

    /// Asks `base` for its time. Returns how far it is ahead of ours, in seconds.
    ///
    /// # Errors
    /// Whatever kept the time from coming, or a pause.
    pub async fn skew(
        &self,
        session: &mut Session,
        base: &BaseUrl,
        timeout: Duration,
    ) -> Result<f64, Failure> {
        let mut attempt = Attempt::new(session, self.clock.now().elapsed, timeout);
        match self.read_clock(&mut attempt, base, timeout).await {
            Ok(skew) => Ok(skew),
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::Paused | Stop::Refused) => {
                Err(Failure::new(Reason::RateLimited, "paused after a limit reply"))
            }
        }
    }

    /// The pause the session's account is in now.
    #[must_use]
    pub fn pause(&self, session: &Session) -> Option<Paused> {
        self.limits.pause(session.caller())
    }

    /// The pause that calls for prices are in now.
    #[must_use]
    pub fn pause_of_prices(&self) -> Option<Paused> {
        self.limits.pause(Caller::Anyone)
    }

    /// Ends when a pause begins, whosever it is, after this was called.
    pub fn pause_begins(&self) -> Notified<'_> {
        self.limits.pause_begins()
    }

    /// Until when the session's key pair is not to be tried for `wallet` because it was refused,
    /// even if that is past by now; `None` if it was not.
    #[must_use]
    pub fn refused_until(&self, session: &Session, wallet: Wallet) -> Option<Duration> {
        self.refusals().until(session.keyring.pair().pair_id(), wallet)
    }

    async fn read_from_any(&self, attempt: &mut Attempt<'_>, wallet: Wallet) -> Result<Option<Answer>, Stop> {
        let api = attempt.session.venue.api;
        let Some(call) = Call::new(api, wallet) else {
            let text = format!("API {} has no wallet {wallet}: nothing was asked", api.label());
            return Err(Failure::new(Reason::Api, text).into());
        };
        let mut turns = attempt.session.turns(wallet, self.clock.now().elapsed);
        while let Some((place, share)) = turns.next(attempt.budget.left()) {
            let Some(base) = attempt.session.venue.of(wallet).get(place).cloned() else { continue };
            match self.read_from(attempt, &base, wallet, call, share).await {
                Ok(answer) => {
                    attempt.session.worked(wallet, place, self.clock.now().elapsed);
                    return Ok(answer);
                }
                Err(Stop::Failed(failure)) => turns.failed(failure)?,
                Err(stop) => return Err(stop),
            }
        }
        Err(turns.into_failure().into())
    }

    /// Reads from one base URL, with a new key pair first if there is one to be tried.
    async fn read_from(
        &self,
        attempt: &mut Attempt<'_>,
        base: &BaseUrl,
        wallet: Wallet,
        call: Call,
        share: u32,
    ) -> Result<Option<Answer>, Stop> {
        let clock = self.sync_clock(attempt, base, call, share).await?;
        loop {
            let result = self.read_once(attempt, base, wallet, call, &clock, share).await;
            let Err(Stop::Failed(failure)) = &result else { return result };
            if failure.reason == Reason::Clock {
                clock.clock().doubt();
            }
            let keyring = &mut attempt.session.keyring;
            let the_other_may_work = match failure.reason {
                reason if reason.is_of_the_key() => keyring.refused(),
                // Nobody knows every way in which a key may be refused.
                Reason::Http | Reason::Api | Reason::Decode => keyring.suspected(),
                _ => false,
            };
            if !the_other_may_work {
                return result;
            }
        }
    }

    async fn read_once(
        &self,
        attempt: &mut Attempt<'_>,
        base: &BaseUrl,
        wallet: Wallet,
        call: Call,
        host: &Host,
        share: u32,
    ) -> Result<Option<Answer>, Stop> {
        let pair = attempt.session.keyring.pair().clone();
        let timeout = attempt.budget.for_a_call(base, share)?;
        let mut permit = self.permit(&mut attempt.budget, attempt.session.caller()).await?;
        let refused_meanwhile = self.refusals().noted(pair.pair_id(), wallet, attempt.began);
        if refused_meanwhile {
            return Err(Stop::Refused);
        }
        let sent = self.clock.now();
        let clock = self.clock_of(attempt.session, host);
        let time = if call.counts_up() { permit.nonce(clock.time_ms(sent)) } else { clock.stamp_ms(sent) };
        let request = call.signed(&pair, time);
        self.sent().insert(attempt.session.account.clone(), pair.clone());
        let known = attempt.known.map(Original::body).unwrap_or_default();
        let reply = self.wire.get(base, &request, known, timeout).await;
        attempt.budget.spend(sent.age(self.clock.now()));
        let secrets = [pair.access(), pair.secret()];
        // The permit is held until the reply is understood: nobody may slip in before a pause.
        let caller = attempt.session.caller();
        let result = self.judge(caller, base, request.path, reply, &secrets, |status, body| {
            if attempt.known.is_some_and(|known| known.is(status, &body)) {
                return Ok(None);
            }
            let answer = call.balances(status, &body)?;
            Ok(Some(Answer { original: Some(Original::new(status, body.into_owned())), ..answer }))
        });
        let note = |worked| {
            let now = self.clock.now().elapsed;
            self.refusals().note(pair.pair_id(), wallet, worked, now);
        };
        match &result {
            Ok(_) => {
                permit.nonce_was_good();
                note(true);
            }
            Err(failure) if failure.reason.is_of_the_key() => note(false),
            Err(failure) if failure.reason == Reason::Clock => permit.nonce_was_refused(),
            Err(_) => {}
        }
        drop(permit);
        Ok(result?)
    }

    /// Reads the clock by which calls of `base` are stamped, if that is due, and returns whose it is.
    /// A host that cannot even tell the time fails the read, but only that of who asked; one that has
    /// no such endpoint does not, nor does one that only tells the time for another.
    async fn sync_clock(
        &self,
        attempt: &mut Attempt<'_>,
        base: &BaseUrl,
        call: Call,
        share: u32,
    ) -> Result<Arc<Host>, Stop> {
        // The hosts of futures tell no time; those of spot do.
        let teller = if matches!(call, Call::Futures) {
            attempt.session.venue.base_urls.first().cloned()
        } else {
            None
        };
        let is_own = teller.is_none();
        let teller = teller.unwrap_or_else(|| base.clone());
        let host = self.host(&teller.host());
        if !host.clock().is_due(self.clock.now()) {
            return Ok(host);
        }
        // Others that ask the same host meanwhile wait here, and find it done, or share the failure:
        // were each to wait for a silent host in turn, the last would wait for hours. But none waits
        // for long: who has the turn may be waiting for leave itself, and what is known will do.
        let waiting_since = self.clock.now().elapsed;
        let Ok(mut turn) = tokio::time::timeout(CLOCK_PATIENCE, host.turn.lock()).await else {
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
            attempt.budget.for_a_call(base, if is_own { share } else { share.saturating_mul(2) })?;
        let failure = match self.read_clock(attempt, &teller, timeout).await {
            Ok(skew) => {
                attempt.skews.push((teller.host(), skew));
                return Ok(Arc::clone(&host));
            }
            Err(Stop::Failed(failure)) if failure.reason != Reason::RateLimited => failure,
            Err(stop) => return Err(stop),
        };
        if is_own && failure.reason.is_of_the_host() {
            *turn = Some((self.clock.now().elapsed, failure.clone()));
            return Err(failure.into());
        }
        host.clock().could_not_be_read(self.clock.now());
        tracing::warn!(
            host = teller.host(),
            reason = failure.reason.label(),
            "cannot read the exchange's clock, so requests are stamped with ours: {}",
            failure.text
        );
        Ok(Arc::clone(&host))
    }

    async fn read_clock(
        &self,
        attempt: &mut Attempt<'_>,
        base: &BaseUrl,
        timeout: Duration,
    ) -> Result<f64, Stop> {
        let api = attempt.session.venue.api;
        let request = api.server_time_call();
        let pair = attempt.session.keyring.pair().clone();
        let permit = self.permit(&mut attempt.budget, attempt.session.caller()).await?;
        let sent = self.clock.now();
        let reply = self.wire.get(base, &request, &[], timeout).await;
        let received = self.clock.now();
        attempt.budget.spend(sent.age(received));
        // It is not signed, but whoever answers may remember what was.
        let secrets = [pair.access(), pair.secret()];
        let caller = attempt.session.caller();
        let time = self.judge(caller, base, request.path, reply, &secrets, |status, body| {
            api.server_time(status, &body)
        });
        drop(permit);
        Ok(self.host(&base.host()).clock().read(time?, sent, received))
    }

    async fn permit(&self, budget: &mut Budget, caller: Caller<'_>) -> Result<Permit, Stop> {
        let began = self.clock.now();
        let leave = self.limits.permit(caller);
        let leave = tokio::time::timeout(LEAVE_PATIENCE.saturating_sub(budget.waited), leave).await;
        budget.waited += began.age(self.clock.now());
        let Ok(leave) = leave else {
            let text = "nothing was asked: calls of other accounts or with the same key take up the limits";
            return Err(Failure::new(Reason::Timeout, text).into());
        };
        Ok(leave?)
    }

    /// Turns a reply into what it says, and a failure into one that may be shown.
    fn judge<T>(
        &self,
        caller: Caller<'_>,
        base: &BaseUrl,
        path: &str,
        reply: Result<Reply<'_>, Failure>,
        secrets: &[&str],
        decode: impl FnOnce(u16, Cow<'_, [u8]>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let decoded = reply.and_then(|reply| {
            decode(reply.status, reply.body).map_err(|failure| Failure {
                text: format!("{base}{path}: {}", failure.text),
                retry_after: reply.retry_after,
                ..failure
            })
        });
        decoded.map_err(|failure| {
            if failure.reason == Reason::RateLimited {
                self.limits.limit_reply(caller, failure.retry_after);
            }
            failure.without(secrets)
        })
    }

    /// The exchange's clock. A host that has never told it has that of the session's others: our own,
    /// if it is ahead, would make a nonce that none of them can follow.
    fn clock_of(&self, session: &Session, host: &Host) -> ServerClock {
        let own = *host.clock();
        let others = session.venue.base_urls.iter().map(|base| *self.host(&base.host()).clock());
        let known = std::iter::once(own).chain(others).find(ServerClock::is_known);
        known.unwrap_or(own)
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self) -> MutexGuard<'_, HashMap<Box<str>, KeyPair>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host(&self, name: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(name.to_owned()).or_default())
    }
}
