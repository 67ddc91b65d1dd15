//! The Earn wallet of API v4: fields and codes.
//! Pure: sends nothing and reads no clock.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::exchange::{
    amount::Amount,
    balance::{BalanceAmounts, BalanceAnswer},
    decode::{self, DecodedRow, decode_failure, decode_named_row, parse_amount, parse_object, parse_text},
    error::{Detail, Failure, Reason},
    frozen::{EarnProduct, FrozenParts, FrozenReason},
};

/// Decodes the `result` of a good reply with the Earn wallet. All money is frozen, with the product types as parts. An
/// unusable row is dropped and counted.
///
/// Whether `amount` contains `accInterest` is not documented, so interest is not added.
///
/// # Errors
/// If it is missing or no list, if its rows are all unusable, or if a row has no currency.
pub(super) fn decode_result(result: Option<&RawValue>) -> Result<BalanceAnswer, Failure> {
    let rows: Option<Vec<&RawValue>> = result.and_then(|result| serde_json::from_str(result.get()).ok());
    let rows = rows.ok_or_else(|| decode_failure("`result` is not a list of currencies"))?;
    let rows: Result<Vec<_>, _> = rows.into_iter().map(decode_row).collect();
    decode::build_answer(rows?)
}

/// The reason, the detail and the description of an error code that only this endpoint has.
pub(super) fn explain_code(code: &str) -> Option<(Reason, Option<Detail>, &'static str)> {
    Some(match code {
        "PERMISSION_DENIED" => {
            (Reason::Auth, Some(Detail::NoEarnPermission), "the key lacks the Earn permission")
        }
        "PARAM_ERROR" => (Reason::Api, None, "a parameter is wrong"),
        _ => return None,
    })
}

fn decode_row(raw: &RawValue) -> Result<DecodedRow, Failure> {
    #[derive(Deserialize)]
    struct EarnCurrencyName<'a> {
        #[serde(borrow)]
        currency: Option<&'a RawValue>,
    }
    let name = parse_object::<EarnCurrencyName<'_>>(raw).and_then(|row| row.currency);
    decode_named_row(name, parse_amounts(raw), "result", "currency")
}

/// The amounts of a row. Without a usable list of positions, it has no parts.
fn parse_amounts(raw: &RawValue) -> Option<BalanceAmounts> {
    #[derive(Deserialize)]
    struct EarnAmount<'a> {
        #[serde(borrow)]
        amount: &'a RawValue,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct EarnPositions<'a> {
        #[serde(borrow)]
        position_list: Vec<&'a RawValue>,
    }
    let frozen = parse_amount(parse_object::<EarnAmount<'_>>(raw)?.amount)?;
    let positions = parse_object::<EarnPositions<'_>>(raw).map(|row| row.position_list).unwrap_or_default();
    let parts = positions.into_iter().map(|position| (parse_reason(position), parse_position(position)));
    let frozen_parts = FrozenParts::sum(parts).with_rest_of(&frozen);
    Some(BalanceAmounts { free: Amount::parse("0")?, frozen, frozen_parts })
}

fn parse_reason(position: &RawValue) -> FrozenReason {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct EarnProductType<'a> {
        #[serde(borrow)]
        product_type: &'a RawValue,
    }
    let name = parse_object::<EarnProductType<'_>>(position).and_then(|row| parse_text(row.product_type));
    let is_named =
        |product: &EarnProduct| name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(product.label()));
    EarnProduct::ALL.into_iter().find(is_named).map_or(FrozenReason::Other, FrozenReason::Earn)
}

fn parse_position(position: &RawValue) -> Option<Amount> {
    #[derive(Deserialize)]
    struct EarnPosition<'a> {
        #[serde(borrow)]
        amount: &'a RawValue,
    }
    parse_amount(parse_object::<EarnPosition<'_>>(position)?.amount)
}
