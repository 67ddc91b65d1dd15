//! The client for the exchange: reads balances and prices, within the exchange's limits.
//! Knows no metric, no web server and no schedule.

mod amount;
mod api_version;
mod auth_backoff;
mod balance;
mod base_url;
mod call;
mod call_window;
mod client;
mod clock_sync;
mod credentials;
mod currency;
mod decode;
mod egress;
mod error;
mod error_text;
mod exchange_hosts;
mod failover;
mod freshness;
mod frozen;
pub mod futures;
pub mod futures_positions;
mod http;
mod in_flight;
mod key_permissions;
mod limiter_state;
mod limits;
mod market_list;
mod other_version;
mod pauses;
mod permit_client;
mod position;
mod price;
mod proxy;
mod proxy_logins;
mod proxy_status;
mod rate_limiter;
mod read;
mod read_prices;
mod redact;
mod remedy;
mod request;
mod reread;
mod root_store;
mod route;
mod saved_limits;
mod secret;
mod server_clock;
mod share;
mod signing;
mod single_reads;
mod strict_url;
mod transport;
mod unopened_wallet;
mod usage;
pub mod v1;
pub mod v4;

pub(crate) use self::strict_url::parse_port;
#[cfg(test)]
pub(crate) use self::transport::{Script, ScriptedRequest, ScriptedResponse};
pub use self::{
    amount::Amount,
    api_version::{ApiVersion, decode_again},
    balance::{Balance, BalanceAmounts, BalanceAnswer, RawBody, Wallet},
    base_url::BaseUrl,
    call_window::WindowUsage,
    client::{Client, PriceClient, Session},
    credentials::{Credentials, KeyHalf, KeySource},
    currency::currency_name,
    egress::{DEFAULT_EGRESS, Egress},
    error::{Detail, Failure, Reason},
    exchange_hosts::ExchangeHosts,
    frozen::{FrozenPart, FrozenParts, FrozenReason},
    futures::{CurrencyMargin, decode_margins},
    key_permissions::{KeyPermissions, KeyScope},
    market_list::MARKET_LIST_RETRY_INTERVAL,
    other_version::suggest_other_version,
    pauses::Paused,
    permit_client::{PermitClient, PermitFuture, PermitResponse, RemotePermit},
    position::{MarginMode, Position, PositionAnswer, PositionSide, settlement_currency},
    price::{PriceTable, QUOTE},
    proxy::{Proxy, ProxyCredentials},
    rate_limiter::LentPermit,
    read::{PositionsRead, ReadAnswer, ReadOutcome, ReadRequest, SessionRead},
    read_prices::{MarketListStatus, PricesAnswer},
    remedy::{suggest_fix, suggest_other_fix},
    root_store::{RootStore, read_root_store},
    route::Route,
    saved_limits::{SAVED_LIMITS_MAX_BYTES, SavedLimits},
    secret::{KeyId, KeyPair, Secret},
    server_clock::ClockReading,
    share::{
        ADDRESS_CALLS_PER_MINUTE, ADDRESS_SPAN, CallLimit, KEY_CALLS_PER_SECOND, KEY_SPAN, LimitShares,
        PACE_SPAN, Share,
    },
    single_reads::SINGLE_READ_INTERVAL,
    unopened_wallet::suggest_opening_wallet,
    usage::RateLimitUsage,
};
