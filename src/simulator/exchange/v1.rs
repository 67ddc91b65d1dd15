//! v1: authorization and answers.
//!
//! Must not know limits.

use std::time::Duration;

use serde_json::json;

use super::{
    super::{
        account::{SimulatedKeyState, SimulatedWallet},
        call_log::RefusalCause,
        endpoint::SimulatedEndpoint,
        fault::FaultTarget,
        query::QueryParameters,
        v1_json,
    },
    ExchangeState,
    call::ParsedCall,
    refusal::CallRefusal,
};

impl ExchangeState {
    /// The body of the answer to an admitted v1 call.
    pub(super) fn answer_v1(&mut self, call: &ParsedCall) -> Result<String, CallRefusal> {
        let query = call.query.as_ref().map_err(|error| CallRefusal::v1_parameter(error))?;
        match call.endpoint {
            SimulatedEndpoint::GetTickers => Ok(v1_json::tickers(&self.prices)),
            SimulatedEndpoint::GetMarketConfig => {
                Ok(v1_json::market_configs(&self.prices, &self.market_states))
            }
            SimulatedEndpoint::GetServerTime => {
                Ok(v1_json::success(&json!({"serverTime": self.answered_time_ms(call)})))
            }
            SimulatedEndpoint::GetAccounts => Ok(v1_json::success(&v1_json::wallets())),
            SimulatedEndpoint::GetBalance | SimulatedEndpoint::GetFunds => {
                let account_index = self.authorize_v1(call, query)?;
                let wallet = parse_wallet(call.endpoint, query)?;
                let effects = self.apply_row_faults(call);
                Ok(v1_json::success(&self.served_rows(account_index, wallet, &effects)))
            }
            _ => Err(CallRefusal::v1_parameter("there is no such method")),
        }
    }

    /// Checks the parameters of a signed call. Returns the position of its account.
    fn authorize_v1(&mut self, call: &ParsedCall, query: &QueryParameters) -> Result<usize, CallRefusal> {
        if let Some(name) = query.find_repeated() {
            return Err(CallRefusal::v1_parameter(&format!("parameter {name} is given more than once")));
        }
        if query.get("accesskey").is_none() {
            return Err(CallRefusal::v1_parameter("parameter accesskey is missing"));
        }
        let unknown_key = || CallRefusal::v1(RefusalCause::AccessKey, 307, "AccessKey error");
        let account_index = call.account_index.ok_or_else(unknown_key)?;
        if self.apply_fault(call, FaultTarget::Key).is_some() {
            return Err(unknown_key());
        }
        let server_time_ms = self.server_time_ms(call.now);
        let state = self.accounts.get_mut(account_index).ok_or_else(unknown_key)?;
        let account = &state.account;
        if account.key == SimulatedKeyState::Inactive {
            let text = "AccessKey error: the key is not activated";
            return Err(CallRefusal::v1(RefusalCause::Inactive, 307, text));
        }
        if account.ips.as_ref().is_some_and(|ips| !ips.contains(&call.ip)) {
            let text = format!("AccessKey error: IP {} is not on the IP whitelist of the key", call.ip);
            return Err(CallRefusal::v1(RefusalCause::Ip, 307, &text));
        }
        let wording = self.config.nonce_refusal;
        let nonce = parse_nonce(query, server_time_ms, self.config.nonce_window)
            .map_err(|refusal| refusal.with_nonce_wording(wording))?;
        if !query.verify_signature(&account.secret_key) {
            return Err(CallRefusal::v1(RefusalCause::Signature, 308, "Sign error"));
        }
        if self.config.strict_nonce && nonce <= state.last_nonce {
            let text = format!("nonce {nonce} is not above the last accepted nonce {}", state.last_nonce);
            return Err(CallRefusal::v1(RefusalCause::Replay, 400, &text).with_nonce_wording(wording));
        }
        state.last_nonce = nonce;
        if account.key == SimulatedKeyState::NotAllowedToRead {
            let text = "AccessKey error: the key has no read permission";
            return Err(CallRefusal::v1(RefusalCause::Permission, 307, text));
        }
        Ok(account_index)
    }
}

/// Parses the nonce of a call and checks the window.
fn parse_nonce(query: &QueryParameters, server_time_ms: i64, window: Duration) -> Result<i64, CallRefusal> {
    let refuse = |text: String| CallRefusal::v1(RefusalCause::Nonce, 400, &text);
    let sent = query.get("nonce").ok_or_else(|| CallRefusal::v1_parameter("parameter nonce is missing"))?;
    let is_well_formed = sent.len() == 13 && sent.bytes().all(|byte| byte.is_ascii_digit());
    let nonce = sent.parse::<i64>().ok().filter(|_| is_well_formed);
    let nonce = nonce.ok_or_else(|| {
        refuse(format!("nonce {sent} is not a Unix time of 13 digits: server time is {server_time_ms}"))
    })?;
    let window_ms = window.as_millis();
    if u128::from(nonce.abs_diff(server_time_ms)) > window_ms {
        return Err(refuse(format!(
            "nonce {nonce} is outside the window: server time is {server_time_ms}, {window_ms} ms either way"
        )));
    }
    Ok(nonce)
}

/// Parses the wallet that a signed call selects.
fn parse_wallet(
    endpoint: SimulatedEndpoint,
    query: &QueryParameters,
) -> Result<SimulatedWallet, CallRefusal> {
    if endpoint == SimulatedEndpoint::GetBalance {
        return Ok(SimulatedWallet::Spot);
    }
    match query.get("account") {
        Some("1") => Ok(SimulatedWallet::Wallet),
        Some("2") => Ok(SimulatedWallet::Spot),
        Some("3") => Ok(SimulatedWallet::Fiat),
        Some(other) => {
            let text = format!("parameter account is {other}: it must be 1, 2 or 3");
            Err(CallRefusal::v1_parameter(&text))
        }
        None => Err(CallRefusal::v1_parameter("parameter account is missing: it must be 1, 2 or 3")),
    }
}
