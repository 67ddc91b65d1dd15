//! What can go wrong on request: whom a fault hits, for how long, and what it does.
//!
//! Only the wish; `exchange` decides when it applies and `server` carries it out on the socket.

use std::time::Duration;

use hyper::{StatusCode, header::HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A fault on the calls of some account and endpoint. It lasts until its calls or its time are used up, whichever is
/// first, or until it is cleared.
///
/// Of several that hit a call, the oldest that concerns the reply as a whole applies, and each that concerns the key or
/// the rows. So faults of one call each, injected one after the other, play in that order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The account whose key the call carries; any call if not given, unsigned ones included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The endpoint that is called; any if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SimulatedEndpoint>,
    /// How many calls it hits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
    /// How long it lasts.
    #[serde(default, rename = "seconds", with = "seconds", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Duration>,
    /// What it does.
    pub effect: Effect,
}

impl Fault {
    /// A fault that hits every call until it is cleared.
    #[must_use]
    pub fn new(effect: Effect) -> Self {
        Self { account: None, endpoint: None, calls: None, lasts: None, effect }
    }

    /// Only calls with this account's key.
    #[must_use]
    pub fn for_account(mut self, name: &str) -> Self {
        self.account = Some(name.to_owned());
        self
    }

    /// Only calls of this endpoint.
    #[must_use]
    pub fn for_endpoint(mut self, endpoint: SimulatedEndpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Only so many calls.
    #[must_use]
    pub fn for_calls(mut self, calls: u64) -> Self {
        self.calls = Some(calls);
        self
    }

    /// Only for so long from now on.
    #[must_use]
    pub fn for_duration(mut self, time: Duration) -> Self {
        self.lasts = Some(time);
        self
    }
}

/// What a fault does to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// Another HTTP status, with whatever body and headers.
    Status {
        /// 200 to 599.
        status: u16,
        /// The body, as it is.
        #[serde(default)]
        body: String,
        /// The media type; HTML if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content_type: Option<String>,
        /// `Retry-After`, as it is: seconds or a date.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<String>,
        /// `Location`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        location: Option<String>,
    },
    /// Status 503 with an HTML page that says so.
    Maintenance,
    /// Status 200 and an error of the exchange.
    Code {
        /// The code in the body.
        code: i64,
        /// `info`, left out if not given; so are the other two.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        info: Option<String>,
        /// `msg`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        msg: Option<String>,
        /// `msgInfo`, a text or an object.
        #[serde(default, rename = "msgInfo", skip_serializing_if = "Option::is_none")]
        msg_info: Option<Value>,
    },
    /// Status 200 and an error of v4's spot.
    Mc(String),
    /// Status 200 and an error of futures.
    Error {
        /// The code in the body.
        code: String,
        /// The text beside it.
        msg: String,
    },
    /// Status 200 and this text, whatever it is.
    Body(String),
    /// Status 200 and well-formed JSON whose `data` or `result` is so many arrays deep.
    Deep {
        /// At most 10 000 000.
        levels: usize,
    },
    /// Accepts the call and never answers.
    Silence,
    /// Closes the connection with a reset once the request is read.
    Reset,
    /// Status 200 and rows without end.
    Endless,
    /// Status 200 and a small gzip body that grows to this many MiB of blanks.
    GzipBomb {
        /// Size when decoded, at most 16 384.
        mebibytes: u32,
    },
    /// The true answer, later.
    Delay {
        /// How much later.
        ms: u64,
    },
    /// The true answer, one byte at a time.
    Slow {
        /// Between two bytes.
        every_ms: u64,
    },
    /// The first half of the true answer under its full `Content-Length`, then the connection closes.
    CutShort,
    /// The true answer under another HTTP status.
    Restatus {
        /// 200 to 599.
        status: u16,
    },
    /// The true answer, and once more the same answer, which nobody asked for. The copy needs a connection that the
    /// client keeps open.
    Surplus {
        /// Time between the answer and its copy.
        after_ms: u64,
    },
    /// A shared cache. It passes on the first answer of each endpoint and repeats that answer to every later call,
    /// including calls of other accounts.
    Cached {
        /// `Age` of a repeated answer, in seconds; no header if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        age: Option<u64>,
        /// Seconds by which `Date` of a repeated answer is behind the exchange's clock. If not given, a repeated answer
        /// has the `Date` of the first answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        date_behind: Option<u64>,
    },
    /// The time endpoints answer a wrong time. The exchange's own clock stays right.
    WrongTime {
        /// The answered time minus the exchange's time.
        ahead_ms: i64,
    },
    /// The key is refused as if it were unknown.
    Revoked,
    /// The rows without that of this currency.
    DropCurrency(String),
    /// No row at all.
    EmptyData,
    /// Every row with "0" as each of its amounts.
    Zeros,
    /// The rows with this in place of a currency's; an object gets the currency's name where rows are a list.
    Row {
        /// The currency, listed or not.
        currency: String,
        /// Any JSON: `{"available":"NaN","freeze":null}`.
        value: Value,
    },
}

impl Effect {
    /// A bare status with a body that says little, as proxies send it.
    #[must_use]
    pub fn from_status(status: u16) -> Self {
        let reason = StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
        let reason = reason.unwrap_or("Unknown");
        Self::Status {
            status,
            body: format!(
                "<html><head><title>{status} {reason}</title></head><body>{reason}</body></html>\n"
            ),
            content_type: None,
            retry_after: None,
            location: None,
        }
    }

    /// The part of a call that it changes.
    pub(super) fn target(&self) -> FaultTarget {
        match self {
            Self::Revoked => FaultTarget::Key,
            Self::DropCurrency(_) | Self::EmptyData | Self::Zeros | Self::Row { .. } => FaultTarget::Rows,
            Self::WrongTime { .. } => FaultTarget::Time,
            _ => FaultTarget::Reply,
        }
    }

    /// Whether it can be carried out.
    ///
    /// # Errors
    /// A sentence naming the key, the value and the remedy.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Status { status, .. } | Self::Restatus { status } if !(200..=599).contains(status) => {
                Err(format!("status {status} is not a final HTTP status: give 200 to 599"))
            }
            Self::Status { content_type, retry_after, location, .. } => {
                let headers =
                    [("content_type", content_type), ("retry_after", retry_after), ("location", location)];
                for (key, value) in headers {
                    if value.as_deref().is_some_and(|value| HeaderValue::from_str(value).is_err()) {
                        return Err(format!("{key} cannot be a header: give visible characters only"));
                    }
                }
                Ok(())
            }
            Self::Deep { levels } if *levels > 10_000_000 => {
                Err(format!("levels {levels} is too deep: give 10000000 at most"))
            }
            Self::GzipBomb { mebibytes } if *mebibytes > 16_384 => {
                Err(format!("mebibytes {mebibytes} is too large: give 16384 at most"))
            }
            _ => Ok(()),
        }
    }
}

/// The part of a call that an effect changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultTarget {
    /// The whole reply: its content or its delivery.
    Reply,
    /// The key's validity.
    Key,
    /// The rows of a wallet.
    Rows,
    /// The time in the answer of a time endpoint.
    Time,
}

/// What the exchange can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SimulatedEndpoint {
    /// `/trade/api/v1/getServerTime`, unsigned.
    GetServerTime,
    /// `/trade/api/v1/getAccounts`, unsigned.
    GetAccounts,
    /// `/data/api/v1/getTickers`, unsigned.
    GetTickers,
    /// `/trade/api/v1/getBalance`, signed: the spot wallet.
    GetBalance,
    /// `/trade/api/v1/getFunds`, signed: the wallet named by `account`.
    GetFunds,
    /// `/v4/public/time`.
    V4Time,
    /// `/v4/public/client`: the caller's address.
    V4Client,
    /// `/v4/public/symbol`: the markets.
    V4Symbols,
    /// `/v4/public/currencies`.
    V4Currencies,
    /// `/v4/public/wallet/support/currency`: the chains of each currency.
    V4Chains,
    /// `/v4/public/ticker/price`.
    V4Prices,
    /// `/v4/public/ticker/24h`.
    V4Days,
    /// `/v4/balances`, signed: the spot wallet, or what of it `currencies` names.
    V4Balances,
    /// `/v4/balance`, signed: one `currency` of it.
    V4Balance,
    /// `/future/market/v1/public/symbol/list` of USDT-margined futures.
    FuturesUsdtSymbols,
    /// The same of coin-margined futures.
    FuturesCoinSymbols,
    /// `/future/user/v1/balance/list` of USDT-margined futures, signed.
    FuturesUsdtBalances,
    /// The same of coin-margined futures.
    FuturesCoinBalances,
    /// `/future/user/v1/balance/detail` of USDT-margined futures, signed: one `coin`.
    FuturesUsdtBalance,
    /// The same of coin-margined futures.
    FuturesCoinBalance,
}

/// How an endpoint words its answers and is signed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireFormat {
    V1,
    V4,
    Futures,
}

impl SimulatedEndpoint {
    /// The endpoint at a path. What the exchange has on hosts of their own, `fapi` and `dapi`, is here under paths of
    /// their own.
    pub(super) fn at(path: &str) -> Option<Self> {
        let (usdt, coin) = (path.strip_prefix("/fapi"), path.strip_prefix("/dapi"));
        let (path, is_usdt) = (usdt.or(coin).unwrap_or(path), usdt.is_some());
        let futures = |usdt: Self, coin: Self| if is_usdt { usdt } else { coin };
        let endpoint = match path {
            "/trade/api/v1/getServerTime" => Self::GetServerTime,
            "/trade/api/v1/getAccounts" => Self::GetAccounts,
            "/data/api/v1/getTickers" => Self::GetTickers,
            "/trade/api/v1/getBalance" => Self::GetBalance,
            "/trade/api/v1/getFunds" => Self::GetFunds,
            "/v4/public/time" => Self::V4Time,
            "/v4/public/client" => Self::V4Client,
            "/v4/public/symbol" => Self::V4Symbols,
            "/v4/public/currencies" => Self::V4Currencies,
            "/v4/public/wallet/support/currency" => Self::V4Chains,
            "/v4/public/ticker/price" => Self::V4Prices,
            "/v4/public/ticker/24h" => Self::V4Days,
            "/v4/balances" => Self::V4Balances,
            "/v4/balance" => Self::V4Balance,
            "/future/market/v1/public/symbol/list" => {
                futures(Self::FuturesUsdtSymbols, Self::FuturesCoinSymbols)
            }
            "/future/user/v1/balance/list" => futures(Self::FuturesUsdtBalances, Self::FuturesCoinBalances),
            "/future/user/v1/balance/detail" => futures(Self::FuturesUsdtBalance, Self::FuturesCoinBalance),
            _ => return None,
        };
        let is_futures = endpoint.dialect() == WireFormat::Futures;
        ((usdt.or(coin).is_some()) == is_futures).then_some(endpoint)
    }

    /// What a signed call of v4 signs before its query: its method, unless futures, and its path on a host of its own.
    pub(super) fn signs(self) -> &'static str {
        match self {
            Self::V4Balances => "#GET#/v4/balances",
            Self::V4Balance => "#GET#/v4/balance",
            Self::FuturesUsdtBalances | Self::FuturesCoinBalances => "#/future/user/v1/balance/list",
            Self::FuturesUsdtBalance | Self::FuturesCoinBalance => "#/future/user/v1/balance/detail",
            _ => "",
        }
    }

    /// The parameters that a call of v4 may have.
    pub(super) fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::V4Balances => &["currencies"],
            Self::V4Balance => &["currency"],
            Self::V4Symbols => &["symbol", "symbols", "tags", "version"],
            Self::V4Prices | Self::V4Days => &["symbol", "symbols", "tags"],
            Self::FuturesUsdtBalance | Self::FuturesCoinBalance => &["coin"],
            _ => &[],
        }
    }

    pub(super) fn dialect(self) -> WireFormat {
        match self {
            Self::GetServerTime
            | Self::GetAccounts
            | Self::GetTickers
            | Self::GetBalance
            | Self::GetFunds => WireFormat::V1,
            Self::V4Time
            | Self::V4Client
            | Self::V4Symbols
            | Self::V4Currencies
            | Self::V4Chains
            | Self::V4Prices
            | Self::V4Days
            | Self::V4Balances
            | Self::V4Balance => WireFormat::V4,
            Self::FuturesUsdtSymbols
            | Self::FuturesCoinSymbols
            | Self::FuturesUsdtBalances
            | Self::FuturesCoinBalances
            | Self::FuturesUsdtBalance
            | Self::FuturesCoinBalance => WireFormat::Futures,
        }
    }

    /// Whether it reads assets: signed, and under a limit of the key.
    pub(super) fn is_asset(self) -> bool {
        matches!(
            self,
            Self::GetBalance
                | Self::GetFunds
                | Self::V4Balances
                | Self::V4Balance
                | Self::FuturesUsdtBalances
                | Self::FuturesCoinBalances
                | Self::FuturesUsdtBalance
                | Self::FuturesCoinBalance
        )
    }
}

/// A time as a number of seconds in JSON.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_f64(time.as_secs_f64()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let Some(seconds) = Option::<f64>::deserialize(from)? else {
            return Ok(None);
        };
        let time = Duration::try_from_secs_f64(seconds).ok();
        time.map(Some).ok_or_else(|| {
            D::Error::custom(format!("seconds {seconds} is not a length of time: give 45 or 0.5"))
        })
    }
}
