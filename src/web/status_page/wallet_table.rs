//! The balances of one wallet as a table: the watched currencies, then the largest of the others. The page of hundreds
//! of accounts with a thousand currencies each stays small enough to be looked at. Pure.

use std::{
    cmp::Reverse,
    fmt::{self, Write as _},
};

use super::{
    StatusPage,
    format::{
        AccountName, ElementId, EscapedText, NumberCell, PlainNumber, Quantity, Shortfall, TickingAge, places,
    },
    model::{holdings, row_of},
};
use crate::{
    exchange::PriceTable,
    snapshot::wallet::{Holding, HoldingState, WalletSnapshot},
};

/// Currencies listed in a wallet beside the watched ones, and as many zero balances by name.
const ROWS_SHOWN: usize = 20;

/// The balances of a wallet: the watched, then what is not zero, then the names of the zeros. `prices` tell which of the
/// balances are the largest.
pub(super) fn balances(
    out: &mut String,
    page: &StatusPage<'_>,
    snapshot: &WalletSnapshot,
    prices: Option<&PriceTable>,
) -> fmt::Result {
    let (wallet_config, good) = (&snapshot.config, snapshot.visible(page.now));
    let holdings = holdings(snapshot, page.now);
    let unwatched = holdings.iter().filter(|holding| wallet_config.find_watch(&holding.currency).is_none());
    let (zeros, others): (Vec<_>, Vec<_>) =
        unwatched.partition(|holding| holding.state.amounts() == Some((0.0, 0.0)));
    let listed = !wallet_config.watch.is_empty() || !others.is_empty();
    if listed {
        let hidden = others.len().saturating_sub(ROWS_SHOWN);
        table(out, page, snapshot, &largest(others, prices))?;
        if hidden > 0 {
            writeln!(out, "<p class=\"age\">{}</p>", More(hidden, page))?;
        }
    }
    if !zeros.is_empty() {
        let (wallet, id, count) =
            (wallet_config.wallet, ElementId(&wallet_config.account), Quantity(zeros.len(), "zero balance"));
        write!(out, "<details id=\"zeros.{wallet}.{id}\"><summary>{count}</summary>\n<p>")?;
        let mut comma = "";
        for zero in zeros.iter().take(ROWS_SHOWN) {
            write!(out, "{comma}{}", AccountName(&zero.currency))?;
            comma = ", ";
        }
        if zeros.len() > ROWS_SHOWN {
            write!(out, " {}", More(zeros.len() - ROWS_SHOWN, page))?;
        }
        out.write_str("</p>\n</details>\n")?;
    } else if good.is_some() && !listed {
        out.write_str("<p class=\"age\">no balances to show</p>\n")?;
    }
    out.write_str("</section>\n")
}

/// How many are not on the page, and where they are.
struct More<'a>(usize, &'a StatusPage<'a>);

impl fmt::Display for More<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metrics = EscapedText(self.1.telemetry_path.trim_start_matches('/'));
        write!(
            f,
            "and {} more: see <a href=\"./api/v1/balances\">/api/v1/balances</a> or <a href=\"./{metrics}\">/{metrics}</a>",
            self.0
        )
    }
}

/// The first [`ROWS_SHOWN`] of `others`, in the order of their names: those of the highest worth where `prices` tell it,
/// then those without a price, of both kinds those with something frozen first.
fn largest<'a>(mut others: Vec<&'a Holding>, prices: Option<&PriceTable>) -> Vec<&'a Holding> {
    if others.len() <= ROWS_SHOWN {
        return others;
    }
    // Cached, because each key costs a search among the prices.
    others.sort_by_cached_key(|holding| Reverse(rank(holding, prices)));
    others.truncate(ROWS_SHOWN);
    others.sort_unstable_by(|a, b| a.currency.cmp(&b.currency));
    others
}

/// How much a balance deserves one of the rows; of two alike the first by name has it.
fn rank(holding: &Holding, prices: Option<&PriceTable>) -> (bool, u64, bool) {
    let amounts = holding.state.amounts();
    let worth = amounts.zip(prices.and_then(|prices| prices.get(&holding.currency)));
    let worth = worth.map_or(0.0, |((free, frozen), price)| ((free + frozen) * price).max(0.0));
    // The bits of floats that are not negative are in the order of the floats.
    (amounts.is_none(), worth.to_bits(), amounts.is_some_and(|(_, frozen)| frozen != 0.0))
}

fn table(
    out: &mut String,
    page: &StatusPage<'_>,
    snapshot: &WalletSnapshot,
    others: &[&Holding],
) -> fmt::Result {
    let (wallet_config, good) = (&snapshot.config, snapshot.visible(page.now));
    let holdings = holdings(snapshot, page.now);
    let (account, wallet) = (AccountName(&wallet_config.account), wallet_config.wallet);
    let watched = wallet_config.watch.iter().filter_map(|watch| row_of(holdings, &watch.currency));
    let places = places(watched.chain(others.iter().map(|holding| &holding.state)));
    let old = match good {
        Some(good) if snapshot.last_failure.is_some() => {
            format!(" <small>{} ago</small>", TickingAge(good.at.age(page.now)))
        }
        _ => String::new(),
    };
    let thresholds = wallet_config.watch.iter().any(|watch| watch.threshold.is_some());
    let threshold = if thresholds { "<th scope=\"col\">Threshold</th>" } else { "" };
    write!(
        out,
        "<table class=\"balances p{places}\">\n<caption>Balances of {account}, {wallet}</caption>\n\
         <thead><tr><th scope=\"col\">Currency</th><th scope=\"col\">Free{old}</th>\
         <th scope=\"col\">Frozen{old}</th>{threshold}</tr></thead>\n<tbody class=\"watched\">\n"
    )?;
    for watch in &wallet_config.watch {
        balance(out, &watch.currency, row_of(holdings, &watch.currency), thresholds, watch.threshold)?;
    }
    out.write_str("</tbody>\n<tbody>\n")?;
    for holding in others {
        balance(out, &holding.currency, Some(&holding.state), thresholds, None)?;
    }
    out.write_str("</tbody>\n</table>\n")
}

/// One currency, in a table that may have a column for `thresholds`.
fn balance(
    out: &mut String,
    currency: &str,
    row: Option<&HoldingState>,
    thresholds: bool,
    threshold: Option<f64>,
) -> fmt::Result {
    let free = row.and_then(HoldingState::amounts).map(|(free, _)| free);
    let gap = Shortfall::between(free, threshold);
    let (class, tag) = if gap.is_some() { (" class=\"low\"", LOW) } else { ("", "") };
    write!(out, "<tr{class}><th scope=\"row\">{}{tag}</th>", AccountName(currency))?;
    match row {
        Some(HoldingState::Read { free, frozen }) => {
            let zero = if frozen.value() == 0.0 { "frozen zero" } else { "frozen" };
            write!(out, "{}{}", NumberCell("", free.text()), NumberCell(zero, frozen.text()))?;
        }
        Some(HoldingState::Missing) => write!(out, "{MISSING}{}", NumberCell("frozen zero", "0"))?,
        Some(HoldingState::Unreadable) => {
            out.write_str("<td class=\"none\" colspan=\"2\">unreadable</td>")?;
        }
        Some(HoldingState::Unnamed) => {
            out.write_str(
                "<td class=\"none\" colspan=\"2\">unknown: a row of the answer has no usable name</td>",
            )?;
        }
        Some(HoldingState::Unconfirmed) => {
            out.write_str("<td class=\"none\" colspan=\"2\">not in the last answer, to be confirmed</td>")?;
        }
        None => out.write_str("<td class=\"none\" colspan=\"2\">unknown</td>")?,
    }
    match (gap, threshold) {
        (Some(gap), _) => write!(out, "<td class=\"mark\">{gap}</td>")?,
        (None, Some(threshold)) if free.is_none() => {
            write!(out, "<td class=\"mark kept\">{}, cannot be judged</td>", PlainNumber(threshold))?;
        }
        (None, Some(threshold)) => write!(out, "<td class=\"mark kept\">{}</td>", PlainNumber(threshold))?,
        (None, None) if thresholds => out.write_str("<td></td>")?,
        (None, None) => {}
    }
    out.write_str("</tr>\n")
}

const LOW: &str = " <b class=\"tag\">low</b>";
pub(super) const MISSING: &str =
    "<td>0<span class=\"places\"></span> <small>(not in the answer)</small></td>";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{exchange::v1, snapshot::wallet::tests::answer};

    /// The names of the rows that are listed of these.
    fn shown(rows: &[(&str, &str, &str)], prices: Option<&PriceTable>) -> Vec<String> {
        let row = |balance: crate::exchange::Balance| Holding {
            currency: balance.currency,
            state: HoldingState::Read { free: balance.free, frozen: balance.frozen },
        };
        let holdings: Vec<_> = answer(rows).balances.into_iter().map(row).collect();
        let chosen = largest(holdings.iter().collect(), prices);
        chosen.iter().map(|holding| holding.currency.to_string()).collect()
    }

    /// So many rows as the table lists, `c00`, `c01` …, and then these.
    fn with_others<'a>(
        names: &'a [String],
        more: &[(&'a str, &'a str, &'a str)],
    ) -> Vec<(&'a str, &'a str, &'a str)> {
        names.iter().map(|name| (&**name, "1", "0")).chain(more.iter().copied()).collect()
    }

    #[test]
    fn the_rows_are_those_of_the_highest_worth_then_those_with_something_frozen_then_the_first_by_name() {
        let names: Vec<_> = (0..ROWS_SHOWN).map(|number| format!("c{number:02}")).collect();
        assert_eq!(shown(&with_others(&names, &[]), None), names, "all, if they are few enough");
        let more = [("x_frozen", "0", "0.1"), ("y_rich", "5", "0"), ("z_free", "9", "0")];
        let rows = with_others(&names, &more);
        let first = |count: usize| names.iter().take(count).cloned();
        let with = |count: usize, more: &[&str]| -> Vec<String> {
            first(count).chain(more.iter().map(|name| (*name).to_owned())).collect()
        };
        assert_eq!(shown(&rows, None), with(ROWS_SHOWN - 1, &["x_frozen"]));
        let prices = v1::decode_prices(200, br#"{"y_rich_usdt":{"price":2},"c19_usdt":{"price":3}}"#);
        let prices = prices.unwrap_or_else(|failure| panic!("{failure:?}"));
        let expected = [with(ROWS_SHOWN - 3, &[]), vec!["c19".into(), "x_frozen".into(), "y_rich".into()]];
        assert_eq!(shown(&rows, Some(&prices)), expected.concat());
    }
}
