//! v4: authorization and answers of spot, futures and public calls.
//!
//! Must not know limits.

use std::time::Duration;

use serde_json::json;

use super::{
    super::{
        account::{SimulatedAccount, SimulatedBalance, SimulatedKeyState, SimulatedWallet},
        call_log::RefusalCause,
        config::UnknownCurrency,
        decimal,
        endpoint::{SimulatedEndpoint, WireFormat},
        fault::FaultTarget,
        query::QueryParameters,
        v4_json,
    },
    ExchangeState, ServedRow,
    call::ParsedCall,
    refusal::CallRefusal,
};

/// The rows of a wallet.
struct RenderedRows {
    /// Currency and JSON of each row, in the order of currencies.
    rows: Vec<(String, String)>,
    /// The value of all rows in USDT, hidden ones included.
    total: String,
}

impl ExchangeState {
    /// The body of the answer to an admitted v4 call. The exchange checks the headers of a signed call before its
    /// parameters.
    pub(super) fn answer_v4(&mut self, call: &ParsedCall) -> Result<String, CallRefusal> {
        let account_index = if call.endpoint.is_asset_call() { Some(self.authorize_v4(call)?) } else { None };
        let query = call.query.as_ref().map_err(|error| call.refuse_v4_parameter(error))?;
        let unexpected =
            query.find_repeated().or_else(|| query.find_unknown(call.endpoint.allowed_parameters()));
        if let Some(name) = unexpected {
            let text = format!("parameter {name} is unknown or given more than once");
            return Err(call.refuse_v4_parameter(&text));
        }
        if let Some(account_index) = account_index.filter(|_| call.endpoint == SimulatedEndpoint::V4ApiKeys) {
            let account = self.accounts.get(account_index).map(|state| &state.account);
            return Ok(v4_json::spot_success(&v4_json::api_keys(account)));
        }
        if let Some(account_index) = account_index.filter(|_| call.endpoint.lists_positions()) {
            return self.answer_positions(call, account_index, query);
        }
        if let Some(account_index) = account_index {
            return self.answer_v4_balances(call, account_index, query);
        }
        let time_ms = self.server_time_ms(call.now);
        Ok(match call.endpoint {
            SimulatedEndpoint::V4Time => {
                v4_json::spot_success(&json!({"serverTime": self.answered_time_ms(call)}))
            }
            SimulatedEndpoint::V4Client => v4_json::spot_success(&json!({"ip": call.ip})),
            SimulatedEndpoint::V4Symbols => {
                let symbols = v4_json::symbols(time_ms, &self.prices, &self.market_states);
                v4_json::spot_success(&symbols)
            }
            SimulatedEndpoint::V4Currencies => {
                v4_json::spot_success(&v4_json::currencies(time_ms, &self.prices))
            }
            SimulatedEndpoint::V4Chains => v4_json::spot_success(&v4_json::chains()),
            SimulatedEndpoint::V4Prices | SimulatedEndpoint::V4Days => {
                let requested = query.get("symbol").or_else(|| query.get("symbols"));
                let is_price = call.endpoint == SimulatedEndpoint::V4Prices;
                let ticker = if is_price { v4_json::price_ticker } else { v4_json::day_ticker };
                let tickers = v4_json::tickers(time_ms, &self.prices, requested, ticker);
                let unknown = || CallRefusal::v4_spot(RefusalCause::Parameters, "SYMBOL_001");
                v4_json::spot_success(&tickers.ok_or_else(unknown)?)
            }
            SimulatedEndpoint::FuturesUsdtSymbols => {
                v4_json::futures_success(&v4_json::futures_symbols("U_BASED"))
            }
            SimulatedEndpoint::FuturesCoinSymbols => {
                v4_json::futures_success(&v4_json::futures_symbols("COIN_BASED"))
            }
            _ => return Err(call.refuse_v4_parameter("there is no such method")),
        })
    }

    /// The body of the answer to an authorized call for balances.
    fn answer_v4_balances(
        &mut self,
        call: &ParsedCall,
        account_index: usize,
        query: &QueryParameters,
    ) -> Result<String, CallRefusal> {
        let RenderedRows { rows, total } = self.render_v4_rows(call, account_index);
        let (unknown_currency, as_numbers) = (self.config.unknown_currency, self.config.v4_numbers);
        let find_row = |parameter: &str, refusal: CallRefusal| {
            let requested = query
                .get(parameter)
                .ok_or_else(|| call.refuse_v4_parameter(&format!("parameter {parameter} is missing")))?;
            let row = rows.iter().find(|(currency, _)| currency == requested);
            match (row, unknown_currency) {
                (Some((_, row)), _) => Ok(Some(row.clone())),
                (None, UnknownCurrency::Error) => Err(refusal),
                (None, UnknownCurrency::NoRow) => Ok(None),
                (None, UnknownCurrency::Zeros) => {
                    let zero = SimulatedBalance::new("0", "0");
                    Ok(Some(if call.endpoint.wire_format() == WireFormat::Futures {
                        v4_json::futures_row(requested, &zero, as_numbers)
                    } else {
                        v4_json::spot_row(rows.len(), requested, &zero, "0", as_numbers)
                    }))
                }
            }
        };
        match call.endpoint {
            SimulatedEndpoint::V4Balances => {
                let requested = query.get("currencies");
                let is_requested = |currency: &str| {
                    requested.is_none_or(|list| list.split(',').any(|listed| listed == currency))
                };
                let requested_rows = rows.iter().filter(|(currency, _)| is_requested(currency));
                let texts: Vec<_> = requested_rows.map(|(_, row)| row.as_str()).collect();
                Ok(v4_json::spot_rows(&texts, &total))
            }
            SimulatedEndpoint::V4Earn => {
                let requested = query.get("currency");
                let is_requested =
                    |currency: &str| requested.is_none_or(|name| name.eq_ignore_ascii_case(currency));
                let rows = rows.iter().filter(|(currency, _)| is_requested(currency));
                Ok(v4_json::earn_rows(&rows.map(|(_, row)| row.as_str()).collect::<Vec<_>>()))
            }
            SimulatedEndpoint::V4Balance => {
                let unknown = CallRefusal::v4_spot(RefusalCause::Parameters, "CURRENCY_001");
                find_row("currency", unknown).map(v4_json::single_spot_row)
            }
            SimulatedEndpoint::FuturesUsdtBalance | SimulatedEndpoint::FuturesCoinBalance => {
                let unknown = CallRefusal::futures(RefusalCause::Parameters, "invalid_coin", "invalid coin");
                find_row("coin", unknown).map(v4_json::single_futures_row)
            }
            _ => {
                let texts: Vec<_> = rows.iter().map(|(_, row)| row.as_str()).collect();
                Ok(v4_json::futures_rows(&texts))
            }
        }
    }

    /// Renders the rows of the call's wallet in JSON, changed by faults. A list has no hidden rows.
    fn render_v4_rows(&mut self, call: &ParsedCall, account_index: usize) -> RenderedRows {
        let wallet = match call.endpoint {
            SimulatedEndpoint::FuturesUsdtBalances | SimulatedEndpoint::FuturesUsdtBalance => {
                SimulatedWallet::FuturesUsdt
            }
            SimulatedEndpoint::FuturesCoinBalances | SimulatedEndpoint::FuturesCoinBalance => {
                SimulatedWallet::FuturesCoin
            }
            SimulatedEndpoint::V4Earn => SimulatedWallet::Earn,
            _ => SimulatedWallet::Spot,
        };
        let is_futures = call.endpoint.wire_format() == WireFormat::Futures;
        let currency_field = if is_futures { "coin" } else { "currency" };
        let effects = self.apply_row_faults(call);
        let as_numbers = self.config.v4_numbers;
        let is_single = call.endpoint.is_single_row();
        let (mut rows, mut worths) = (Vec::new(), Vec::new());
        for (currency, row) in self.served_rows(account_index, wallet, &effects) {
            let text = match row {
                ServedRow::Stored(row) if is_futures => v4_json::futures_row(currency, row, as_numbers),
                ServedRow::Stored(row) if wallet == SimulatedWallet::Earn => v4_json::earn_row(currency, row),
                ServedRow::Stored(row) => {
                    let total = decimal::sum(&row.available, &row.freeze);
                    let worth = decimal::worth(&total, self.price_of(currency));
                    let text = v4_json::spot_row(rows.len(), currency, row, &worth, as_numbers);
                    worths.push(worth);
                    text
                }
                ServedRow::Replaced(value) => v4_json::replaced_row(currency_field, currency, value),
            };
            let is_hidden = matches!(row, ServedRow::Stored(SimulatedBalance { is_hidden: true, .. }));
            if is_single || !is_hidden {
                rows.push((currency.to_owned(), text));
            }
        }
        RenderedRows { rows, total: decimal::total(worths.iter().map(String::as_str)) }
    }

    /// The last price of a currency in USDT; 0 if it has no market.
    fn price_of(&self, currency: &str) -> &str {
        if currency == "usdt" {
            return "1";
        }
        self.prices.get(&format!("{currency}_usdt")).map_or("0", String::as_str)
    }

    /// Checks the headers of a signed call in the order of the documented error numbers. Returns the position of its
    /// account.
    fn authorize_v4(&mut self, call: &ParsedCall) -> Result<usize, CallRefusal> {
        check_headers(call)?;
        let window_ms = match call.endpoint.wire_format() {
            WireFormat::Futures => to_millis(self.config.futures_window),
            _ => parse_window_ms(call)?,
        };
        let unknown_key =
            || call.refuse_v4(RefusalCause::AccessKey, "AUTH_101", "400", "the appkey does not exist");
        let account_index = call.account_index.ok_or_else(unknown_key)?;
        if self.apply_fault(call, FaultTarget::Key).is_some() {
            return Err(unknown_key());
        }
        let account = &self.accounts.get(account_index).ok_or_else(unknown_key)?.account;
        if account.key == SimulatedKeyState::Inactive {
            let text = "the appkey is not activated";
            return Err(call.refuse_v4(RefusalCause::Inactive, "AUTH_102", "403", text));
        }
        if account.ips.as_ref().is_some_and(|ips| !ips.contains(&call.ip)) {
            let text = format!("ip {} is not on the whitelist", call.ip);
            return Err(call.refuse_v4(RefusalCause::Ip, "AUTH_104", "403", &text));
        }
        self.check_timestamp(call, window_ms)?;
        if !verify_signature(call, account) {
            return Err(call.refuse_v4(RefusalCause::Signature, "AUTH_103", "403", "invalid signature"));
        }
        let may_read = match account.key {
            SimulatedKeyState::NotAllowedToRead => false,
            SimulatedKeyState::NotForFutures => call.endpoint.wire_format() != WireFormat::Futures,
            SimulatedKeyState::NotForEarn if call.endpoint == SimulatedEndpoint::V4Earn => {
                return Err(CallRefusal::v4_spot(RefusalCause::Permission, "PERMISSION_DENIED"));
            }
            SimulatedKeyState::Active | SimulatedKeyState::Inactive | SimulatedKeyState::NotForEarn => true,
        };
        if !may_read {
            let text = "the appkey has no permission for this";
            return Err(call.refuse_v4(RefusalCause::Permission, "AUTH_106", "403", text));
        }
        Ok(account_index)
    }

    /// Checks that the timestamp of a signed call is younger than the window and not too far ahead.
    fn check_timestamp(&self, call: &ParsedCall, window_ms: i64) -> Result<(), CallRefusal> {
        let max_ahead_ms = to_millis(match call.endpoint.wire_format() {
            WireFormat::Futures => self.config.futures_ahead,
            _ => self.config.v4_ahead,
        });
        let server_time_ms = self.server_time_ms(call.now);
        let sent = call.headers.timestamp.as_deref().unwrap_or_default();
        let timestamp_ms = sent.parse::<i64>().ok().filter(|_| sent.len() == 13);
        let is_in_window = timestamp_ms.is_some_and(|timestamp_ms| {
            server_time_ms - timestamp_ms < window_ms && timestamp_ms - server_time_ms <= max_ahead_ms
        });
        if is_in_window {
            return Ok(());
        }
        if let Some((_, text)) = self.config.nonce_refusal.vague_error() {
            return Err(call.refuse_v4(RefusalCause::Nonce, "AUTH_103", "403", text));
        }
        let text = format!(
            "The request time {sent} exceeds the specified time {server_time_ms} limit by {} second",
            window_ms / 1_000
        );
        Err(call.refuse_v4(RefusalCause::Nonce, "AUTH_105", "403", &text))
    }
}

/// Checks that a signed call has its headers. Futures need neither an algorithm nor a window.
fn check_headers(call: &ParsedCall) -> Result<(), CallRefusal> {
    let headers = &call.headers;
    let is_spot = call.endpoint.wire_format() == WireFormat::V4Spot;
    for (name, value, is_required, spot_code) in [
        ("appkey", &headers.appkey, true, "AUTH_001"),
        ("timestamp", &headers.timestamp, true, "AUTH_002"),
        ("algorithms", &headers.algorithms, is_spot, "AUTH_005"),
        ("recvwindow", &headers.recvwindow, is_spot, "AUTH_003"),
        ("signature", &headers.signature, true, "AUTH_007"),
    ] {
        if is_required && value.as_ref().is_none_or(String::is_empty) {
            let text = format!("the header validate-{name} is missing");
            return Err(call.refuse_v4(RefusalCause::Headers, spot_code, "400", &text));
        }
    }
    if is_spot && headers.algorithms.as_deref() != Some("HmacSHA256") {
        return Err(CallRefusal::v4_spot(RefusalCause::Headers, "AUTH_006"));
    }
    Ok(())
}

/// Parses the window of a spot call, in milliseconds.
fn parse_window_ms(call: &ParsedCall) -> Result<i64, CallRefusal> {
    let window_ms = call.headers.recvwindow.as_deref().and_then(|window| window.parse().ok());
    let window_ms = window_ms.filter(|window_ms| (2_000..=60_000).contains(window_ms));
    window_ms.ok_or_else(|| CallRefusal::v4_spot(RefusalCause::Headers, "AUTH_004"))
}

fn verify_signature(call: &ParsedCall, account: &SimulatedAccount) -> bool {
    let query = call.query.as_ref().map(QueryParameters::string_to_sign).unwrap_or_default();
    let separator = if query.is_empty() { "" } else { "#" };
    let request = format!("{}{separator}{query}", call.endpoint.signed_prefix());
    if call.endpoint.wire_format() == WireFormat::Futures {
        call.headers.verify_futures(&request, &account.secret_key)
    } else {
        call.headers.verify_spot(&request, &account.secret_key)
    }
}

fn to_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
