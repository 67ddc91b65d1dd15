//! Answers to authorized calls for positions.
//!
//! Must not know limits.

use super::{
    super::{
        account::SimulatedWallet,
        call_log::RefusalCause,
        endpoint::SimulatedEndpoint,
        fault::Effect,
        position::{self, PositionList},
        query::QueryParameters,
        v4_json,
    },
    ExchangeState,
    call::ParsedCall,
    refusal::CallRefusal,
};

impl ExchangeState {
    /// The body of the answer, changed by faults. `symbol` restricts it to one symbol, which must be listed.
    pub(super) fn answer_positions(
        &mut self,
        call: &ParsedCall,
        account_index: usize,
        query: &QueryParameters,
    ) -> Result<String, CallRefusal> {
        let (wallet, list) =
            find_list(call.endpoint).ok_or_else(|| call.refuse_v4_parameter("there is no such method"))?;
        let effects = self.apply_row_faults(call);
        let is_requested = |symbol: &str| query.get("symbol").is_none_or(|requested| requested == symbol);
        let account = self.accounts.get(account_index);
        let stored = account.and_then(|state| state.account.positions.get(&wallet)).into_iter().flatten();
        let mut rows: Vec<_> = stored
            .filter(|((symbol, _), _)| is_requested(symbol))
            .map(|(key, row)| (key.0.clone(), position::render_row(key, row, list, self.config.v4_numbers)))
            .collect();
        if rows.is_empty() && query.get("symbol").is_some_and(|symbol| !v4_json::is_futures_symbol(symbol)) {
            return Err(CallRefusal::futures(RefusalCause::Parameters, "invalid_symbol", "invalid symbol"));
        }
        for effect in &effects {
            match effect {
                Effect::EmptyData => rows.clear(),
                Effect::DropCurrency(symbol) => rows.retain(|(listed, _)| listed != symbol),
                Effect::Row { currency, value } => {
                    rows.retain(|(listed, _)| listed != currency);
                    rows.push((currency.clone(), v4_json::replaced_row("symbol", currency, value)));
                }
                _ => {}
            }
        }
        let texts: Vec<_> = rows.iter().map(|(_, row)| row.as_str()).collect();
        Ok(v4_json::futures_rows(&texts))
    }
}

fn find_list(endpoint: SimulatedEndpoint) -> Option<(SimulatedWallet, PositionList)> {
    use SimulatedWallet::{FuturesCoin, FuturesUsdt};
    Some(match endpoint {
        SimulatedEndpoint::FuturesUsdtPositions => (FuturesUsdt, PositionList::Whole),
        SimulatedEndpoint::FuturesCoinPositions => (FuturesCoin, PositionList::Whole),
        SimulatedEndpoint::FuturesUsdtPositionList => (FuturesUsdt, PositionList::Plain),
        SimulatedEndpoint::FuturesCoinPositionList => (FuturesCoin, PositionList::Plain),
        SimulatedEndpoint::FuturesUsdtBreakList => (FuturesUsdt, PositionList::Break),
        SimulatedEndpoint::FuturesCoinBreakList => (FuturesCoin, PositionList::Break),
        _ => return None,
    })
}
