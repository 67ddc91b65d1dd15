//! A simulated exchange. It speaks the exchange's wire format over real sockets and is as strict as the exchange's
//! documentation.
//!
//! The simulator verifies signatures, nonces and limits (with the lock), serves the documented shapes, fails on request
//! and keeps counts. It must not know any other module of the crate: shared code would hide the client's mistakes.
//!
//! ```text
//! server ──▶ control ──▶ handle ──▶ exchange ──▶ query, auth_headers, sliding_window, clock, call_log
//!            market ───────▲           ├──▶ active_faults, fault_reply ──▶ reply, fault
//!                                      └──▶ v1_json, v4_json ──▶ decimal
//! ```

mod account;
mod active_faults;
mod auth_headers;
mod call_log;
mod clock;
mod config;
mod control;
mod decimal;
mod endless;
mod endpoint;
mod exchange;
mod fault;
mod fault_reply;
mod futures_market;
mod handle;
pub mod market;
mod market_state;
mod position;
mod query;
mod reply;
mod server;
mod sliding_window;
mod v1_json;
mod v4_json;

pub use self::{
    account::{
        SimulatedAccount, SimulatedApi, SimulatedBalance, SimulatedKeyState, SimulatedWallet, UnknownAccount,
    },
    call_log::{CallCounts, CallLog, CallOutcome, CallRecord, RefusalCause},
    config::{ErrorShape, LimitReply, NonceRefusal, SimulatorConfig, UnknownCurrency},
    endpoint::SimulatedEndpoint,
    fault::{Effect, Fault},
    handle::Simulator,
    market_state::SimulatedMarketState,
    position::{PositionKey, SimulatedPosition, SimulatedSide},
    sliding_window::max_calls_in_window,
};
