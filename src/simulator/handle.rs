//! The handle on a simulated exchange: balances, prices, faults and the clock, for tests, the control pages and the demo
//! market.
//!
//! Must not know sockets.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::{
    account::{SimulatedAccount, SimulatedBalance, SimulatedWallet, UnknownAccount},
    call_log::CallLog,
    config::SimulatorConfig,
    exchange::ExchangeState,
    fault::Fault,
    market_state::SimulatedMarketState,
    position::{PositionKey, SimulatedPosition},
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
        self.set_row(account, wallet, currency, SimulatedBalance::new(available, freeze))
    }

    /// Sets one balance with its parts.
    ///
    /// # Errors
    /// No account has this name.
    pub fn set_row(
        &self,
        account: &str,
        wallet: SimulatedWallet,
        currency: &str,
        balance: SimulatedBalance,
    ) -> Result<(), UnknownAccount> {
        self.lock_exchange().rows_mut(account, wallet)?.insert(currency.to_owned(), balance);
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

    /// Opens a position, or replaces it.
    ///
    /// # Errors
    /// No account has this name.
    pub fn set_position(
        &self,
        account: &str,
        wallet: SimulatedWallet,
        key: PositionKey,
        position: SimulatedPosition,
    ) -> Result<(), UnknownAccount> {
        let mut exchange = self.lock_exchange();
        exchange.positions_mut(account, wallet)?.insert(key, position);
        Ok(())
    }

    /// Closes a position. Returns whether it existed.
    ///
    /// # Errors
    /// No account has this name.
    pub fn remove_position(
        &self,
        account: &str,
        wallet: SimulatedWallet,
        key: &PositionKey,
    ) -> Result<bool, UnknownAccount> {
        let mut exchange = self.lock_exchange();
        Ok(exchange.positions_mut(account, wallet)?.remove(key).is_some())
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

    /// Sets the state of a market, such as `btc_usdt`, in the lists of markets. Its last price is served in every state.
    /// Returns whether the market exists.
    #[must_use]
    pub fn set_market_state(&self, market: &str, state: SimulatedMarketState) -> bool {
        let mut exchange = self.lock_exchange();
        let exists = exchange.prices.contains_key(market);
        if exists {
            exchange.market_states.insert(market.to_owned(), state);
        }
        exists
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

    pub(super) fn lock_exchange(&self) -> MutexGuard<'_, ExchangeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator").finish_non_exhaustive()
    }
}
