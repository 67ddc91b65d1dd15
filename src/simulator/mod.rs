//! A simulated exchange: speaks the exchange's wire format over real sockets, as strictly as it documents it.
//!
//! It verifies signatures, nonces and limits (with the lock), serves the documented shapes, fails on request and keeps
//! counts. It must not know the client: it shares no code with it, or it could not find the client's mistakes.
//!
//! ```text
//! server ──▶ control ──▶ exchange ──▶ query, headers, limits, rules, fault, counts
//!    └─────▶ reply ──▶ v4 ◀──┘               market ──▶ Simulator
//! ```

mod auth_headers;
mod call_log;
mod config;
mod control;
mod decimal;
mod exchange;
mod fault;
pub mod market;
mod query;
mod reply;
mod server;
mod sliding_window;
mod v4;

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, time::Instant};

use self::exchange::ExchangeState;
pub use self::{
    call_log::{CallCounts, CallLog, CallOutcome, CallRecord, RefusalCause},
    config::{ErrorShape, LimitReply, NonceRefusal, SimulatorConfig},
    fault::{Effect, Fault, SimulatedEndpoint},
    sliding_window::max_calls_in_window,
};

/// The simulated exchange. Clones are handles on the same one.
#[derive(Clone)]
pub struct Simulator(Arc<Mutex<ExchangeState>>);

impl Simulator {
    /// An exchange with these accounts, which starts now.
    #[must_use]
    pub fn new(rules: SimulatorConfig, accounts: Vec<SimulatedAccount>) -> Self {
        Self(Arc::new(Mutex::new(ExchangeState::new(rules, accounts, Instant::now()))))
    }

    /// Serves until `shutdown` is done, then lets calls in flight end for at most a second.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        server::serve(self, listener, shutdown).await;
    }

    /// Sets one balance. The amounts are served as they are, whether or not they are numbers.
    ///
    /// # Errors
    /// No account has this name.
    pub fn set_balance(
        &self,
        account: &str,
        wallet: SimulatedWallet,
        currency: &str,
        available: &str,
        freeze: &str,
    ) -> Result<(), UnknownAccount> {
        let balance = SimulatedBalance::new(available, freeze);
        let mut exchange = self.exchange();
        let rows = exchange.rows(account, wallet)?;
        rows.insert(currency.to_owned(), balance);
        Ok(())
    }

    /// Removes one balance; whether there was one.
    ///
    /// # Errors
    /// No account has this name.
    pub fn remove_balance(
        &self,
        account: &str,
        wallet: SimulatedWallet,
        currency: &str,
    ) -> Result<bool, UnknownAccount> {
        let mut exchange = self.exchange();
        let rows = exchange.rows(account, wallet)?;
        Ok(rows.remove(currency).is_some())
    }

    /// Sets what was last paid on a market, such as `btc_usdt`. It is served as it is, whether or not it
    /// is a number; a market that there is not yet is opened.
    pub fn set_price(&self, market: &str, price: &str) {
        self.exchange().prices.insert(market.to_owned(), price.to_owned());
    }

    /// Closes a market; whether there was one.
    #[must_use]
    pub fn remove_price(&self, market: &str) -> bool {
        self.exchange().prices.remove(market).is_some()
    }

    /// Puts a fault in force from now on.
    pub fn inject_fault(&self, fault: Fault) {
        self.exchange().inject_fault(fault, Instant::now());
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.exchange().clear_faults(Instant::now());
    }

    /// What was counted so far.
    #[must_use]
    pub fn call_log(&self) -> CallLog {
        self.exchange().call_log(Instant::now())
    }

    /// The exchange's clock: Unix time in milliseconds.
    #[must_use]
    pub fn server_time_ms(&self) -> i64 {
        self.exchange().server_time_ms(Instant::now())
    }

    /// Sets the exchange's clock minus the machine's clock, in milliseconds, from now on.
    pub fn set_clock_offset_ms(&self, offset_ms: i64) {
        self.exchange().set_clock_offset_ms(offset_ms);
    }

    fn exchange(&self) -> MutexGuard<'_, ExchangeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator").finish_non_exhaustive()
    }
}

/// One account of the exchange and the key pair that reads it.
#[derive(Clone, Debug)]
pub struct SimulatedAccount {
    /// What faults, counts and the control pages call it.
    pub name: String,
    /// The public half of its key.
    pub access_key: String,
    /// The half it signs with.
    pub secret_key: String,
    /// The addresses the key may be used from; any if not given.
    pub ips: Option<Vec<IpAddr>>,
    /// The version of the API that knows the key; all of them if not given.
    pub api: Option<SimulatedApi>,
    /// Whether the key works.
    pub key: KeyState,
    /// The rows of each wallet by currency.
    pub wallets: BTreeMap<SimulatedWallet, BTreeMap<String, SimulatedBalance>>,
}

impl SimulatedAccount {
    /// An account without balances whose key may read from anywhere.
    #[must_use]
    pub fn new(name: &str, access_key: &str, secret_key: &str) -> Self {
        Self {
            name: name.to_owned(),
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            ips: None,
            api: None,
            key: KeyState::Active,
            wallets: BTreeMap::new(),
        }
    }

    /// The same account with one more balance.
    #[must_use]
    pub fn with_balance(
        mut self,
        wallet: SimulatedWallet,
        currency: &str,
        available: &str,
        freeze: &str,
    ) -> Self {
        let rows = self.wallets.entry(wallet).or_default();
        rows.insert(currency.to_owned(), SimulatedBalance::new(available, freeze));
        self
    }
}

/// Whether a key works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It may read.
    Active,
    /// It waits for its activation.
    Inactive,
    /// It may do other things, but not read.
    NotAllowedToRead,
    /// It may read all but futures.
    NotForFutures,
}

/// Version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatedApi {
    /// The first.
    V1,
    /// The one that came after it, its futures included.
    V4,
}

/// Where an account holds its balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SimulatedWallet {
    /// The trading account: getBalance, or getFunds with `account=2`; with v4 balances.
    Spot,
    /// getFunds with `account=1`.
    Wallet,
    /// getFunds with `account=3`.
    Fiat,
    /// USDT-margined futures, under `/fapi`.
    FuturesUsdt,
    /// Coin-margined futures, under `/dapi`.
    FuturesCoin,
}

impl SimulatedWallet {
    /// Every wallet with the word for it in paths and answers of `/simulator/`.
    pub(crate) const WORDS: [(&'static str, Self); 5] = [
        ("spot", Self::Spot),
        ("wallet", Self::Wallet),
        ("fiat", Self::Fiat),
        ("futures_usdt", Self::FuturesUsdt),
        ("futures_coin", Self::FuturesCoin),
    ];
}

/// One row of an answer: decimal strings, served as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SimulatedBalance {
    /// Amount locked in orders or withdrawals.
    pub freeze: String,
    /// Amount free to trade or withdraw.
    pub available: String,
}

impl SimulatedBalance {
    /// A row with these amounts.
    #[must_use]
    pub fn new(available: &str, freeze: &str) -> Self {
        Self { freeze: freeze.to_owned(), available: available.to_owned() }
    }
}

/// No account has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAccount(
    /// The name that was given.
    pub String,
);

impl fmt::Display for UnknownAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the simulated exchange has no account called {}", self.0)
    }
}

impl std::error::Error for UnknownAccount {}
