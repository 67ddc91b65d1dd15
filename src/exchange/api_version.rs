//! The API versions: which endpoint reads a wallet in which version, how its request is signed and how its reply is
//! decoded. The only place that distinguishes the versions.
//! Pure: sends nothing and reads no clock.

use std::time::Duration;

use super::{
    balance::{BalanceAnswer, RawBody, Wallet},
    decode::decode_failure,
    error::Failure,
    futures, futures_positions,
    market_list::MarketList,
    position::PositionAnswer,
    price::PriceTable,
    request::Request,
    secret::KeyPair,
    signing, v1, v4,
};

/// Version of the exchange's API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiVersion {
    /// The first version, with signed parameters. XT withdrew its documents; sister exchanges run it.
    V1,
    /// The version of keys made today, with signed headers. Its futures have hosts and an envelope of their own.
    #[default]
    V4,
}

impl ApiVersion {
    /// The name in flags, file and messages.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V4 => "v4",
        }
    }

    /// The wallets that it can read, in the order of [`Wallet::ALL`].
    pub fn wallets(self) -> impl Iterator<Item = Wallet> {
        Wallet::ALL.into_iter().filter(move |wallet| Endpoint::new(self, *wallet).is_some())
    }

    /// Whether a list of `wallet` is completed by calls for single currencies.
    #[must_use]
    pub fn has_single_reads(self, wallet: Wallet) -> bool {
        Endpoint::new(self, wallet).is_some_and(Endpoint::has_single_reads)
    }

    /// The unsigned request for the exchange's time.
    #[must_use]
    pub(super) fn server_time_request(self) -> Request {
        Request::unsigned(match self {
            Self::V1 => v1::SERVER_TIME_PATH,
            Self::V4 => v4::SERVER_TIME_PATH,
        })
    }

    /// Decodes the reply with the exchange's time, in Unix milliseconds.
    ///
    /// # Errors
    /// Any reply except the documented one.
    pub(super) fn decode_server_time(self, status: u16, body: &[u8]) -> Result<u64, Failure> {
        match self {
            Self::V1 => v1::decode_server_time(status, body),
            Self::V4 => v4::decode_server_time(status, body),
        }
    }

    /// The unsigned request for the prices of all markets.
    #[must_use]
    pub(super) fn prices_request(self) -> Request {
        Request::unsigned(match self {
            Self::V1 => v1::PRICES_PATH,
            Self::V4 => v4::PRICES_PATH,
        })
    }

    /// The unsigned request for the list of markets.
    #[must_use]
    pub(super) fn markets_request(self) -> Request {
        Request::unsigned(match self {
            Self::V1 => v1::MARKETS_PATH,
            Self::V4 => v4::MARKETS_PATH,
        })
    }

    /// Decodes the reply with the list of markets.
    ///
    /// # Errors
    /// Any reply except the documented one, with its reason.
    pub(super) fn decode_markets(self, status: u16, body: &[u8]) -> Result<MarketList, Failure> {
        match self {
            Self::V1 => v1::decode_markets(status, body),
            Self::V4 => v4::decode_markets(status, body),
        }
    }

    /// Decodes the reply with the prices.
    ///
    /// # Errors
    /// Any reply except the documented one, with its reason.
    pub(super) fn decode_prices(self, status: u16, body: &[u8]) -> Result<PriceTable, Failure> {
        match self {
            Self::V1 => v1::decode_prices(status, body),
            Self::V4 => v4::decode_prices(status, body),
        }
    }
}

/// An endpoint that reads a wallet, or its positions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Endpoint<'a> {
    V1(v1::V1Call),
    V4,
    /// One currency of the wallet that [`Self::V4`] lists.
    V4Single(&'a str),
    Futures,
    Earn,
    /// The open positions of the wallet that [`Self::Futures`] lists.
    Positions,
}

impl<'a> Endpoint<'a> {
    /// `None` if this API version does not have the wallet.
    #[must_use]
    pub(super) fn new(api: ApiVersion, wallet: Wallet) -> Option<Self> {
        match (api, wallet) {
            (ApiVersion::V1, wallet) => v1::balances_call(wallet).map(Self::V1),
            (ApiVersion::V4, Wallet::Spot) => Some(Self::V4),
            (ApiVersion::V4, Wallet::FuturesUsdt | Wallet::FuturesCoin) => Some(Self::Futures),
            (ApiVersion::V4, Wallet::Earn) => Some(Self::Earn),
            (ApiVersion::V4, Wallet::Wallet | Wallet::Fiat) => None,
        }
    }

    /// The endpoint of the open positions of `wallet`; `None` if it has none.
    #[must_use]
    pub(super) fn positions(api: ApiVersion, wallet: Wallet) -> Option<Self> {
        (api == ApiVersion::V4 && wallet.has_positions()).then_some(Self::Positions)
    }

    /// Whether a refusal says that the key cannot read the wallet. A refusal to show positions does not.
    #[must_use]
    pub(super) fn judges_key(self) -> bool {
        !matches!(self, Self::Positions)
    }

    /// Whether the list of the wallet can be completed by calls for one currency.
    #[must_use]
    pub(super) fn has_single_reads(self) -> bool {
        matches!(self, Self::V4)
    }

    /// The endpoint that reads one `currency` of the wallet; `None` if there is no such call.
    #[must_use]
    pub(super) fn single(self, currency: &'a str) -> Option<Self> {
        self.has_single_reads().then_some(Self::V4Single(currency))
    }

    /// The endpoint for a reply that nobody waits for. It tells refusals and limit replies, and accepts no row of a currency.
    #[must_use]
    pub(super) fn without_currency(self) -> Endpoint<'static> {
        match self {
            Self::V1(call) => Endpoint::V1(call),
            Self::V4 => Endpoint::V4,
            Self::V4Single(_) => Endpoint::V4Single(""),
            Self::Futures => Endpoint::Futures,
            Self::Earn => Endpoint::Earn,
            Self::Positions => Endpoint::Positions,
        }
    }

    /// Whether the time in the request is a nonce, which must grow from call to call with a key.
    #[must_use]
    pub(super) fn needs_nonce(self) -> bool {
        matches!(self, Self::V1(_))
    }

    /// The largest `Age` of a reply, for a call with this `timeout`. Zero in v4, because all accounts call the same URL
    /// and a cached reply may belong to another account.
    #[must_use]
    pub(super) fn max_cache_age(self, timeout: Duration) -> Duration {
        match self {
            Self::V1(_) => timeout,
            Self::V4 | Self::V4Single(_) | Self::Futures | Self::Earn | Self::Positions => Duration::ZERO,
        }
    }

    /// Signs the request at `time`, the exchange's time in Unix milliseconds.
    #[must_use]
    pub(super) fn sign(self, pair: &KeyPair, time: u64) -> Request {
        match self {
            Self::V1((path, parameters)) => signing::v1(pair, path, parameters, time),
            Self::V4 => signing::v4(pair, v4::BALANCES_PATH, &[], time),
            Self::V4Single(currency) => signing::v4(pair, v4::BALANCE_PATH, &[("currency", currency)], time),
            Self::Earn => signing::v4(pair, v4::EARN_PATH, &[], time),
            Self::Futures => signing::futures(pair, futures::BALANCES_PATH, time),
            Self::Positions => signing::futures(pair, futures_positions::POSITIONS_PATH, time),
        }
    }

    /// Decodes the reply.
    ///
    /// # Errors
    /// Any reply except the documented one, with its reason.
    pub(super) fn decode_balances(self, status: u16, body: &[u8]) -> Result<BalanceAnswer, Failure> {
        match self {
            Self::V1(_) => v1::decode_balances(status, body),
            Self::V4 => v4::decode_balances(status, body),
            Self::V4Single(currency) => {
                let row = v4::decode_balance(status, body, currency)?;
                Ok(BalanceAnswer { unlisted: row.into_iter().collect(), ..BalanceAnswer::default() })
            }
            Self::Futures => futures::decode_balances(status, body),
            Self::Earn => v4::decode_earn(status, body),
            Self::Positions => Err(decode_failure("positions are no balances")),
        }
    }

    /// Decodes the reply with open positions.
    ///
    /// # Errors
    /// Any reply except the documented one, with its reason.
    pub(super) fn decode_positions(self, status: u16, body: &[u8]) -> Result<PositionAnswer, Failure> {
        match self {
            Self::Positions => futures_positions::decode_positions(status, body),
            _ => Err(decode_failure("balances are no positions")),
        }
    }

    /// The failure that a reply of this endpoint tells, if any.
    ///
    /// # Errors
    /// As the decoders.
    pub(super) fn judge(self, status: u16, body: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Positions => self.decode_positions(status, body).map(drop),
            _ => self.decode_balances(status, body).map(drop),
        }
    }
}

/// Decodes a reply that was good before; `None` if it holds no good answer.
#[must_use]
pub fn decode_again(api: ApiVersion, wallet: Wallet, raw_body: &RawBody) -> Option<BalanceAnswer> {
    let answer = Endpoint::new(api, wallet)?.decode_balances(raw_body.status(), raw_body.body()).ok()?;
    Some(BalanceAnswer { raw_body: Some(raw_body.clone()), ..answer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wallet_is_read_by_some_version_and_spot_by_both() {
        let read = |api: ApiVersion| api.wallets().map(Wallet::label).collect::<Vec<_>>();
        assert_eq!(read(ApiVersion::V1), ["spot", "wallet", "fiat"]);
        assert_eq!(read(ApiVersion::V4), ["spot", "futures_usdt", "futures_coin", "earn"]);
    }
}
