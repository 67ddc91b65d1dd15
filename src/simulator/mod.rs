//! A simulated exchange. It speaks the exchange's wire format over real sockets and is as strict as the exchange's
//! documentation.
//!
//! The simulator verifies signatures, nonces and limits (with the lock), serves the documented shapes, fails on request
//! and keeps counts. It must not know any other module of the crate: shared code would hide the client's mistakes.
//!
//! ```text
//! server ──▶ control ──▶ exchange ──▶ query, auth_headers, sliding_window, config, active_faults, call_log
//!    └─────▶ reply ──▶ v1_json, v4_json ◀──┘      market ──▶ Simulator
//! ```

mod account;
mod active_faults;
mod auth_headers;
mod call_log;
mod clock;
mod config;
mod control;
mod decimal;
mod endpoint;
mod exchange;
mod fault;
mod fault_reply;
pub mod market;
mod query;
mod reply;
mod server;
mod sliding_window;
mod v1_json;
mod v4_json;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{net::TcpListener, time::Instant};

use self::exchange::ExchangeState;
pub use self::{
    account::{
        SimulatedAccount, SimulatedApi, SimulatedBalance, SimulatedKeyState, SimulatedWallet, UnknownAccount,
    },
    call_log::{CallCounts, CallLog, CallOutcome, CallRecord, RefusalCause},
    config::{ErrorShape, LimitReply, NonceRefusal, SimulatorConfig},
    endpoint::SimulatedEndpoint,
    fault::{Effect, Fault},
    sliding_window::max_calls_in_window,
};

/// The simulated exchange. Clones are handles on the same exchange.
#[derive(Clone)]
pub struct Simulator(Arc<Mutex<ExchangeState>>);

impl Simulator {
    /// Creates an exchange with these accounts. Its clock starts now.
    #[must_use]
    pub fn new(config: SimulatorConfig, accounts: Vec<SimulatedAccount>) -> Self {
        Self(Arc::new(Mutex::new(ExchangeState::new(config, accounts, Instant::now()))))
    }

    /// Serves until `shutdown` is done. Afterwards calls in flight have one second to end.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        server::serve(self, listener, shutdown).await;
    }

    /// Sets one balance. The exchange serves the amounts unchanged, even if they are not numbers.
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
        let mut exchange = self.lock_exchange();
        let rows = exchange.rows_mut(account, wallet)?;
        rows.insert(currency.to_owned(), balance);
        Ok(())
    }

    /// Removes one balance. Returns whether it existed.
    ///
    /// # Errors
    /// No account has this name.
    pub fn remove_balance(
        &self,
        account: &str,
        wallet: SimulatedWallet,
        currency: &str,
    ) -> Result<bool, UnknownAccount> {
        let mut exchange = self.lock_exchange();
        let rows = exchange.rows_mut(account, wallet)?;
        Ok(rows.remove(currency).is_some())
    }

    /// Sets the last price of a market, such as `btc_usdt`. Opens a market that does not exist yet. The exchange serves
    /// the price unchanged, even if it is not a number.
    pub fn set_price(&self, market: &str, price: &str) {
        self.lock_exchange().prices.insert(market.to_owned(), price.to_owned());
    }

    /// Closes a market. Returns whether it existed.
    #[must_use]
    pub fn remove_price(&self, market: &str) -> bool {
        self.lock_exchange().prices.remove(market).is_some()
    }

    /// Activates a fault from now on.
    pub fn inject_fault(&self, fault: Fault) {
        self.lock_exchange().inject_fault(fault, Instant::now());
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.lock_exchange().clear_faults(Instant::now());
    }

    /// Calls counted so far.
    #[must_use]
    pub fn call_log(&self) -> CallLog {
        self.lock_exchange().call_log(Instant::now())
    }

    /// The exchange's clock: Unix time in milliseconds.
    #[must_use]
    pub fn server_time_ms(&self) -> i64 {
        self.lock_exchange().server_time_ms(Instant::now())
    }

    /// Sets the exchange's clock minus the machine's clock, in milliseconds, from now on.
    pub fn set_clock_offset_ms(&self, offset_ms: i64) {
        self.lock_exchange().set_clock_offset_ms(offset_ms);
    }

    fn lock_exchange(&self) -> MutexGuard<'_, ExchangeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator").finish_non_exhaustive()
    }
}
