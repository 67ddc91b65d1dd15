//! The client for the exchange: the state that all accounts share, and what one poller holds to use it.
//! `call`, `clock_sync` and `read` implement its calls; this file sends nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use smol_str::SmolStr;
use tokio::sync::{futures::Notified, watch};

#[cfg(test)]
use super::transport::Script;
use super::{
    balance::Wallet,
    base_url::BaseUrl,
    credentials::Credentials,
    egress::{DEFAULT_EGRESS, Egress},
    error::Failure,
    exchange_hosts::{self, ExchangeHosts},
    failover::{HostRotation, PreferredHost},
    in_flight::AbandonedCalls,
    limits::Limits,
    market_list::MarketListCache,
    pauses::{Caller, Paused},
    permit_client::PermitClient,
    rate_limiter::LentPermit,
    secret::{KeyId, KeyPair},
    server_clock::ServerClock,
    share::{LimitShares, Share},
    single_reads::SingleReads,
    transport::Transport,
    usage::RateLimitUsage,
};
use crate::clock::{Clock, MonotonicTime};

/// The client that all accounts share: HTTP, rate limits, refused keys and the clocks of hosts.
#[derive(Debug)]
pub struct Client {
    pub(super) clock: Clock,
    pub(super) transport: Arc<Transport>,
    pub(super) limits: Arc<Limits>,
    pub(super) abandoned_calls: AbandonedCalls,
    /// By host and route.
    host_clocks: Mutex<HashMap<(String, String), Arc<HostClock>>>,
    /// The key pair that each account sent last. Redacted from unsigned replies too: the server may echo a key.
    last_sent_keys: Mutex<HashMap<Box<str>, KeyPair>>,
    startup_delay: Duration,
    /// The process that must permit each call, if there is one.
    pub(super) remote_permits: Option<PermitClient>,
}

/// The clock of one host. One task at a time asks the host for its time; the stored clock is always available.
#[derive(Debug)]
pub(super) struct HostClock {
    /// The host, with its port if that is not the default: a label.
    pub name: String,
    /// When the last reading failed, and why. Locked while the clock is read.
    pub last_failure: tokio::sync::Mutex<Option<(MonotonicTime, Failure)>>,
    clock: Mutex<ServerClock>,
}

impl HostClock {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), last_failure: tokio::sync::Mutex::default(), clock: Mutex::default() }
    }

    pub(super) fn clock(&self) -> MutexGuard<'_, ServerClock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One account at the exchange. Only the account's poller holds it, so an account has one call in flight at a time.
#[derive(Debug)]
pub struct Session {
    /// The `account` label.
    pub account: Box<str>,
    /// The hosts and the API version.
    pub hosts: ExchangeHosts,
    /// The keys that sign its calls.
    pub credentials: Credentials,
    /// By representative wallet: wallets that share base URLs share the preference.
    preferred_hosts: HashMap<Wallet, PreferredHost>,
    pub(super) single_reads: SingleReads,
}

impl Session {
    /// A session without any calls yet.
    #[must_use]
    pub fn new(account: Box<str>, hosts: ExchangeHosts, credentials: Credentials) -> Self {
        Self {
            account,
            hosts,
            credentials,
            preferred_hosts: HashMap::new(),
            single_reads: SingleReads::default(),
        }
    }

    /// The order in which to try the base URLs of `wallet` at `now`, without the one at the index `excluded`.
    pub(super) fn host_rotation(
        &self,
        wallet: Wallet,
        excluded: Option<usize>,
        now: MonotonicTime,
    ) -> HostRotation {
        let preferred = self.preferred_hosts.get(&exchange_hosts::representative_wallet(wallet));
        let host_count = self.hosts.for_wallet(wallet).len();
        HostRotation::new(preferred.copied().unwrap_or_default(), host_count, now).excluding(excluded)
    }

    /// Records that the base URL at the index `host` answered a read of `wallet`.
    pub(super) fn record_success(&mut self, wallet: Wallet, host: usize, now: MonotonicTime) {
        let preferred = self.preferred_hosts.entry(exchange_hosts::representative_wallet(wallet));
        preferred.or_default().record_success(host, now);
    }

    /// Whether the next read of `wallet` asks for `currency` alone, if the list leaves it out.
    #[must_use]
    pub fn is_single_read_due(&self, wallet: Wallet, currency: &str, now: MonotonicTime) -> bool {
        self.hosts.api.has_single_reads(wallet) && self.single_reads.is_due(currency, now)
    }

    /// Forgets that the account had none of these currencies: another answer must confirm it.
    pub fn forget_single_reads<'a>(&mut self, currencies: impl IntoIterator<Item = &'a SmolStr>) {
        self.single_reads.forget(currencies);
    }

    /// The caller of its calls, for the rate limiter.
    pub(super) fn caller(&self) -> Caller<'_> {
        let address = self.hosts.egress().map_or(DEFAULT_EGRESS, |egress| &egress.address);
        Caller::Account { key: self.credentials.pair().id(), name: &self.account, address }
    }
}

/// A reader of prices, which needs no key. Only the price poller holds it, so one call for prices is in flight at a
/// time.
#[derive(Debug)]
pub struct PriceClient {
    /// The hosts and the API version.
    pub hosts: ExchangeHosts,
    pub(super) preferred_host: PreferredHost,
    pub(super) market_list: MarketListCache,
}

impl PriceClient {
    /// A price client without any calls yet.
    #[must_use]
    pub fn new(hosts: ExchangeHosts) -> Self {
        Self { hosts, preferred_host: PreferredHost::default(), market_list: MarketListCache::default() }
    }
}

impl Client {
    /// A client of a real exchange that takes `shares` of its limits. It sends nothing for the first
    /// [`startup_delay`](Self::startup_delay), and not to this machine either: a local proxy may forward the calls to the
    /// exchange.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub fn new(clock: Clock, shares: LimitShares) -> Result<Self, String> {
        Ok(Self::with_transport(Transport::http()?, clock, shares, true))
    }

    /// A client of a simulated exchange that ends with this process. It has no startup delay, because no earlier
    /// process called that exchange.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub fn simulated(clock: Clock) -> Result<Self, String> {
        Ok(Self::with_transport(Transport::http()?, clock, Share::ALL.into(), false))
    }

    /// A client whose replies come from `script`.
    #[cfg(test)]
    pub(crate) fn scripted(script: Script, clock: Clock) -> Self {
        Self::scripted_with(script, clock, Share::ALL.into())
    }

    /// A client whose replies come from `script` and that takes `shares` of the limits.
    #[cfg(test)]
    pub(crate) fn scripted_with(script: Script, clock: Clock, shares: LimitShares) -> Self {
        Self::with_transport(Transport::Script(script), clock, shares, true)
    }

    fn with_transport(transport: Transport, clock: Clock, shares: LimitShares, is_real: bool) -> Self {
        Self {
            clock,
            transport: Arc::new(transport),
            limits: Arc::new(Limits::new(clock, shares, is_real)),
            abandoned_calls: AbandonedCalls::default(),
            host_clocks: Mutex::default(),
            last_sent_keys: Mutex::default(),
            remote_permits: None,
            startup_delay: if is_real { shares.startup_delay() } else { Duration::ZERO },
        }
    }

    /// A sentence about certificate authorities that the user configured and that could not be read at the start.
    #[must_use]
    pub fn trust_warning(&self) -> Option<&str> {
        self.transport.trust_warning()
    }

    /// How long the client sends nothing after its start: a process that was killed just before may have used up its
    /// share. A second, or longer with a small share.
    #[must_use]
    pub fn startup_delay(&self) -> Duration {
        self.startup_delay
    }

    /// Asks `permit_client` for a permit before each call, besides the own rate limiter.
    #[must_use]
    pub fn with_permit_client(self, permit_client: PermitClient) -> Self {
        Self { remote_permits: Some(permit_client), ..self }
    }

    /// Records the key and the address of the session's account, so that [`lend`](Self::lend) knows them before its first
    /// call.
    pub fn register(&self, session: &Session) {
        self.limits.rate_limiter.register(session.caller());
    }

    /// Waits until another process may make a call, with the key if the call has one. The call counts as in flight until the
    /// permit is dropped.
    ///
    /// # Errors
    /// If calls with the key are paused.
    pub async fn lend(&self, key: Option<KeyId>) -> Result<LentPermit, Paused> {
        self.limits.rate_limiter.lend(key).await
    }

    /// Takes other shares of the exchange's limits. Calls that were counted stay counted.
    pub fn set_shares(&self, shares: LimitShares) {
        self.limits.rate_limiter.set_shares(shares);
    }

    /// Replaces the egress groups. Calls that were counted stay counted, and pauses stay.
    pub fn set_egress(&self, groups: &[Egress]) {
        self.limits.set_egress(groups);
    }

    /// How much of each rate limit is used now. `accounts` are the names of the accounts to tell about.
    #[must_use]
    pub fn rate_limit_usage<'a>(&self, accounts: impl Iterator<Item = &'a str>) -> RateLimitUsage {
        self.limits.rate_limiter.usage(accounts)
    }

    /// The current pause of the session's account.
    #[must_use]
    pub fn pause(&self, session: &Session) -> Option<Paused> {
        self.limits.rate_limiter.pause(session.caller())
    }

    /// The current pause of calls for prices.
    #[must_use]
    pub fn price_pause(&self) -> Option<Paused> {
        self.limits.rate_limiter.pause(Caller::Anyone)
    }

    /// Completes when any pause begins after this call.
    pub fn wait_for_pause(&self) -> Notified<'_> {
        self.limits.rate_limiter.wait_for_pause()
    }

    /// Changes whenever a pause begins, the egress groups change, or the exchange refuses a key or accepts a refused one.
    pub fn subscribe_limit_changes(&self) -> watch::Receiver<u64> {
        self.limits.subscribe_changes()
    }

    /// Completes when no call is left whose poll was dropped. Call it when no poll runs any more.
    pub async fn wait_for_abandoned_calls(&self) {
        self.abandoned_calls.wait().await;
    }

    /// When the session's key pair may be tried again for `wallet` after the exchange refused it, which may be in the
    /// past; `None` if it was not refused.
    #[must_use]
    pub fn refused_until(&self, session: &Session, wallet: Wallet) -> Option<MonotonicTime> {
        self.limits.auth_backoff().blocked_until(session.credentials.pair().pair_id(), wallet)
    }

    pub(super) fn last_sent_keys(&self) -> MutexGuard<'_, HashMap<Box<str>, KeyPair>> {
        self.last_sent_keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock of the host of `base`, as it looks by the route of `base`: one proxy may fail, delay or cache the time
    /// while another does not.
    pub(super) fn host_clock(&self, base: &BaseUrl) -> Arc<HostClock> {
        let name = base.host();
        let key = (name.clone(), base.route().to_string());
        let mut clocks = self.host_clocks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(clocks.entry(key).or_insert_with(|| Arc::new(HostClock::new(&name))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Proxy, Route};

    #[test]
    fn a_host_has_one_clock_for_each_route() -> Result<(), String> {
        let client = Client::simulated(Clock::start())?;
        let base = || BaseUrl::parse("https://a.b");
        let via = |proxy: &str| -> Result<BaseUrl, String> {
            let (proxy, _) = Proxy::parse(proxy)?;
            Ok(base()?.with_route(Route { proxy: Some(Arc::new(proxy)), ..Route::default() }))
        };
        let clock = client.host_clock(&base()?);
        assert!(Arc::ptr_eq(&clock, &client.host_clock(&base()?)));
        let proxied = client.host_clock(&via("http://c:1")?);
        assert!(Arc::ptr_eq(&proxied, &client.host_clock(&via("http://c:1")?)));
        for other in [clock, client.host_clock(&via("http://c:2")?)] {
            assert!(!Arc::ptr_eq(&proxied, &other));
        }
        assert_eq!(proxied.name, "a.b");
        Ok(())
    }
}
