//! Decoding that the API versions share: amounts and rows from raw JSON, and the failure of an undocumented reply.
//! Pure: depends on no endpoint, field name or code of the exchange.

use std::borrow::Cow;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use smol_str::SmolStr;

use super::{
    amount::Amount,
    balance::{Balance, BalanceAmounts, BalanceAnswer},
    currency::currency_name,
    error::{Detail, Failure, Reason},
};

/// A row of a reply, as far as it is usable.
#[derive(Debug)]
pub(super) struct DecodedRow {
    /// The currency as its label; `None` if its name is unusable.
    pub currency: Option<SmolStr>,
    /// `None` if the free or the frozen amount is unusable.
    pub amounts: Option<BalanceAmounts>,
}

/// Builds an answer from rows. Unusable rows are dropped and counted.
///
/// # Errors
/// If there are rows and none of them is usable.
pub(super) fn build_answer(rows: impl IntoIterator<Item = DecodedRow>) -> Result<BalanceAnswer, Failure> {
    let mut answer = BalanceAnswer::default();
    let (rejected, nameless, unreadable) =
        (&mut answer.rejected, &mut answer.nameless, &mut answer.unreadable);
    let accept = |DecodedRow { currency, amounts }| match (currency, amounts) {
        (Some(currency), Some(amounts)) => Some(Balance { currency, amounts }),
        (name, _) => {
            *rejected += 1;
            *nameless += u64::from(name.is_none());
            unreadable.extend(name);
            None
        }
    };
    // A balance is as large as a row, so the list is reused in place.
    answer.balances = rows.into_iter().filter_map(accept).collect();
    reject_duplicates(&mut answer);
    if answer.balances.is_empty() && answer.rejected > 0 {
        return Err(decode_failure(format!("none of the {} rows has usable amounts", answer.rejected)));
    }
    Ok(answer)
}

/// Decodes the whole body as the object `T`.
///
/// # Errors
/// A limit reply, or the failure that the status stands for if the body is not such an object.
pub(super) fn decode_envelope<'a, T: Deserialize<'a>>(status: u16, body: &'a [u8]) -> Result<T, Failure> {
    if is_limit_reply(status) {
        return Err(Failure::new(Reason::RateLimited, format!("HTTP {status}, {}", body_excerpt(body))));
    }
    let text = std::str::from_utf8(body).map_err(|_| failure_from_status(status, body))?;
    let text = text.trim_start_matches([' ', '\t', '\n', '\r']);
    let object = text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten();
    object.ok_or_else(|| failure_from_status(status, body))
}

/// Whether a reply with this HTTP status can be a good answer. Of the others below 300, 203 means that a proxy changed
/// the reply and 206 that it is a part; none is a whole answer to a GET.
#[must_use]
pub(super) fn is_success(status: u16) -> bool {
    status == 200
}

/// Whether the status alone is a limit reply: 429, and 418, which other exchanges send to an address that continues
/// after 429.
pub(super) fn is_limit_reply(status: u16) -> bool {
    matches!(status, 418 | 429)
}

/// The failure of a reply without an envelope of the exchange, in which only the status is informative.
pub(super) fn failure_from_status(status: u16, body: &[u8]) -> Failure {
    let failure = match status {
        200 => decode_failure(format!("HTTP {status}, {}", body_excerpt(body))),
        201..=299 => Failure::new(
            Reason::Http,
            format!("HTTP {status}: only status 200 carries a whole, unchanged answer"),
        ),
        300..=399 => Failure::new(Reason::Http, format!("HTTP {status}: redirects are not followed")),
        500..=599 => Failure::new(Reason::Unavailable, format!("HTTP {status}, {}", body_excerpt(body))),
        _ => Failure::new(Reason::Http, format!("HTTP {status}, {}", body_excerpt(body))),
    };
    failure.with_detail(is_proxy_page(status, body).then_some(Detail::NotFromTheExchange))
}

/// Whether a reply without an envelope came from something in front of the exchange. The exchange refuses keys inside
/// its envelope, so a bare 403 comes from a firewall, and a page with status 200 asks for proof of a person. 404 and
/// 410 come from the exchange: its other base URLs lack the resource too.
fn is_proxy_page(status: u16, body: &[u8]) -> bool {
    match status {
        200 => !is_json(body),
        404 | 410 | 500.. => false,
        _ => true,
    }
}

/// Whether a body is JSON, or was meant to be.
fn is_json(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start(), [b'{' | b'[', ..]) || serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

/// The reason of an unspecific error: unavailable, if the status says that the exchange is down.
#[must_use]
pub(super) fn or_unavailable(reason: Reason, status: u16) -> Reason {
    if reason == Reason::Api && status >= 500 { Reason::Unavailable } else { reason }
}

/// Decodes a row whose currency is in `name`. `list` and `field` name the row's list and the currency's field in errors.
///
/// # Errors
/// If the row has no currency: it might belong to a watched currency, which would then count as missing and be 0.
pub(super) fn decode_named_row(
    name: Option<&RawValue>,
    amounts: Option<BalanceAmounts>,
    list: &str,
    field: &str,
) -> Result<DecodedRow, Failure> {
    let name = name.and_then(parse_text);
    let name = name.ok_or_else(|| decode_failure(format!("a row of `{list}` has no `{field}`")))?;
    Ok(DecodedRow { currency: currency_name(&name), amounts })
}

/// Parses `raw` as an object. Without the check, serde would also fill a struct from a list.
pub(super) fn parse_object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok())?
}

/// Parses `raw` as a text.
pub(super) fn parse_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    raw.get().starts_with('"').then(|| serde_json::from_str(raw.get()).ok())?
}

/// Parses a whole number, written as a number or as a text.
pub(super) fn parse_integer(raw: &RawValue) -> Option<i64> {
    raw.get().trim_matches('"').parse().ok()
}

/// Parses an amount, written as a text or as a number. Both keep their digits.
pub(super) fn parse_amount(raw: &RawValue) -> Option<Amount> {
    if raw.get().starts_with('"') { Amount::parse(&parse_text(raw)?) } else { Amount::parse(raw.get()) }
}

/// A failure: the reply is not the documented one.
pub(super) fn decode_failure(text: impl Into<String>) -> Failure {
    Failure::new(Reason::Decode, text)
}

/// Sorts the rows, and rejects every row of a currency that has more than one, because none of them can be trusted.
fn reject_duplicates(answer: &mut BalanceAnswer) {
    answer.balances.sort_unstable_by(|a, b| a.currency.cmp(&b.currency));
    let duplicates: Vec<SmolStr> = answer
        .balances
        .windows(2)
        .filter_map(|pair| match pair {
            [a, b] if a.currency == b.currency => Some(a.currency.clone()),
            _ => None,
        })
        .collect();
    let count_before = answer.balances.len();
    answer.unreadable.sort_unstable();
    // Both are sorted, so that a reply full of duplicates does not take quadratic time.
    let is_in = |list: &[SmolStr], row: &Balance| list.binary_search(&row.currency).is_ok();
    let unreadable = &answer.unreadable;
    answer.balances.retain(|row| !is_in(&duplicates, row) && !is_in(unreadable, row));
    answer.rejected += (count_before - answer.balances.len()) as u64;
    answer.unreadable.extend(duplicates);
    answer.unreadable.sort_unstable();
    answer.unreadable.dedup();
}

/// The whole text of an unexpected body, or the title of an HTML page. The caller shortens it, because only the caller knows
/// its secrets.
fn body_excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.trim_ascii());
    if text.is_empty() {
        return "an empty body".to_owned();
    }
    match find_html_title(&text) {
        Some(title) => format!("not the documented JSON but an HTML page: {title}"),
        None => format!("not the documented JSON: {text}"),
    }
}

/// The title of an HTML page. `None` if `text` is no HTML page, or one without a title.
fn find_html_title(text: &str) -> Option<&str> {
    const HEAD_MAX_CHARS: usize = 16 * 1024;
    let head: String = text.chars().take(HEAD_MAX_CHARS).map(|c| c.to_ascii_lowercase()).collect();
    if !head.starts_with("<!doctype html") && !head.starts_with("<html") {
        return None;
    }
    // Lower-case ASCII letters take as many bytes as upper-case ones, so places in `head` are places in `text`.
    let start = head.find("<title>")? + "<title>".len();
    let end = start + head.get(start..)?.find("</title>")?;
    Some(text.get(start..end)?.trim()).filter(|title| !title.is_empty())
}
