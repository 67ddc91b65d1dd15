//! Asking the exchange: one read of one wallet, and all that keeps it honest and harmless.
//! Failover, clock, limits, signature, transport and decoding meet here and nowhere else.
//! Knows no metric, no page, and not when to ask: that is the poller's affair.

mod balance;
mod failure;
mod keyring;
mod limits;
mod secret;
mod server_clock;
mod signature;
mod transport;
pub mod v1;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

pub use self::{
    balance::{Amount, Answer, Balance, Wallet, currency_name},
    failure::{Failure, Reason},
    keyring::{KeyHalf, KeySource, Keyring},
    limits::{KEY_CALLS, KEY_SPAN, PROCESS_CALLS, PROCESS_SPAN, Paused},
    secret::{KeyId, KeyPair, Secret},
    transport::BaseUrl,
};
use self::{
    limits::{Limits, Permit},
    server_clock::ServerClock,
    transport::{Reply, Transport},
};
use crate::moment::Clock;

/// After this long on a spare base URL, the first of the list is tried first again.
const HOMESICK: Duration = Duration::from_mins(10);

/// What all accounts share: the connection pool, the limits, the exchange's clocks.
#[derive(Debug)]
pub struct Exchange {
    clock: Clock,
    transport: Transport,
    limits: Arc<Limits>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
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
    /// Where to ask, in order of preference; not empty.
    pub base_urls: Vec<BaseUrl>,
    /// What to sign with.
    pub keyring: Keyring,
    spare: Option<Spare>,
}

/// The base URL that worked last, if it was not the first.
#[derive(Clone, Copy, Debug)]
struct Spare {
    place: usize,
    since: Duration,
}

/// A read that came to an end.
#[derive(Debug)]
pub struct Read {
    /// What came of it.
    pub outcome: Result<Answer, Failure>,
    /// From the first call's start, waiting for leave to make it not counted.
    pub took: Duration,
    /// How far the clock of a host was found to be ahead of ours, in seconds, if it was asked.
    pub skews: Vec<(String, f64)>,
    /// Whether a new key pair has worked and is now in use.
    pub rotated: bool,
}

impl Session {
    /// A session that has not asked yet.
    #[must_use]
    pub fn new(account: Box<str>, base_urls: Vec<BaseUrl>, keyring: Keyring) -> Self {
        Self { account, base_urls, keyring, spare: None }
    }

    /// Places in `base_urls`, in the order to try them at `now`.
    fn order(&self, now: Duration) -> Vec<usize> {
        let spare = self.spare.filter(|spare| now.saturating_sub(spare.since) < HOMESICK);
        let first = spare.map(|spare| spare.place);
        first.into_iter().chain((0..self.base_urls.len()).filter(|place| Some(*place) != first)).collect()
    }

    fn worked(&mut self, place: usize, now: Duration) {
        if place == 0 {
            self.spare = None;
        } else if self.order(now).first() != Some(&place) {
            self.spare = Some(Spare { place, since: now });
        }
    }
}

/// The state of one read under way.
struct Attempt<'a> {
    session: &'a mut Session,
    /// The most time all its calls may take together.
    timeout: Duration,
    /// When the first call started; `None` while waiting for leave to make it.
    started: Option<Duration>,
    skews: Vec<(String, f64)>,
}

/// Why a call brought nothing.
enum Stop {
    Paused(Paused),
    Failed(Failure),
}

impl From<Paused> for Stop {
    fn from(paused: Paused) -> Self {
        Self::Paused(paused)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Exchange {
    /// An exchange that has not been asked yet.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub fn new(clock: Clock) -> Result<Self, String> {
        let limits = Arc::new(Limits::new(clock));
        Ok(Self { clock, transport: Transport::new()?, limits, hosts: Mutex::default() })
    }

    /// Reads `wallet` once: from the base URL that worked last, then, if it is the host that fails,
    /// from the others, freshly signed, all within `timeout`.
    ///
    /// # Errors
    /// If nothing was sent because the account is paused. That is no failed poll: none was made.
    pub async fn read(
        &self,
        session: &mut Session,
        wallet: Wallet,
        timeout: Duration,
    ) -> Result<Read, Paused> {
        let mut attempt = Attempt { session, timeout, started: None, skews: Vec::new() };
        let outcome = match self.read_from_any(&mut attempt, wallet).await {
            Ok(answer) => Ok(answer),
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::Paused(paused)) if attempt.started.is_none() => return Err(paused),
            // A pause that began between two calls of this read: the first call's own failure was
            // the host's, and is lost to the pause; what can be said is that no answer came.
            Err(Stop::Paused(_)) => Err(Failure::new(
                Reason::RateLimited,
                "stopped halfway: all accounts were paused after limit replies",
            )),
        };
        let took = attempt
            .started
            .map_or(Duration::ZERO, |started| self.clock.now().elapsed.saturating_sub(started));
        let skews = std::mem::take(&mut attempt.skews);
        let rotated = outcome.is_ok() && session.keyring.worked();
        Ok(Read { outcome, took, skews, rotated })
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
        let mut attempt = Attempt { session, timeout, started: None, skews: Vec::new() };
        let host = self.host(&base.host());
        match self.read_clock(&mut attempt, base, &host, timeout).await {
            Ok(skew) => Ok(skew),
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::Paused(_)) => Err(Failure::new(Reason::RateLimited, "paused after a limit reply")),
        }
    }

    /// The pause `account` is in now.
    #[must_use]
    pub fn pause(&self, account: &str) -> Option<Paused> {
        self.limits.pause(account)
    }

    /// Changes whenever a pause begins, of whichever account.
    #[must_use]
    pub fn pauses(&self) -> watch::Receiver<()> {
        self.limits.pauses()
    }

    async fn read_from_any(&self, attempt: &mut Attempt<'_>, wallet: Wallet) -> Result<Answer, Stop> {
        let order = attempt.session.order(self.clock.now().elapsed);
        let mut first: Option<Failure> = None;
        for (tried, place) in order.iter().enumerate() {
            let Some(base) = attempt.session.base_urls.get(*place).cloned() else { continue };
            let share = u32::try_from(order.len() - tried).unwrap_or(u32::MAX);
            let failure = match self.read_from(attempt, &base, wallet, share).await {
                Ok(answer) => {
                    attempt.session.worked(*place, self.clock.now().elapsed);
                    return Ok(answer);
                }
                Err(Stop::Failed(failure)) => failure,
                Err(paused) => return Err(paused),
            };
            let goes_on = failure.reason.is_of_the_host();
            // The first URL's trouble is the one to be told; the others' is added to it.
            let whole = match first.take() {
                Some(first) => Failure { text: format!("{}; then {}", first.text, failure.text), ..first },
                None => failure,
            };
            if !goes_on {
                return Err(whole.into());
            }
            first = Some(whole);
        }
        Err(first.unwrap_or_else(|| Failure::new(Reason::Connect, "there is no base URL to ask")).into())
    }

    /// Reads from one base URL, with a new key pair first if there is one to be tried.
    async fn read_from(
        &self,
        attempt: &mut Attempt<'_>,
        base: &BaseUrl,
        wallet: Wallet,
        share: u32,
    ) -> Result<Answer, Stop> {
        let host = self.host(&base.host());
        self.sync_clock(attempt, base, &host, share).await?;
        loop {
            let result = self.read_once(attempt, base, wallet, &host, share).await;
            let Err(Stop::Failed(failure)) = &result else { return result };
            if failure.reason == Reason::Clock {
                host.clock().doubt();
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
        host: &Host,
        share: u32,
    ) -> Result<Answer, Stop> {
        let (path, parameters) = v1::balances_call(wallet);
        let pair = attempt.session.keyring.pair().clone();
        let mut permit = self.permit(attempt, &pair).await?;
        let time = host.clock().time_ms(self.clock.now());
        let signed = signature::signed_query(&pair, parameters, permit.nonce(time));
        let timeout = self.time_left(attempt) / share;
        let reply = self.transport.get(base, path, &signed.query, timeout).await;
        drop(permit);
        let secrets = [pair.access.reveal(), pair.secret.reveal(), &signed.signature];
        Ok(self.judge(attempt, base, path, reply, &secrets, v1::balances)?)
    }

    /// Reads the clock of `base` if that is due. A host that cannot even tell the time fails the
    /// read; one that has no such endpoint does not.
    async fn sync_clock(
        &self,
        attempt: &mut Attempt<'_>,
        base: &BaseUrl,
        host: &Host,
        share: u32,
    ) -> Result<(), Stop> {
        // Others that ask the same host meanwhile wait here, and find it done, or share the failure:
        // were each to wait for a silent host in turn, the last would wait for hours.
        let waiting_since = self.clock.now().elapsed;
        let mut turn = host.turn.lock().await;
        if !host.clock().is_due(self.clock.now()) {
            return Ok(());
        }
        if let Some((_, failure)) = turn.as_ref().filter(|(at, _)| *at >= waiting_since) {
            return Err(failure.clone().into());
        }
        let timeout = self.time_left(attempt) / share;
        match self.read_clock(attempt, base, host, timeout).await {
            Ok(skew) => {
                attempt.skews.push((base.host(), skew));
                Ok(())
            }
            Err(Stop::Failed(failure))
                if !failure.reason.is_of_the_host() && failure.reason != Reason::RateLimited =>
            {
                tracing::warn!(
                    host = base.host(),
                    reason = failure.reason.label(),
                    "cannot read the exchange's clock, so nonces use ours: {}",
                    failure.text
                );
                host.clock().could_not_be_read(self.clock.now());
                Ok(())
            }
            Err(Stop::Failed(failure)) if failure.reason.is_of_the_host() => {
                *turn = Some((self.clock.now().elapsed, failure.clone()));
                Err(failure.into())
            }
            Err(stop) => Err(stop),
        }
    }

    async fn read_clock(
        &self,
        attempt: &mut Attempt<'_>,
        base: &BaseUrl,
        host: &Host,
        timeout: Duration,
    ) -> Result<f64, Stop> {
        let pair = attempt.session.keyring.pair().clone();
        let permit = self.permit(attempt, &pair).await?;
        let sent = self.clock.now();
        let reply = self.transport.get(base, v1::SERVER_TIME_PATH, "", timeout).await;
        let received = self.clock.now();
        drop(permit);
        // It is not signed, but whoever answers may remember what was.
        let secrets = [pair.access.reveal(), pair.secret.reveal()];
        let time = self.judge(attempt, base, v1::SERVER_TIME_PATH, reply, &secrets, v1::server_time)?;
        Ok(host.clock().read(time, sent, received))
    }

    async fn permit(&self, attempt: &mut Attempt<'_>, pair: &KeyPair) -> Result<Permit, Paused> {
        let permit = self.limits.permit(pair.id(), &attempt.session.account).await?;
        attempt.started.get_or_insert(self.clock.now().elapsed);
        Ok(permit)
    }

    /// Turns a reply into what it says, and a failure into one that may be shown.
    fn judge<T>(
        &self,
        attempt: &Attempt<'_>,
        base: &BaseUrl,
        path: &str,
        reply: Result<Reply, Failure>,
        secrets: &[&str],
        decode: impl Fn(u16, &[u8]) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let decoded = reply.and_then(|reply| {
            decode(reply.status, &reply.body).map_err(|failure| Failure {
                text: format!("{base}{path}: {}", failure.text),
                retry_after: reply.retry_after,
                ..failure
            })
        });
        decoded.map_err(|failure| {
            if failure.reason == Reason::RateLimited {
                self.limits.limit_reply(&attempt.session.account, failure.retry_after);
            }
            failure.without(secrets)
        })
    }

    /// What is left of the read's time. Waiting for leave to make the first call takes none of it.
    fn time_left(&self, attempt: &Attempt<'_>) -> Duration {
        let spent = attempt
            .started
            .map_or(Duration::ZERO, |started| self.clock.now().elapsed.saturating_sub(started));
        attempt.timeout.saturating_sub(spent)
    }

    fn host(&self, name: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(name.to_owned()).or_default())
    }
}
