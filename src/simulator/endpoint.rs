//! Endpoints of the simulated exchange: path, wire format and parameters.
//!
//! Only tables. Must not know accounts, limits or faults.

use serde::{Deserialize, Serialize};

/// Endpoint of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SimulatedEndpoint {
    /// `/trade/api/v1/getServerTime`, unsigned.
    GetServerTime,
    /// `/trade/api/v1/getAccounts`, unsigned.
    GetAccounts,
    /// `/data/api/v1/getTickers`, unsigned.
    GetTickers,
    /// `/data/api/v1/getMarketConfig`, unsigned: the listed markets.
    GetMarketConfig,
    /// `/trade/api/v1/getBalance`, signed: the spot wallet.
    GetBalance,
    /// `/trade/api/v1/getFunds`, signed: the wallet selected by `account`.
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
    /// `/v4/balances`, signed: the spot wallet, or its rows listed in `currencies`.
    V4Balances,
    /// `/v4/balance`, signed: one `currency` of the spot wallet.
    V4Balance,
    /// `/v4/finance/position-currency`, signed: the Earn wallet, or one `currency` of it.
    V4Earn,
    /// `/v4/user/account/api-key` of the user center, signed: the account's keys, with their secret keys.
    V4ApiKeys,
    /// `/future/market/v1/public/symbol/list` of USDT-margined futures.
    FuturesUsdtSymbols,
    /// `/future/market/v1/public/symbol/list` of coin-margined futures.
    FuturesCoinSymbols,
    /// `/future/user/v1/balance/list` of USDT-margined futures, signed.
    FuturesUsdtBalances,
    /// `/future/user/v1/balance/list` of coin-margined futures, signed.
    FuturesCoinBalances,
    /// `/future/user/v1/balance/detail` of USDT-margined futures, signed: one `coin`.
    FuturesUsdtBalance,
    /// `/future/user/v1/balance/detail` of coin-margined futures, signed: one `coin`.
    FuturesCoinBalance,
    /// `/future/user/v1/position` of USDT-margined futures, signed; optional `symbol`.
    FuturesUsdtPositions,
    /// `/future/user/v1/position` of coin-margined futures, signed.
    FuturesCoinPositions,
    /// `/future/user/v1/position/list` of USDT-margined futures, signed: without liquidation prices.
    FuturesUsdtPositionList,
    /// `/future/user/v1/position/list` of coin-margined futures, signed.
    FuturesCoinPositionList,
    /// `/future/user/v1/position/break-list` of USDT-margined futures, signed: liquidation prices.
    FuturesUsdtBreakList,
    /// `/future/user/v1/position/break-list` of coin-margined futures, signed.
    FuturesCoinBreakList,
}

/// Format of an endpoint's answers and signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireFormat {
    V1,
    V4Spot,
    Futures,
}

impl SimulatedEndpoint {
    /// Finds the endpoint at a path. The exchange serves futures on two further hosts, `fapi` and `dapi`; the simulator
    /// serves them under `/fapi` and `/dapi`.
    pub(super) fn from_path(path: &str) -> Option<Self> {
        let (usdt, coin) = (path.strip_prefix("/fapi"), path.strip_prefix("/dapi"));
        let (path, is_usdt) = (usdt.or(coin).unwrap_or(path), usdt.is_some());
        let futures = |usdt: Self, coin: Self| if is_usdt { usdt } else { coin };
        let endpoint = match path {
            "/trade/api/v1/getServerTime" => Self::GetServerTime,
            "/trade/api/v1/getAccounts" => Self::GetAccounts,
            "/data/api/v1/getTickers" => Self::GetTickers,
            "/data/api/v1/getMarketConfig" => Self::GetMarketConfig,
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
            "/v4/finance/position-currency" => Self::V4Earn,
            "/v4/user/account/api-key" => Self::V4ApiKeys,
            "/future/market/v1/public/symbol/list" => {
                futures(Self::FuturesUsdtSymbols, Self::FuturesCoinSymbols)
            }
            "/future/user/v1/balance/list" => futures(Self::FuturesUsdtBalances, Self::FuturesCoinBalances),
            "/future/user/v1/balance/detail" => futures(Self::FuturesUsdtBalance, Self::FuturesCoinBalance),
            "/future/user/v1/position" => futures(Self::FuturesUsdtPositions, Self::FuturesCoinPositions),
            "/future/user/v1/position/list" => {
                futures(Self::FuturesUsdtPositionList, Self::FuturesCoinPositionList)
            }
            "/future/user/v1/position/break-list" => {
                futures(Self::FuturesUsdtBreakList, Self::FuturesCoinBreakList)
            }
            _ => return None,
        };
        let is_futures = endpoint.wire_format() == WireFormat::Futures;
        ((usdt.or(coin).is_some()) == is_futures).then_some(endpoint)
    }

    /// Part of a v4 signature before the query: the method (spot only) and the path on the endpoint's own host, each
    /// after a `#`.
    pub(super) fn signed_prefix(self) -> &'static str {
        match self {
            Self::V4Balances => "#GET#/v4/balances",
            Self::V4Balance => "#GET#/v4/balance",
            Self::V4Earn => "#GET#/v4/finance/position-currency",
            Self::V4ApiKeys => "#GET#/v4/user/account/api-key",
            Self::FuturesUsdtBalances | Self::FuturesCoinBalances => "#/future/user/v1/balance/list",
            Self::FuturesUsdtBalance | Self::FuturesCoinBalance => "#/future/user/v1/balance/detail",
            Self::FuturesUsdtPositions | Self::FuturesCoinPositions => "#/future/user/v1/position",
            Self::FuturesUsdtPositionList | Self::FuturesCoinPositionList => "#/future/user/v1/position/list",
            Self::FuturesUsdtBreakList | Self::FuturesCoinBreakList => "#/future/user/v1/position/break-list",
            _ => "",
        }
    }

    /// Parameters that a v4 endpoint accepts.
    pub(super) fn allowed_parameters(self) -> &'static [&'static str] {
        match self {
            Self::V4Balances => &["currencies"],
            Self::V4Balance | Self::V4Earn => &["currency"],
            Self::V4ApiKeys => &["userAccountId", "keyName", "isLock"],
            Self::V4Symbols => &["symbol", "symbols", "tags", "version"],
            Self::V4Prices | Self::V4Days => &["symbol", "symbols", "tags"],
            Self::FuturesUsdtBalance | Self::FuturesCoinBalance => &["coin"],
            endpoint if endpoint.lists_positions() => &["symbol"],
            _ => &[],
        }
    }

    pub(super) fn wire_format(self) -> WireFormat {
        match self {
            Self::GetServerTime
            | Self::GetAccounts
            | Self::GetTickers
            | Self::GetMarketConfig
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
            | Self::V4Balance
            | Self::V4Earn
            | Self::V4ApiKeys => WireFormat::V4Spot,
            Self::FuturesUsdtSymbols
            | Self::FuturesCoinSymbols
            | Self::FuturesUsdtBalances
            | Self::FuturesCoinBalances
            | Self::FuturesUsdtBalance
            | Self::FuturesCoinBalance
            | Self::FuturesUsdtPositions
            | Self::FuturesCoinPositions
            | Self::FuturesUsdtPositionList
            | Self::FuturesCoinPositionList
            | Self::FuturesUsdtBreakList
            | Self::FuturesCoinBreakList => WireFormat::Futures,
        }
    }

    /// Whether the endpoint reads one row.
    pub(super) fn is_single_row(self) -> bool {
        matches!(self, Self::V4Balance | Self::FuturesUsdtBalance | Self::FuturesCoinBalance)
    }

    /// Whether the endpoint reads assets, or the keys of an account. Such calls are signed and have limits per key.
    pub(super) fn is_asset_call(self) -> bool {
        matches!(
            self,
            Self::GetBalance
                | Self::GetFunds
                | Self::V4Balances
                | Self::V4Balance
                | Self::V4Earn
                | Self::V4ApiKeys
                | Self::FuturesUsdtBalances
                | Self::FuturesCoinBalances
                | Self::FuturesUsdtBalance
                | Self::FuturesCoinBalance
        ) || self.lists_positions()
    }

    /// Whether the endpoint lists open positions.
    pub(super) fn lists_positions(self) -> bool {
        matches!(
            self,
            Self::FuturesUsdtPositions
                | Self::FuturesCoinPositions
                | Self::FuturesUsdtPositionList
                | Self::FuturesCoinPositionList
                | Self::FuturesUsdtBreakList
                | Self::FuturesCoinBreakList
        )
    }
}
