//! The open positions of futures of API v4 as XT documents them: one endpoint on two hosts, and its fields.
//! Pure: sends nothing and reads no clock. No other file knows the shapes of its JSON.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    amount::Amount,
    currency::currency_name,
    decode::{decode_failure, parse_amount, parse_object, parse_text},
    error::Failure,
    futures::unwrap_envelope,
    position::{MarginMode, Position, PositionAnswer, PositionSide},
};

/// Path of the signed call that reads the open positions of a futures wallet. Without its only parameter, a symbol, it
/// reads all of them.
pub(super) const POSITIONS_PATH: &str = "/future/user/v1/position";

/// Decodes the reply with positions. Rows whose size is 0 are no positions. An unusable row is dropped and counted, and
/// so is every row of a symbol and side that has more than one, because none of them can be trusted.
///
/// # Errors
/// Any reply except `returnCode` 0 with a list in `result`, with its reason; a reply whose rows are all unusable. The
/// text may hold anything that the exchange sent.
pub fn decode_positions(status: u16, body: &[u8]) -> Result<PositionAnswer, Failure> {
    let result = unwrap_envelope(status, body)?;
    let rows: Option<Vec<&RawValue>> = serde_json::from_str(result.get()).ok();
    let rows = rows.ok_or_else(|| decode_failure("`result` is not a list of positions"))?;
    let mut answer = PositionAnswer::default();
    let mut has_zero_rows = false;
    for row in rows {
        match decode_row(row) {
            Ok(Some(position)) => answer.positions.push(position),
            Ok(None) => has_zero_rows = true,
            Err(UnusableRow) => answer.rejected += 1,
        }
    }
    reject_duplicates(&mut answer);
    if answer.positions.is_empty() && answer.rejected > 0 && !has_zero_rows {
        return Err(decode_failure(format!("none of the {} rows is a usable position", answer.rejected)));
    }
    Ok(answer)
}

fn reject_duplicates(answer: &mut PositionAnswer) {
    let key = |position: &Position| (position.symbol.clone(), position.side);
    answer.positions.sort_unstable_by_key(key);
    let rows = std::mem::take(&mut answer.positions);
    for same in rows.chunk_by(|a, b| (&a.symbol, a.side) == (&b.symbol, b.side)) {
        match same {
            [one] => answer.positions.push(one.clone()),
            more => answer.rejected += more.len() as u64,
        }
    }
}

/// A row is not usable.
struct UnusableRow;

/// Decodes a row; `None` if its size is 0. A value that is absent, null or a price of 0 is unknown.
///
/// # Errors
/// If a value has another form.
fn decode_row(raw: &RawValue) -> Result<Option<Position>, UnusableRow> {
    let row: PositionRow<'_> = parse_object(raw).ok_or(UnusableRow)?;
    let contracts = row.position_size.and_then(parse_amount).ok_or(UnusableRow)?;
    if contracts.value() == 0.0 {
        return Ok(None);
    }
    let side = match row.position_side.and_then(parse_text).as_deref() {
        Some("LONG") => PositionSide::Long,
        Some("SHORT") => PositionSide::Short,
        _ => return Err(UnusableRow),
    };
    let margin_mode = match row.position_type.and_then(parse_text).as_deref() {
        Some("CROSSED") => Some(MarginMode::Crossed),
        Some("ISOLATED") => Some(MarginMode::Isolated),
        _ => None,
    };
    let symbol = row.symbol.and_then(parse_text).and_then(|symbol| currency_name(&symbol));
    let unrealised_pnl = row.floating_pnl.map(|raw| parse_amount(raw).ok_or(UnusableRow)).transpose()?;
    Ok(Some(Position {
        symbol: symbol.ok_or(UnusableRow)?,
        side,
        margin_mode,
        size: Some(contracts).filter(|contracts| contracts.value() > 0.0).ok_or(UnusableRow)?,
        entry_price: parse_positive(row.entry_price)?,
        mark_price: parse_positive(row.cal_mark_price)?,
        liquidation_price: parse_positive(row.break_price)?,
        leverage: parse_positive(row.leverage)?,
        unrealised_pnl,
    }))
}

/// Unknown fields are ignored, because new ones appear without notice.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PositionRow<'a> {
    #[serde(borrow)]
    symbol: Option<&'a RawValue>,
    #[serde(borrow)]
    position_side: Option<&'a RawValue>,
    #[serde(borrow)]
    position_type: Option<&'a RawValue>,
    #[serde(borrow)]
    position_size: Option<&'a RawValue>,
    #[serde(borrow)]
    entry_price: Option<&'a RawValue>,
    #[serde(borrow)]
    cal_mark_price: Option<&'a RawValue>,
    #[serde(borrow)]
    break_price: Option<&'a RawValue>,
    #[serde(borrow)]
    leverage: Option<&'a RawValue>,
    #[serde(borrow, rename = "floatingPL")]
    floating_pnl: Option<&'a RawValue>,
}

/// A number above 0; `None` if it is absent or 0.
fn parse_positive(raw: Option<&RawValue>) -> Result<Option<Amount>, UnusableRow> {
    let Some(raw) = raw else { return Ok(None) };
    let amount = parse_amount(raw).filter(|amount| amount.value() >= 0.0).ok_or(UnusableRow)?;
    Ok(Some(amount).filter(|amount| amount.value() > 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Reason;

    /// A row as XT documents its fields.
    const ROW: &str = r#"{"symbol":"btc_usdt","positionType":"ISOLATED","positionSide":"SHORT","contractType":"PERPETUAL",
        "positionSize":"10","closeOrderSize":"0","availableCloseSize":"10","entryPrice":"27060","openOrderSize":"0",
        "isolatedMargin":"1.0824","openOrderMarginFrozen":"0","realizedProfit":"-0.00130138","autoMargin":false,
        "leverage":25,"calMarkPrice":"27050","floatingPL":"0.01","breakPrice":"28002.38","profitId":null,
        "triggerPriceType":null,"triggerProfitPrice":null,"triggerStopPrice":null,"welfareAccount":false}"#;

    fn decode_rows(rows: &[&str]) -> Result<PositionAnswer, Failure> {
        let body =
            format!(r#"{{"returnCode":0,"msgInfo":"success","error":null,"result":[{}]}}"#, rows.join(","));
        decode_positions(200, body.as_bytes())
    }

    fn list(answer: &PositionAnswer) -> Vec<String> {
        let text = |amount: &Option<Amount>| amount.as_ref().map_or("-", Amount::text).to_owned();
        let row = |position: &Position| {
            let mode = position.margin_mode.map_or("-", MarginMode::label);
            let prices = [&position.entry_price, &position.mark_price, &position.liquidation_price];
            let rest = [&position.leverage, &position.unrealised_pnl];
            let numbers: Vec<_> = prices.into_iter().chain(rest).map(text).collect();
            let (symbol, side) = (&position.symbol, position.side.label());
            format!("{symbol} {side} {mode} {} {}", position.size.text(), numbers.join(" "))
        };
        answer.positions.iter().map(row).collect()
    }

    #[test]
    fn documented_rows_give_positions_sorted_by_symbol_and_side() -> Result<(), Failure> {
        let long = ROW.replace("SHORT", "LONG").replace("ISOLATED", "CROSSED");
        let numbers = r#"{"symbol":"ETH_usdt","positionSide":"LONG","positionSize":3.50,"entryPrice":2000,
            "calMarkPrice":1.9e3,"breakPrice":0,"leverage":"10","floatingPL":-1.5,"positionType":"PORTFOLIO"}"#;
        let answer = decode_rows(&[numbers, ROW, &long])?;
        assert_eq!(
            list(&answer),
            [
                "btc_usdt long crossed 10 27060 27050 28002.38 25 0.01",
                "btc_usdt short isolated 10 27060 27050 28002.38 25 0.01",
                "eth_usdt long - 3.50 2000 1.9e3 - 10 -1.5",
            ]
        );
        assert_eq!(answer.rejected, 0);
        assert_eq!(decode_rows(&[])?, PositionAnswer::default());
        Ok(())
    }

    #[test]
    fn what_is_absent_null_or_a_price_of_0_is_unknown() -> Result<(), Failure> {
        for absent in ["", r#","entryPrice":null,"breakPrice":null,"leverage":null,"floatingPL":null"#] {
            let row = format!(r#"{{"symbol":"btc_usdt","positionSide":"LONG","positionSize":"1"{absent}}}"#);
            assert_eq!(list(&decode_rows(&[&row])?), ["btc_usdt long - 1 - - - - -"]);
        }
        for zero in ["0", "\"0\"", "\"0.00\"", "-0"] {
            let row = ROW.replace("\"28002.38\"", zero).replace("\"27050\"", zero);
            assert_eq!(
                list(&decode_rows(&[&row])?),
                ["btc_usdt short isolated 10 27060 - - 25 0.01"],
                "{zero}"
            );
        }
        Ok(())
    }

    #[test]
    fn rows_without_a_size_are_no_positions_whatever_else_they_hold() -> Result<(), Failure> {
        for zero in [
            r#"{"positionSize":"0"}"#.to_owned(),
            ROW.replace("\"positionSize\":\"10\"", "\"positionSize\":0.000").replace("\"27060\"", "\"x\""),
        ] {
            assert_eq!(decode_rows(&[&zero])?, PositionAnswer::default());
            assert_eq!(decode_rows(&[&zero, ROW])?.positions.len(), 1);
        }
        Ok(())
    }

    #[test]
    fn an_unusable_row_is_dropped_and_counted() -> Result<(), Failure> {
        let other = ROW.replace("btc_usdt", "eth_usdt");
        for (good, bad) in [
            ("\"btc_usdt\"", "\"\""),
            ("\"btc_usdt\"", "null"),
            ("\"btc_usdt\"", "7"),
            ("\"SHORT\"", "\"BOTH\""),
            ("\"SHORT\"", "null"),
            ("\"positionSize\":\"10\"", "\"positionSize\":\"-10\""),
            ("\"positionSize\":\"10\"", "\"positionSize\":null"),
            ("\"positionSize\":\"10\"", "\"positionSize\":\"many\""),
            ("\"27060\"", "\"\""),
            ("\"27050\"", "\"-1\""),
            ("\"28002.38\"", "\"1e999\""),
            ("\"28002.38\"", "[]"),
            ("25", "\"25x\""),
            ("\"0.01\"", "true"),
        ] {
            let row = ROW.replacen(good, bad, 1);
            assert_ne!(row, ROW, "{good}");
            let answer = decode_rows(&[&row, &other])?;
            assert_eq!((answer.positions.len(), answer.rejected), (1, 1), "{bad}");
            let failure = decode_rows(&[&row]).err().map(|failure| (failure.reason, failure.text));
            let text = "none of the 1 rows is a usable position".to_owned();
            assert_eq!(failure, Some((Reason::Decode, text)), "{bad}");
        }
        let answer = decode_rows(&["null", "[]", "\"x\"", &other])?;
        assert_eq!((answer.positions.len(), answer.rejected), (1, 3));
        Ok(())
    }

    #[test]
    fn of_two_rows_for_one_symbol_and_side_neither_is_trusted() -> Result<(), Failure> {
        let other = ROW.replace("SHORT", "LONG");
        let bonus = ROW.replace("\"welfareAccount\":false", "\"welfareAccount\":true");
        let answer = decode_rows(&[ROW, &other, &bonus])?;
        assert_eq!((list(&answer).len(), answer.rejected), (1, 2));
        Ok(())
    }

    #[test]
    fn a_list_that_cannot_be_read_is_not_an_empty_one() {
        for body in [
            r#"{"returnCode":0,"msgInfo":"success","error":null,"result":null}"#,
            r#"{"returnCode":0,"result":{"items":[]}}"#,
            r#"{"returnCode":0}"#,
            r#"{"rc":0,"mc":"SUCCESS","ma":[],"result":[]}"#,
            "[]",
            "",
        ] {
            let reason = decode_positions(200, body.as_bytes()).err().map(|failure| failure.reason);
            assert_eq!(reason, Some(Reason::Decode), "{body}");
        }
        let refused = r#"{"returnCode":1,"msgInfo":"failure","error":{"code":"403","msg":"no permission"},"result":null}"#;
        let reason = decode_positions(200, refused.as_bytes()).err().map(|failure| failure.reason);
        assert_eq!(reason, Some(Reason::Auth));
    }

    /// Compared each with each, the rows of the largest body there is would take minutes.
    #[test]
    fn an_answer_full_of_duplicates_is_decoded_quickly() -> Result<(), Failure> {
        let rows: Vec<_> = (0..60_000)
            .map(|n| format!(r#"{{"symbol":"c{}_usdt","positionSide":"LONG","positionSize":1}}"#, n / 2))
            .collect();
        let rows: Vec<_> = rows.iter().map(String::as_str).chain([ROW]).collect();
        let answer = decode_rows(&rows)?;
        assert_eq!((answer.positions.len(), answer.rejected), (1, 60_000));
        Ok(())
    }
}
