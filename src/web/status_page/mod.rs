//! The status page: what is known, for a person in a hurry. Complete without its script, which
//! only keeps it up to date. Pure: it reads no clock, asks nobody and knows no socket.

mod format;
mod model;
mod wallet_table;

use std::{
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use self::{
    format::{
        AccountName, Countdown, ElementId, EscapedText, HumanDuration, NumberCell, Quantity, TickingAge,
        UtcTime, WalletPath, places,
    },
    model::{Banner, LowBalance, StatusPageModel, WalletRow, WalletState},
    wallet_table::{MISSING, balances},
};
use crate::{
    clock::Timestamp,
    exchange::PriceTable,
    snapshot::prices::QUOTE,
    snapshot::store::{AccountEntry, PriceEntry, WalletEntry},
    snapshot::wallet::{HoldingState, LastFailure},
};

/// What the page is made of.
#[derive(Clone, Copy, Debug)]
pub struct StatusPage<'a> {
    /// What is known, sorted by name.
    pub accounts: &'a [Arc<AccountEntry>],
    /// What is known of prices; `None` if they are not asked for.
    pub prices: Option<&'a PriceEntry>,
    /// Whether the configuration was changed into one that cannot be used.
    pub misconfigured: bool,
    /// As of when.
    pub now: Timestamp,
    /// Where the metrics are, from the root.
    pub telemetry_path: &'a str,
    /// Version of this build. A page left open over an upgrade loads anew when it changes.
    pub version: &'a str,
}

/// The header of that name, to be sent with the page. It names the style and the script by hash:
/// nothing else runs, whatever an exchange may call its currencies.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
     script-src 'sha256-LjyjSAHWqGYGthDzHt9ZAKNCMrU+6UjEMB2wSxJPfqE='; \
     style-src 'sha256-sbioA93PV04OAjLVrWANE1L5Y5G6rx62A2xltWYCWvY='; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Up to so many accounts are found without an overview.
const FEW_ACCOUNTS: usize = 3;
/// Low balances beyond the worst so many are folded away.
const LOW_SHOWN: usize = 12;
/// A list of more wallets that are well is folded away.
const WELL_SHOWN: usize = 60;

/// The whole document.
#[must_use]
pub fn render(page: &StatusPage<'_>) -> String {
    let mut out = String::new();
    let written = document(&mut out, page, &StatusPageModel::of(page));
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
    out
}

fn document(out: &mut String, page: &StatusPage<'_>, model: &StatusPageModel<'_>) -> fmt::Result {
    let version = EscapedText(page.version);
    let (title, icon) = (model.title(), model.level().icon());
    write!(
        out,
        "<!doctype html>\n\
         <html lang=\"en\" data-version=\"{version}\">\n\
         <head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n\
         <link id=\"icon\" rel=\"icon\" href=\"{icon}\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\n\
         <style>{STYLE}</style>\n\
         </head>\n\
         <body>\n\
         <p id=\"lost\" role=\"alert\" hidden></p>\n\
         <main>\n"
    )?;
    summary(out, page, model)?;
    low(out, page.now, model)?;
    if page.accounts.len() > FEW_ACCOUNTS {
        overview(out, page, model)?;
    }
    out.write_str("<div class=\"accounts\">\n")?;
    let prices = page.prices.and_then(|market| market.snapshot.visible(page.now)).map(|known| &*known.prices);
    for account in page.accounts {
        account_section(out, page, account, prices)?;
    }
    if let Some(market) = page.prices {
        prices_section(out, page.now, market)?;
    }
    // A path that only looks like a URL with a scheme stays a path behind the dot.
    let metrics = EscapedText(page.telemetry_path.trim_start_matches('/'));
    write!(
        out,
        "</div>\n\
         </main>\n\
         <footer>\n\
         <nav aria-label=\"Endpoints\"><a href=\"./{metrics}\">/{metrics}</a> \
         <a href=\"./-/healthy\">/-/healthy</a> <a href=\"./-/ready\">/-/ready</a></nav>\n\
         <p>xt-balance-exporter {version}</p>\n\
         </footer>\n\
         <script>{SCRIPT}</script>\n\
         </body>\n\
         </html>\n"
    )
}

/// The first glance: is anything low, is anything not fresh, does the exporter work?
fn summary(out: &mut String, page: &StatusPage<'_>, model: &StatusPageModel<'_>) -> fmt::Result {
    let as_of = UtcTime { at: page.now.unix, now: page.now };
    write!(
        out,
        "<header>\n<h1>xt-balance-exporter</h1>\n<p>as of <span id=\"as-of\">{as_of}</span></p>\n</header>\n\
         <ul class=\"answers\">\n"
    )?;
    for Banner { level, text, note } in
        [model.threshold_banner(), model.freshness_banner(), model.health_banner()]
    {
        let level = level.class();
        writeln!(out, "<li class=\"{level}\"><strong>{text}</strong> <span>{note}</span></li>")?;
    }
    out.write_str("</ul>\n")
}

/// Every balance under its threshold, the worst first.
fn low(out: &mut String, now: Timestamp, model: &StatusPageModel<'_>) -> fmt::Result {
    if model.low.is_empty() {
        return Ok(());
    }
    let (worst, others) = model.low.split_at(model.low.len().min(LOW_SHOWN));
    out.write_str("<section id=\"low\">\n<h2>Low balances</h2>\n")?;
    low_table(out, now, worst)?;
    if !others.is_empty() {
        writeln!(out, "<details id=\"low-more\"><summary>{} more</summary>", others.len())?;
        low_table(out, now, others)?;
        out.write_str("</details>\n")?;
    }
    out.write_str("</section>\n")
}

fn low_table(out: &mut String, now: Timestamp, lows: &[LowBalance<'_>]) -> fmt::Result {
    let places = places(lows.iter().map(|low| low.row));
    write!(
        out,
        "<table class=\"balances p{places}\">\n<caption>Balances under their threshold</caption>\n\
         <thead><tr><th scope=\"col\">Currency</th><th scope=\"col\">Free</th>\
         <th scope=\"col\">Threshold</th><th scope=\"col\" class=\"where\">Wallet</th></tr></thead>\n<tbody>\n"
    )?;
    for low in lows {
        let (currency, place, gap) = (AccountName(&low.watch.currency), WalletPath(low.snapshot), low.gap);
        write!(out, "<tr class=\"low\"><th scope=\"row\">{currency}</th>")?;
        match low.row {
            HoldingState::Read { free, .. } => write!(out, "{}", NumberCell("", free.text()))?,
            _ => out.write_str(MISSING)?,
        }
        let held = match &low.snapshot.last_good {
            Some(good) if !low.snapshot.last_poll_believed() => {
                format!(" <small>held, read {} ago</small>", TickingAge(good.at.age(now)))
            }
            _ => String::new(),
        };
        writeln!(out, "<td class=\"mark\">{gap}</td><td class=\"where\">{place}{held}</td></tr>")?;
    }
    out.write_str("</tbody>\n</table>\n")
}

/// Where to look first among many accounts, and a way to each of the others.
fn overview(out: &mut String, page: &StatusPage<'_>, model: &StatusPageModel<'_>) -> fmt::Result {
    let mut troubled: Vec<_> = model.wallets.iter().filter(|seen| seen.rank() > 0).collect();
    troubled.sort_by_key(|seen| std::cmp::Reverse(seen.rank()));
    out.write_str("<section id=\"overview\">\n<h2>Overview</h2>\n")?;
    if !troubled.is_empty() {
        out.write_str(
            "<table>\n<caption>Wallets in trouble, the worst first</caption>\n\
             <thead><tr><th scope=\"col\">Wallet</th><th scope=\"col\">State</th>\
             <th scope=\"col\">Last read</th><th scope=\"col\">Why</th></tr></thead>\n<tbody>\n",
        )?;
        for seen in troubled {
            overview_row(out, page.now, seen)?;
        }
        out.write_str("</tbody>\n</table>\n")?;
    }
    let well: Vec<_> = model.wallets.iter().filter(|seen| seen.rank() == 0).collect();
    if !well.is_empty() {
        let open = if well.len() > WELL_SHOWN { "" } else { " open" };
        let count = Quantity(well.len(), "wallet");
        write!(out, "<details id=\"well\"{open}><summary>{count} fresh and not low</summary>\n<ul>\n")?;
        for seen in well {
            writeln!(out, "<li>{}</li>", WalletPath(seen.snapshot))?;
        }
        out.write_str("</ul>\n</details>\n")?;
    }
    out.write_str("</section>\n")
}

fn overview_row(out: &mut String, now: Timestamp, seen: &WalletRow<'_>) -> fmt::Result {
    let (place, state) = (WalletPath(seen.snapshot), seen.state);
    write!(out, "<tr><th scope=\"row\">{place}</th><td>{state}</td><td>")?;
    match &seen.snapshot.last_good {
        Some(good) => write!(out, "{} ago", TickingAge(good.at.age(now)))?,
        None => out.write_str("never")?,
    }
    out.write_str("</td><td>")?;
    let mut comma = "";
    if seen.low > 0 {
        write!(out, "<b>{} low</b>", seen.low)?;
        comma = ", ";
    }
    if seen.unreadable > 0 {
        write!(out, "{comma}{} unreadable", seen.unreadable)?;
        comma = ", ";
    }
    if seen.account.overdue(now).is_some() {
        write!(out, "{comma}<b>poller stuck</b>")?;
        comma = ", ";
    }
    if seen.account.facts.paused_until.is_some() {
        write!(out, "{comma}paused")?;
        comma = ", ";
    }
    if seen.snapshot.doubt.is_some() {
        write!(out, "{comma}not confirmed")?;
        comma = ", ";
    }
    if let Some(failure) = &seen.snapshot.last_failure {
        write!(
            out,
            "{comma}failing for {} ({})",
            TickingAge(failure.since.age(now)),
            failure.failure.reason
        )?;
    }
    out.write_str("</td></tr>\n")
}

fn account_section(
    out: &mut String,
    page: &StatusPage<'_>,
    account: &AccountEntry,
    prices: Option<&PriceTable>,
) -> fmt::Result {
    let now = page.now;
    let (id, name) = (ElementId(&account.facts.name), AccountName(&account.facts.name));
    write!(out, "<section class=\"account\" id=\"account.{id}\">\n<header><h2>{name}</h2>")?;
    if let Some(next) = account.next_poll() {
        write!(out, " <p>next poll {}</p>", Countdown(next.elapsed.saturating_sub(now.elapsed)))?;
    }
    out.write_str("</header>\n")?;
    stuck(out, account.overdue(now))?;
    if let Some(until) = account.facts.paused_until {
        let until = UtcTime { at: until, now };
        writeln!(
            out,
            "<p class=\"notice warn\"><b>Paused until {until}:</b> the exchange said that a limit was passed.</p>"
        )?;
    }
    for wallet in &account.wallets {
        wallet_section(out, page, wallet, prices)?;
    }
    out.write_str("</section>\n")
}

fn wallet_section(
    out: &mut String,
    page: &StatusPage<'_>,
    known: &WalletEntry,
    prices: Option<&PriceTable>,
) -> fmt::Result {
    let (snapshot, now) = (&known.snapshot, page.now);
    let (wallet, id) = (snapshot.config.wallet, ElementId(&snapshot.config.account));
    let state = WalletState::of(snapshot, now);
    let class = state.class();
    write!(out, "<section class=\"wallet {class}\" id=\"{wallet}.{id}\">\n<h3>{wallet} {state}</h3>\n")?;
    let good = snapshot.last_good.as_ref().map(|good| good.at);
    age(out, now, state, "balances", good, snapshot.config.max_age)?;
    if let Some(doubt) = &snapshot.doubt {
        let doubt = doubt.to_string();
        let doubt = AccountName(&doubt);
        writeln!(
            out,
            "<p class=\"failure\"><b>not confirmed</b> {doubt}: waiting for another answer to confirm it</p>"
        )?;
    }
    failure(out, now, snapshot.last_failure.as_ref(), known.next_poll)?;
    balances(out, page, snapshot, prices)
}

/// What is known of prices, after all that is known of balances.
fn prices_section(out: &mut String, now: Timestamp, market: &PriceEntry) -> fmt::Result {
    let price_snapshot = &market.snapshot;
    let state = WalletState::of_prices(price_snapshot, now);
    out.write_str("<section class=\"account\" id=\"prices\">\n<header><h2>Prices</h2></header>\n")?;
    stuck(out, market.overdue(now))?;
    write!(out, "<section class=\"wallet {}\">\n<h3>{QUOTE} {state}</h3>\n", state.class())?;
    age(
        out,
        now,
        state,
        "prices",
        price_snapshot.last_good.as_ref().map(|good| good.at),
        price_snapshot.max_age,
    )?;
    failure(out, now, price_snapshot.last_failure.as_ref(), None)?;
    if let Some(known) = price_snapshot.visible(now) {
        // USDT and at least one other.
        writeln!(out, "<p>{} currencies with a price in {QUOTE}</p>", known.prices.currencies().len())?;
    }
    out.write_str("</section>\n</section>\n")
}

fn stuck(out: &mut String, overdue: Option<Duration>) -> fmt::Result {
    let Some(overdue) = overdue.map(TickingAge) else { return Ok(()) };
    writeln!(
        out,
        "<p class=\"notice bad\"><b>Poller stuck or dead:</b> its sign of life is {overdue} overdue.</p>"
    )
}

/// How old `what` is known, read at `good` and no longer shown from `max_age` on.
fn age(
    out: &mut String,
    now: Timestamp,
    state: WalletState,
    what: &str,
    good: Option<Timestamp>,
    max_age: Duration,
) -> fmt::Result {
    match (state, good.map(|good| TickingAge(good.age(now)))) {
        (WalletState::Unpolled, _) => Ok(()),
        (_, None) => out.write_str("<p class=\"age\">never read since the start</p>\n"),
        (WalletState::Fresh, Some(age)) => writeln!(out, "<p class=\"age\">read {age} ago</p>"),
        (WalletState::Held, Some(age)) => writeln!(
            out,
            "<p class=\"age\">{what} of <b>{age} ago</b>, \
             shown until they are {} old</p>",
            HumanDuration(max_age)
        ),
        (WalletState::Unknown, Some(age)) => {
            writeln!(out, "<p class=\"age\">last known <b>{age} ago</b>, too old to be shown</p>")
        }
    }
}

/// How polls fail, and when the next one is made.
fn failure(
    out: &mut String,
    now: Timestamp,
    failure: Option<&LastFailure>,
    next: Option<Timestamp>,
) -> fmt::Result {
    let Some(failure) = failure else { return Ok(()) };
    let (reason, text) = (failure.failure.reason, AccountName(&failure.failure.text));
    let (since, last) = (failure.since, failure.at);
    let (begun, failing) = (UtcTime { at: since.unix, now }, TickingAge(since.age(now)));
    let (at, ago) = (UtcTime { at: last.unix, now }, TickingAge(last.age(now)));
    write!(
        out,
        "<p class=\"failure\"><b>{reason}</b> {text} <small>failing for {failing} (since {begun}), \
         last {ago} ago ({at})"
    )?;
    if let Some(next) = next {
        let ahead = next.elapsed.saturating_sub(now.elapsed);
        write!(out, ", next try {} ({})", Countdown(ahead), UtcTime { at: now.unix + ahead, now })?;
    }
    out.write_str("</small></p>\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::{
        exchange::{BalanceAnswer, Failure, PriceTable, Reason, Wallet, v1},
        snapshot::store::AccountFacts,
        snapshot::store::Store,
        snapshot::wallet::{
            CurrencyFilter, PollOutcome, PollResult, WalletConfig, WatchedCurrency, tests::answer,
        },
    };

    const NOW: u64 = 10_000;

    fn at(seconds: u64) -> Timestamp {
        let elapsed = Duration::from_secs(seconds);
        Timestamp { elapsed, uptime: elapsed, unix: Duration::from_secs(1_700_000_000) + elapsed }
    }

    fn account(name: &str, watch: &[(&str, Option<f64>)]) -> AccountEntry {
        let watch = watch.iter().map(|(currency, threshold)| WatchedCurrency {
            currency: (*currency).into(),
            threshold: *threshold,
        });
        let wallet_config = WalletConfig {
            account: name.into(),
            wallet: Wallet::Spot,
            watch: watch.collect(),
            filter: CurrencyFilter::default(),
            max_age: Duration::from_secs(90),
        };
        let facts = AccountFacts {
            name: name.into(),
            paused_until: None,
            credentials_loaded: Duration::ZERO,
            poller_restarts: 0,
        };
        AccountEntry::new(facts, vec![Arc::new(wallet_config)], at(NOW + 60))
    }

    fn polled(
        mut account: AccountEntry,
        seconds: u64,
        outcome: Result<BalanceAnswer, Failure>,
    ) -> AccountEntry {
        if let Some(wallet) = account.wallets.first_mut() {
            let took = Duration::from_millis(120);
            let outcome = PollOutcome::new(at(seconds), outcome.map(Some));
            wallet.set(wallet.snapshot.apply(PollResult {
                at: at(seconds),
                took,
                is_suspect: false,
                outcome,
            }));
        }
        account
    }

    fn timeout() -> Result<BalanceAnswer, Failure> {
        Err(Failure::new(Reason::Timeout, "no answer within 10 s"))
    }

    fn nothing() -> StatusPage<'static> {
        let (telemetry_path, version) = ("/metrics", "1.2.3");
        StatusPage {
            accounts: &[],
            prices: None,
            misconfigured: false,
            now: at(NOW),
            telemetry_path,
            version,
        }
    }

    fn html(accounts: Vec<AccountEntry>) -> String {
        html_with(accounts, None)
    }

    fn html_with(accounts: Vec<AccountEntry>, market: Option<&PriceEntry>) -> String {
        let accounts: Vec<_> = accounts.into_iter().map(Arc::new).collect();
        render(&StatusPage { accounts: &accounts, prices: market, ..nothing() })
    }

    /// Prices after readings that ended so many seconds ago.
    fn market(readings: Vec<(u64, Result<PriceTable, Failure>)>) -> PriceEntry {
        let store = Store::new(Vec::new()).with_prices(Duration::from_secs(90), at(NOW + 60));
        for (ago, outcome) in readings {
            let market = store.prices().unwrap_or_else(|| panic!("prices are asked for"));
            let outcome = outcome.map(|prices| (at(NOW - ago), prices));
            let price_snapshot = market.snapshot.apply(at(NOW - ago), outcome);
            store.update_prices(|market| market.set(price_snapshot.clone()));
        }
        PriceEntry::clone(&store.prices().unwrap_or_else(|| panic!("prices are asked for")))
    }

    fn prices() -> Result<PriceTable, Failure> {
        v1::decode_prices(200, br#"{"btc_usdt":{"price":70707}}"#)
    }

    /// What is between the tags of the body, without the script.
    fn text(html: &str) -> String {
        let (_, body) = html.split_once("<body>").unwrap_or_else(|| panic!("{html}"));
        let (body, _) = body.split_once("<script>").unwrap_or_else(|| panic!("{html}"));
        body.split('<').filter_map(|tag| tag.split_once('>')).map(|(_, text)| text).collect()
    }

    fn title(html: &str) -> &str {
        let (_, rest) = html.split_once("<title>").unwrap_or_else(|| panic!("{html}"));
        rest.split_once("</title>").unwrap_or_else(|| panic!("{html}")).0
    }

    fn places_of<'a>(html: &str, needles: impl IntoIterator<Item = &'a str>) -> Vec<usize> {
        let place = |needle| html.find(needle).unwrap_or_else(|| panic!("no {needle} in {html}"));
        needles.into_iter().map(place).collect()
    }

    #[test]
    fn names_from_outside_are_text_wherever_they_stand() {
        let evil = "\"><script>alert(1)</script>' onload='x\u{202e}";
        let rows = [(evil, "1", "2"), ("</p><b>zero", "0", "0")];
        let troubled = |name: &str| {
            let account = polled(account(name, &[(evil, Some(5.0))]), NOW - 4, Ok(answer(&rows)));
            polled(account, NOW - 1, Err(Failure::new(Reason::Api, evil)))
        };
        let names = [evil, "a", "b", "c"];
        let html = html(names.into_iter().map(troubled).collect());
        assert_eq!(html.matches("<script").count(), 1);
        assert!(!html.contains("<b>zero") && html.contains("&lt;/p&gt;&lt;b&gt;zero"));
        let attributes = html.split("onload=").skip(1);
        assert!(attributes.clone().count() > 0 && attributes.clone().all(|rest| rest.starts_with("&#39;x")));
        let shown = "<bdi>&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&#39; onload=&#39;x\u{202e}</bdi>";
        assert_eq!(html.matches('\u{202e}').count(), html.matches(shown).count(), "each is isolated");
        let path = StatusPage { telemetry_path: evil, version: evil, ..nothing() };
        assert_eq!(render(&path).matches("<script").count(), 1);
    }

    #[test]
    fn nothing_in_the_markup_needs_more_than_the_policy_allows() {
        let html = html(vec![polled(
            account("main", &[("usdt", Some(5.0))]),
            NOW,
            Ok(answer(&[("usdt", "1", "0")])),
        )]);
        for banned in [" style=", " onclick=", " onload=", "http://", "https://", "@import"] {
            let found = html.replace("http://www.w3.org/2000/svg", "").contains(banned);
            assert!(!found, "{banned}");
        }
    }

    #[test]
    fn an_unknown_wallet_shows_no_number_it_once_had() {
        let rows = [("eth", "4242.5", "7171"), ("usdt", "3131.75", "6")];
        let known = polled(account("main", &[("usdt", Some(5000.0))]), NOW - 90, Ok(answer(&rows)));
        let shown = text(&html(vec![known.clone()]));
        assert!(shown.contains("last known 1 min 30 s ago, too old to be shown"), "{shown}");
        for old in ["4242", "7171", "3131", "1868", "62 %", "eth"] {
            assert!(!shown.contains(old), "{old} in {shown}");
        }
        assert!(shown.contains("5000, cannot be judged") && shown.contains("low or not: unknown"), "{shown}");
        let failed = text(&html(vec![polled(known, NOW - 1, timeout())]));
        assert!(failed.contains("unknown") && !failed.contains("3131"), "{failed}");
        let never = text(&html(vec![polled(account("main", &[]), NOW, timeout())]));
        assert!(never.contains("never read since the start"), "{never}");
    }

    #[test]
    fn a_configuration_that_cannot_be_used_is_told() {
        let account = polled(account("main", &[]), NOW, Ok(answer(&[("usdt", "1", "0")])));
        let accounts = [Arc::new(account)];
        let html = render(&StatusPage { accounts: &accounts, misconfigured: true, ..nothing() });
        assert_eq!(title(&html), "configuration unusable · xt-balance-exporter");
        let told = "<li class=\"warn\"><strong>exporter works</strong> <span>the changed configuration cannot be used: see the log</span></li>";
        assert!(html.contains(told), "{html}");
    }

    #[test]
    fn held_balances_are_called_old_and_the_failure_is_told() {
        let known =
            polled(account("main", &[("usdt", Some(50.0))]), NOW - 64, Ok(answer(&[("usdt", "31", "0")])));
        let held = polled(polled(known, NOW - 34, timeout()), NOW - 4, timeout());
        let html = html(vec![held]);
        let shown = text(&html);
        assert!(shown.contains("balances of 1 min 4 s ago, shown until they are 1 min 30 s old"));
        assert!(shown.contains("main spot held, read 1 min 4 s ago"), "{shown}");
        assert!(shown.contains("Free 1 min 4 s ago") && shown.contains("31"), "{shown}");
        let failure = "timeout no answer within 10 s failing for 34 s (since 00:59:26 UTC), last 4 s ago (00:59:56 UTC)";
        assert!(shown.contains(failure), "{shown}");
        assert!(html.contains("class=\"wallet held\""));
    }

    #[test]
    fn a_refused_key_is_shown_with_its_next_try() {
        let refused = Err(Failure::new(Reason::Auth, "AccessKey error"));
        let mut refused = polled(account("main", &[]), NOW - 4, refused);
        refused.wallets.iter_mut().for_each(|wallet| wallet.next_poll = Some(at(NOW + 270)));
        let shown = text(&html(vec![refused]));
        assert!(shown.contains("next poll in 4 min 30 s"), "{shown}");
        assert!(shown.contains("next try in 4 min 30 s (01:04:30 UTC)"), "{shown}");
    }

    #[test]
    fn what_must_be_confirmed_is_told_beside_the_balances_that_are_held() {
        let known = polled(account("main", &[("usdt", None)]), NOW - 30, Ok(answer(&[("usdt", "7", "0")])));
        let mut held = known.clone();
        for wallet in &mut held.wallets {
            let doubt =
                wallet.snapshot.find_doubt(&answer(&[]), at(NOW)).unwrap_or_else(|| panic!("it is believed"));
            let (outcome, took) = (PollOutcome::Doubted(doubt), Duration::ZERO);
            wallet.set(wallet.snapshot.apply(PollResult { at: at(NOW), took, is_suspect: true, outcome }));
        }
        let shown = text(&html(vec![held]));
        assert!(shown.contains("spot held"), "{shown}");
        assert!(shown.contains("not confirmed the answer holds no balance at all"), "{shown}");
        assert!(shown.contains("30 s ago"), "{shown}");
    }

    #[test]
    fn missing_is_a_zero_and_unreadable_is_none() {
        let mut half = answer(&[]);
        half.unreadable = vec!["usdt".into()];
        let watch = [("btc", Some(1.0)), ("usdt", Some(500.0))];
        let html = html(vec![polled(account("main", &watch), NOW - 4, Ok(half))]);
        let shown = text(&html);
        assert!(shown.contains("btc low0 (not in the answer)00 % of 1, 1 short"), "{shown}");
        assert!(shown.contains("usdtunreadable500, cannot be judged"), "{shown}");
        assert_eq!(title(&html), "1 low, 1 unreadable · xt-balance-exporter");
    }

    #[test]
    fn watched_come_first_then_what_is_not_zero_then_the_names_of_zeros() {
        let rows = [
            ("aaa", "0", "0"),
            ("bbb", "0", "3"),
            ("btc", "0.0", "0"),
            ("ccc", "1", "0"),
            ("usdt", "9", "0"),
        ];
        let watch = [("btc", None), ("usdt", None)];
        let html = html(vec![polled(account("main", &watch), NOW, Ok(answer(&rows)))]);
        let order = [">btc<", ">usdt<", ">bbb<", ">ccc<", "<details", ">aaa<"];
        assert!(places_of(&html, order).is_sorted(), "{html}");
        assert!(text(&html).contains("1 zero balance\n"));
    }

    #[test]
    fn a_wallet_of_a_thousand_currencies_shows_those_that_are_watched_and_twenty_more_of_each_kind() {
        let names: Vec<_> = (0..1000).map(|number| format!("c{number:03}")).collect();
        let rows: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(place, name)| (&**name, if place % 2 == 0 { "1" } else { "0" }, "0"))
            .collect();
        let wallet = polled(account("main", &[("c998", Some(5.0))]), NOW, Ok(answer(&rows)));
        let html = html(vec![wallet]);
        let shown = text(&html);
        for said in ["1 low of 1 threshold", "500 zero balances", "c998 low"] {
            assert!(shown.contains(said), "no {said} in {shown}");
        }
        // Of 499 that are not zero and 500 that are.
        for hidden in [479, 480] {
            assert!(
                shown.contains(&format!("and {hidden} more: see /api/v1/balances or /metrics")),
                "{shown}"
            );
        }
        assert_eq!(html.matches("<th scope=\"row\">c").count(), 2 + 20, "two of c998");
        assert!(shown.contains("c038") && !shown.contains("c040"), "{shown}");
        assert!(shown.contains("c001, ") && shown.contains("c039 and") && !shown.contains("c041"), "{shown}");
        assert!(html.len() < STYLE.len() + SCRIPT.len() + 10_000, "{} bytes", html.len());
    }

    #[test]
    fn only_what_is_under_its_threshold_is_marked_low() {
        let rows = [("btc", "0.5", "0"), ("eth", "0.1", "0"), ("usdt", "499.5", "0")];
        let watch = [("btc", Some(0.5)), ("eth", None), ("usdt", Some(500.0))];
        let html = html(vec![polled(account("main", &watch), NOW, Ok(answer(&rows)))]);
        assert_eq!(html.matches("<tr class=\"low\">").count(), 2, "in the list on top and in its wallet");
        let shown = text(&html);
        assert!(shown.contains("usdt low499.5099 % of 500, 0.5 short"), "{shown}");
        assert!(shown.contains("1 low of 2 thresholds"), "{shown}");
    }

    #[test]
    fn the_title_says_the_worst_first() {
        let rich = || polled(account("main", &[("usdt", Some(5.0))]), NOW, Ok(answer(&[("usdt", "9", "0")])));
        let poor = || polled(account("poor", &[("usdt", Some(5.0))]), NOW, Ok(answer(&[("usdt", "1", "0")])));
        let mut paused = polled(rich(), NOW, timeout());
        paused.facts.paused_until = Some(at(NOW + 600).unix);
        let mut stuck = rich();
        stuck.heartbeat_deadline = at(NOW - 12);
        for (accounts, expected) in [
            (vec![rich()], "all well"),
            (vec![rich(), poor(), poor()], "2 low"),
            (vec![account("new", &[])], "1 not polled yet"),
            (vec![paused.clone(), stuck, poor()], "1 low, 1 stuck, 1 held, 1 paused"),
        ] {
            assert_eq!(title(&html(accounts)), format!("{expected} · xt-balance-exporter"));
        }
        let shown = text(&html(vec![paused]));
        assert!(shown.contains("Paused until 01:10:00 UTC"), "{shown}");
    }

    #[test]
    fn prices_have_a_state_of_their_own() {
        let evil = || Err(Failure::new(Reason::Api, "<script>"));
        let well = || vec![polled(account("main", &[]), NOW, Ok(answer(&[])))];
        for (readings, verdict, said, head) in [
            (
                vec![],
                "exporter works prices not polled yet",
                "Prices\n\nusdt not polled yet\n",
                "not all known",
            ),
            (
                vec![(4, prices())],
                "exporter works all pollers alive",
                "usdt fresh\nread 4 s ago\n2 currencies with a price in usdt\n",
                "all well",
            ),
            (
                vec![(64, prices()), (34, evil()), (4, evil())],
                "exporter works prices held",
                "usdt held\nprices of 1 min 4 s ago, shown until they are 1 min 30 s old\n\
                 api &lt;script&gt; failing for 34 s (since 00:59:26 UTC), last 4 s ago (00:59:56 UTC)\n2 currencies",
                "not all known",
            ),
            (
                vec![(90, prices()), (4, evil())],
                "exporter works prices unknown",
                "usdt unknown\nlast known 1 min 30 s ago, too old to be shown\napi ",
                "not all known",
            ),
            (
                vec![(4, evil())],
                "exporter works prices unknown",
                "usdt unknown\nnever read since the start\napi ",
                "not all known",
            ),
        ] {
            let html = html_with(well(), Some(&market(readings)));
            let shown = text(&html);
            assert!(shown.contains(verdict) && shown.contains(said), "no {verdict}, {said} in {shown}");
            assert_eq!(title(&html), format!("{head} · xt-balance-exporter"));
            assert_eq!(shown.contains("with a price"), said.contains("2 currencies"), "{shown}");
            assert_eq!(html.contains("<a href=\"#prices\">"), !verdict.contains("alive"), "{html}");
        }
        let mut stuck = market(vec![(4, prices())]);
        stuck.heartbeat_deadline = at(NOW - 12);
        let html = html_with(well(), Some(&stuck));
        assert!(text(&html).contains("1 of 2 pollers stuck or dead"), "{}", text(&html));
        assert!(text(&html).contains("Prices\nPoller stuck or dead: its sign of life is 12 s overdue."));
        assert_eq!(title(&html), "1 stuck · xt-balance-exporter");
        assert!(!text(&self::html(well())).contains("rices"), "who asks for none need not read of them");
    }

    #[test]
    fn an_overview_of_many_accounts_leads_to_each_and_to_the_troubled_first() {
        let good = |name: &str| polled(account(name, &[]), NOW, Ok(answer(&[])));
        let mut stuck = good("z");
        stuck.heartbeat_deadline = at(NOW);
        let html = html(vec![good("a b"), good("a_b"), polled(good("held"), NOW, timeout()), stuck]);
        let ids = ["spot.z", "spot.held", "spot.a_20b", "spot.a_5fb"];
        let links = ids.map(|id| format!("href=\"#{id}\""));
        assert!(places_of(&html, links.iter().map(String::as_str)).is_sorted(), "{html}");
        for id in ids {
            assert_eq!(html.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
        }
        assert!(text(&html).contains("poller stuck") && text(&html).contains("2 wallets fresh and not low"));
    }

    #[test]
    fn links_stay_on_this_server() {
        for (telemetry_path, expected) in [
            ("/metrics", "href=\"./metrics\">/metrics<"),
            ("//elsewhere/m", "href=\"./elsewhere/m\""),
            ("javascript:alert(1)", "href=\"./javascript:alert(1)\""),
        ] {
            let html = render(&StatusPage { telemetry_path, ..nothing() });
            assert!(html.contains(expected), "{html}");
        }
    }

    #[test]
    fn the_policy_names_the_style_and_the_script() {
        for (directive, content) in [("script-src", SCRIPT), ("style-src", STYLE)] {
            let expected = format!(" {directive} 'sha256-{}';", base64(&Sha256::digest(content.as_bytes())));
            assert!(CONTENT_SECURITY_POLICY.contains(&expected), "the policy lacks{expected}");
            assert!(
                html(vec![]).contains(&format!(">{content}</")),
                "{directive}: the page has other content"
            );
        }
    }

    fn base64(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let octet = |at: usize| chunk.get(at).copied().map_or(0, u32::from);
            let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
            for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
                let digit = ALPHABET.get((bits >> shift & 63) as usize).copied().map_or('=', char::from);
                text.push(if at > chunk.len() { '=' } else { digit });
            }
        }
        text
    }
}
