//! The page as one text: what it says in each state, and that nothing from outside is markup.

mod view;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use super::{
    template::{SCRIPT, STYLE},
    *,
};
use crate::{
    clock::simulated::at,
    exchange::{BalanceAnswer, Failure, PriceTable, Reason, Wallet, futures_positions, v1, v4},
    snapshot::history::History,
    snapshot::positions::{FuturesRisk, PositionsConfig, PositionsSnapshot},
    snapshot::store::{AccountEntry, AccountState, PriceEntry, Store},
    snapshot::wallet::{
        CurrencyFilter, PollOutcome, PollResult, Thresholds, WalletConfig, WalletSnapshot, WatchedCurrency,
        tests::answer,
    },
};

const NOW: u64 = 10_000;

/// The snapshot of the account's first wallet.
fn first_snapshot(account: &AccountEntry) -> &WalletSnapshot {
    let first = account.wallets.first().unwrap_or_else(|| panic!("an account has a wallet"));
    &first.snapshot
}

fn account(name: &str, watch: &[(&str, Option<f64>)]) -> AccountEntry {
    let watch = watch.iter().map(|(currency, warn)| {
        let thresholds = warn.map(|warn| Thresholds { warn, page: warn / 2.0 });
        WatchedCurrency { currency: (*currency).into(), thresholds }
    });
    let wallet_config = WalletConfig {
        account: name.into(),
        wallet: Wallet::Spot,
        watch: watch.collect(),
        filter: CurrencyFilter::default(),
        max_age: Duration::from_secs(90),
    };
    let facts = AccountState::at_start(name);
    AccountEntry::new(facts, vec![Arc::new(wallet_config)], at(NOW + 60).uptime)
}

fn polled(mut account: AccountEntry, seconds: u64, outcome: Result<BalanceAnswer, Failure>) -> AccountEntry {
    if let Some(wallet) = account.wallets.first_mut() {
        let took = Duration::from_millis(120);
        let outcome = PollOutcome::new(at(seconds), outcome.map(Some));
        wallet.set_snapshot(wallet.snapshot.apply(PollResult {
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
    static NO_HISTORY: LazyLock<History> = LazyLock::new(History::default);
    StatusPage {
        accounts: &[],
        prices: None,
        history: &NO_HISTORY,
        misconfigured: false,
        now: at(NOW),
        telemetry_path: "/metrics",
        version: "1.2.3",
        sort: None,
        scope: PageScope::All,
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
    let store = Store::new(Vec::new()).with_prices(Duration::from_secs(90), at(NOW + 60).uptime);
    for (ago, outcome) in readings {
        let market = store.prices().unwrap_or_else(|| panic!("prices are asked for"));
        let outcome = outcome.map(|prices| (at(NOW - ago), prices));
        let price_snapshot = market.snapshot.apply(at(NOW - ago), outcome);
        store.update_prices(|market| market.set_snapshot(price_snapshot.clone()));
    }
    PriceEntry::clone(&store.prices().unwrap_or_else(|| panic!("prices are asked for")))
}

fn prices() -> Result<PriceTable, Failure> {
    v1::decode_prices(200, br#"{"btc_usdt":{"price":70707}}"#)
}

/// The text of the body as a reader sees it: cells and paragraphs are separated by spaces, inline elements are not.
fn text(html: &str) -> String {
    let (_, body) = html.split_once("<body>").unwrap_or_else(|| panic!("{html}"));
    let mut text = String::new();
    for tag in body.split('<').skip(1) {
        let (tag, after) = tag.split_once('>').unwrap_or_else(|| panic!("{tag}"));
        let name = tag.trim_start_matches('/').split(' ').next().unwrap_or_default();
        if !["a", "b", "bdi", "i", "s", "small", "span", "strong", "time", "u"].contains(&name) {
            text.push(' ');
        }
        text.push_str(after);
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
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
fn a_frozen_amount_names_its_parts_that_are_not_zero() {
    let row = r#"{"currency":"usdt","availableAmount":"5","frozenAmount":"2.50","withdraw":"2","trade":"0","lock":null}"#;
    let body = format!(r#"{{"rc":0,"mc":"SUCCESS","result":{{"assets":[{row}]}}}}"#);
    let text =
        text(&html(vec![polled(account("desk", &[]), NOW - 4, v4::decode_balances(200, body.as_bytes()))]));
    assert!(text.contains("USDT 5 2.50 withdraw 2, other 0.5 "), "{text}");
    let whole = body.replace(r#""withdraw":"2""#, r#""withdraw":"2.5""#);
    let text = self::text(&html(vec![polled(
        account("desk", &[]),
        NOW - 4,
        v4::decode_balances(200, whole.as_bytes()),
    )]));
    assert!(text.contains("USDT 5 withdraw 2.50 "), "{text}");
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
    assert_eq!(html.to_lowercase().matches("<script").count(), 1);
    assert!(!html.contains("<b>zero") && html.contains("&#60;/P&#62;&#60;B&#62;ZERO"));
    let lower = html.to_lowercase();
    let attributes = lower.split("onload=").skip(1);
    assert!(attributes.clone().count() > 0 && attributes.clone().all(|rest| rest.starts_with("&#39;x")));
    let shown = "<bdi>&#34;&#62;&#60;script&#62;alert(1)&#60;/script&#62;&#39; onload=&#39;x\u{202e}</bdi>";
    let shown_currency = shown.to_ascii_uppercase().replace("BDI>", "bdi>");
    // Names of accounts and texts, and names of currencies.
    let shown = html.matches(shown).count() + html.matches(&*shown_currency).count();
    assert_eq!(html.matches('\u{202e}').count(), shown, "each is isolated");
    let path = StatusPage { telemetry_path: evil, version: evil, ..nothing() };
    assert_eq!(render(&path).matches("<script").count(), 1);
}

#[test]
fn nothing_in_the_markup_needs_more_than_the_policy_allows() {
    let html =
        html(vec![polled(account("main", &[("usdt", Some(5.0))]), NOW, Ok(answer(&[("usdt", "1", "0")])))]);
    for banned in [" style=", " onclick=", " onload=", "http://", "https://", "@import"] {
        let links = format!("href=\"{RUNBOOKS}");
        let found = html.replace("http://www.w3.org/2000/svg", "").replace(&links, "").contains(banned);
        assert!(!found, "{banned}");
    }
}

#[test]
fn an_unknown_wallet_shows_no_number_it_once_had() {
    let rows = [("eth", "4242.5", "7171"), ("usdt", "3131.75", "6")];
    let polled_account = polled(account("main", &[("usdt", Some(5000.0))]), NOW - 90, Ok(answer(&rows)));
    let shown = text(&html(vec![polled_account.clone()]));
    assert!(shown.contains("last read 1 min 30 s ago, too old to show"), "{shown}");
    for old in ["4242", "7171", "3131", "1868", "62 %", "eth"] {
        assert!(!shown.contains(old), "{old} in {shown}");
    }
    assert!(
        shown.contains("5000 (page 2500), balance unknown") && shown.contains("Balances unknown"),
        "{shown}"
    );
    let failed = text(&html(vec![polled(polled_account, NOW - 1, timeout())]));
    assert!(failed.contains("unknown") && !failed.contains("3131"), "{failed}");
    let never = text(&html(vec![polled(account("main", &[]), NOW, timeout())]));
    assert!(never.contains("never read"), "{never}");
}

#[test]
fn a_configuration_that_cannot_be_used_is_told() {
    let account = polled(account("main", &[]), NOW, Ok(answer(&[("usdt", "1", "0")])));
    let accounts = [Arc::new(account)];
    let html = render(&StatusPage { accounts: &accounts, misconfigured: true, ..nothing() });
    assert_eq!(title(&html), "invalid configuration · xt-balance-exporter");
    let banner = "<li class=\"warn\"><strong>Invalid configuration</strong> <span>the new configuration is invalid, the previous one stays active: see the log</span></li>";
    assert!(html.contains(banner), "{html}");
}

#[test]
fn held_balances_are_called_old_and_the_failure_is_told() {
    let polled_account =
        polled(account("main", &[("usdt", Some(50.0))]), NOW - 64, Ok(answer(&[("usdt", "31", "0")])));
    let held = polled(polled(polled_account, NOW - 34, timeout()), NOW - 4, timeout());
    let html = html(vec![held]);
    let shown = text(&html);
    assert!(shown.contains("balances from 1 min 4 s ago, hidden after 1 min 30 s"));
    assert!(shown.contains("main spot held, read 1 min 4 s ago"), "{shown}");
    assert!(shown.contains("Free 1 min 4 s ago") && shown.contains("31"), "{shown}");
    let failure = "timeout no answer within 10 s Fix: check for a firewall in between; on a slow connection raise the poll timeout \
                   (runbook) last try 00:59:56 UTC failing since 00:59:26 UTC, for 34 s";
    assert!(shown.contains(failure), "{shown}");
    assert!(html.contains("/deploy/runbooks/XtPollFailing.md\">runbook</a>"), "{html}");
    assert!(html.contains("class=\"wallet held\""));
}

#[test]
fn a_refused_key_is_shown_with_its_next_try() {
    let refused = Err(Failure::new(Reason::Auth, "AccessKey error"));
    let mut refused = polled(account("main", &[]), NOW - 4, refused);
    refused.wallets.iter_mut().for_each(|wallet| wallet.next_poll = Some(at(NOW + 270).monotonic));
    let shown = text(&html(vec![refused]));
    assert!(shown.contains("next poll 01:04:30 UTC, in 4 min 30 s"), "{shown}");
    assert!(shown.contains("key refused, next try 01:04:30 UTC, in 4 min 30 s"), "{shown}");
    assert!(shown.contains("Fix: the exchange does not know this access key"), "{shown}");
}

#[test]
fn what_must_be_confirmed_is_told_beside_the_balances_that_are_held() {
    let polled_account =
        polled(account("main", &[("usdt", None)]), NOW - 30, Ok(answer(&[("usdt", "7", "0")])));
    let mut held = polled_account.clone();
    for wallet in &mut held.wallets {
        let doubt = wallet
            .snapshot
            .find_suspect_claims(&answer(&[]), at(NOW))
            .unwrap_or_else(|| panic!("it is believed"));
        let (outcome, took) = (PollOutcome::Suspect(doubt), Duration::ZERO);
        wallet.set_snapshot(wallet.snapshot.apply(PollResult {
            at: at(NOW),
            took,
            is_suspect: true,
            outcome,
        }));
    }
    let shown = text(&html(vec![held]));
    assert!(shown.contains("spot held"), "{shown}");
    assert!(shown.contains("not confirmed the answer has no balances"), "{shown}");
    assert!(shown.contains("30 s ago"), "{shown}");
}

#[test]
fn missing_is_a_zero_and_unreadable_is_none() {
    let mut half = answer(&[]);
    half.unreadable = vec!["usdt".into()];
    let watch = [("btc", Some(1.0)), ("usdt", Some(500.0))];
    let html = html(vec![polled(account("main", &watch), NOW - 4, Ok(half))]);
    let shown = text(&html);
    assert!(
        shown.contains("BTC critical 0 (not in the answer) 0 0 % of 1 (page 0.5), 1 below the threshold"),
        "{shown}"
    );
    assert!(shown.contains("USDT unreadable 500 (page 250), balance unknown"), "{shown}");
    assert_eq!(title(&html), "1 low, 1 unreadable · xt-balance-exporter");
}

#[test]
fn watched_come_first_then_what_is_not_zero_then_the_names_of_zeros() {
    let rows =
        [("aaa", "0", "0"), ("bbb", "0", "3"), ("btc", "0.0", "0"), ("ccc", "1", "0"), ("usdt", "9", "0")];
    let watch = [("btc", None), ("usdt", None)];
    let html = html(vec![polled(account("main", &watch), NOW, Ok(answer(&rows)))]);
    let order = [">BTC<", ">USDT<", ">BBB<", ">CCC<", "1 zero balance<", "AAA"];
    assert!(places_of(&html, order).is_sorted(), "{html}");
    assert!(text(&html).contains("1 zero balance AAA"));
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
    for said in ["1 low 1 critical · of 1 threshold", "500 zero balances", "C998 critical"] {
        assert!(shown.contains(said), "no {said} in {shown}");
    }
    // Of 499 that are not zero and 500 that are.
    for hidden in [479, 480] {
        assert!(shown.contains(&format!("and {hidden} more: see all balances of the account")), "{shown}");
    }
    assert_eq!(html.matches("<th scope=\"row\">C").count(), 2 + 20, "two of c998");
    assert!(shown.contains("C038") && !shown.contains("C040"), "{shown}");
    assert!(shown.contains("C001, ") && shown.contains("C039 and") && !shown.contains("C041"), "{shown}");
    assert!(html.len() < STYLE.len() + SCRIPT.len() + 10_000, "{} bytes", html.len());
}

#[test]
fn only_what_is_under_its_threshold_is_marked_low() {
    let rows = [("btc", "0.5", "0"), ("eth", "0.1", "0"), ("usdt", "499.5", "0")];
    let watch = [("btc", Some(0.5)), ("eth", None), ("usdt", Some(500.0))];
    let html = html(vec![polled(account("main", &watch), NOW, Ok(answer(&rows)))]);
    assert_eq!(html.matches("<tr class=\"low\">").count(), 2, "in the list on top and in its wallet");
    let shown = text(&html);
    assert!(shown.contains("USDT low 499.5 0 99 % of 500 (page 250), 0.5 below the threshold"), "{shown}");
    assert!(shown.contains("1 low of 2 thresholds"), "{shown}");
}

#[test]
fn the_title_says_the_worst_first() {
    let rich = || polled(account("main", &[("usdt", Some(5.0))]), NOW, Ok(answer(&[("usdt", "9", "0")])));
    let poor = || polled(account("poor", &[("usdt", Some(5.0))]), NOW, Ok(answer(&[("usdt", "1", "0")])));
    let mut paused = polled(rich(), NOW, timeout());
    paused.state.paused_until = Some(at(NOW + 600).unix);
    let mut stuck = rich();
    stuck.heartbeat_deadline = at(NOW - 12).uptime;
    for (accounts, expected) in [
        (vec![rich()], "healthy"),
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
    for (readings, banner, section, title) in [
        (vec![], "Exporter running prices not polled yet", "Prices not polled yet", "partly unknown"),
        (
            vec![(4, prices())],
            "Exporter running no poller is stuck",
            "Prices fresh 2 currencies with a price in USDT read 4 s ago",
            "healthy",
        ),
        (
            vec![(64, prices()), (34, evil()), (4, evil())],
            "Exporter running prices held",
            "Prices held 2 currencies with a price in USDT prices from 1 min 4 s ago, hidden after 1 min 30 s \
             api &#60;script&#62; Fix: ask the exchange&#39;s support about the message above (runbook) \
             last try 00:59:56 UTC failing since 00:59:26 UTC, for 34 s",
            "partly unknown",
        ),
        (
            vec![(90, prices()), (4, evil())],
            "Exporter running prices unknown",
            "Prices unknown last read 1 min 30 s ago, too old to show api ",
            "partly unknown",
        ),
        (
            vec![(4, evil())],
            "Exporter running prices unknown",
            "Prices unknown never read api ",
            "partly unknown",
        ),
    ] {
        let html = html_with(well(), Some(&market(readings)));
        let shown = text(&html);
        assert!(shown.contains(banner) && shown.contains(section), "no {banner}, {section} in {shown}");
        assert_eq!(self::title(&html), format!("{title} · xt-balance-exporter"));
        assert_eq!(shown.contains("with a price"), section.contains("2 currencies"), "{shown}");
        assert_eq!(html.contains("<a href=\"#prices\">prices "), !banner.contains("stuck"), "{html}");
    }
    let mut stuck = market(vec![(4, prices())]);
    stuck.heartbeat_deadline = at(NOW - 12).uptime;
    let html = html_with(well(), Some(&stuck));
    assert!(text(&html).contains("1 of 2 pollers stuck"), "{}", text(&html));
    assert!(text(&html).contains("Poller stuck: its heartbeat is overdue by 12 s (runbook)"));
    assert_eq!(title(&html), "1 stuck · xt-balance-exporter");
    assert!(!text(&self::html(well())).contains("rices"), "a page without prices");
}

#[test]
fn troubled_accounts_come_first_and_open_and_the_others_are_a_line() {
    let good = |name: &str| polled(account(name, &[]), NOW, Ok(answer(&[("usdt", "7", "0")])));
    let mut stuck = good("z");
    stuck.heartbeat_deadline = at(NOW).uptime;
    let html = html(vec![good("a b"), good("a_b"), polled(good("held"), NOW, timeout()), stuck]);
    let open =
        ["account.z", "account.held"].map(|id| format!("<details class=\"account\" id=\"{id}\" open>"));
    let closed =
        ["account.a_20b", "account.a_5fb"].map(|id| format!("<details class=\"account\" id=\"{id}\">"));
    assert!(places_of(&html, open.iter().chain(&closed).map(String::as_str)).is_sorted(), "{html}");
    for id in ["spot.z", "spot.held", "spot.a_20b", "spot.a_5fb"] {
        assert_eq!(html.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    }
    let shown = text(&html);
    assert!(shown.contains("z fresh poller stuck read 0 s ago"), "{shown}");
    assert!(shown.contains("2 accounts without problems a b fresh 1 wallet read 0 s ago"), "{shown}");
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
        assert!(html(vec![]).contains(&format!(">{content}</")), "{directive}: the page has other content");
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

/// The account with a futures wallet whose positions were read at second `read`.
fn with_positions(result: Result<&str, Failure>, read: u64) -> AccountEntry {
    let config = WalletConfig {
        account: "bots".into(),
        wallet: Wallet::FuturesUsdt,
        watch: Vec::new(),
        filter: CurrencyFilter::default(),
        max_age: Duration::from_secs(90),
    };
    let facts = AccountState::at_start("bots");
    let positions = PositionsConfig {
        account: "bots".into(),
        wallet: Wallet::FuturesUsdt,
        risk: FuturesRisk { max_positions: 3, ..FuturesRisk::default() },
        filter: CurrencyFilter::default(),
        watched: Vec::new(),
        max_age: Duration::from_secs(90),
    };
    let answer = result.and_then(|rows| {
        let body = format!(r#"{{"returnCode":0,"error":null,"result":[{rows}]}}"#);
        Ok((at(read), futures_positions::decode_positions(200, body.as_bytes())?))
    });
    let snapshot = PositionsSnapshot::new(Arc::new(positions)).apply(at(read), answer, None);
    let account = AccountEntry::new(facts, vec![Arc::new(config)], at(NOW + 60).uptime);
    account.with_positions([snapshot])
}

#[test]
fn open_positions_are_listed_with_their_distance_to_liquidation() {
    let row = |symbol: &str, side: &str, mark: &str, liquidation: &str| {
        format!(
            r#"{{"symbol":"{symbol}","positionSide":"{side}","positionType":"CROSSED","positionSize":"7","calMarkPrice":"{mark}","breakPrice":"{liquidation}"}}"#
        )
    };
    let rows = [
        row("btc_usdt", "LONG", "100", "85"),
        row("<b>", "SHORT", "100", "105.5"),
        row("eth_usdt", "SHORT", "100", "0"),
        row("sol_usdt", "LONG", "100", "0"),
    ];
    let page = html(vec![with_positions(Ok(&rows.join(",")), NOW - 5)]);
    for text in [
        "<tr class=\"low\"><th scope=\"row\">&#60;b&#62; short <small>crossed</small></th><td>5.5 % <small>(page)</small></td><td>100</td><td>105.5</td><td>7</td></tr>",
        "<tr class=\"low\"><th scope=\"row\">btc_usdt long <small>crossed</small></th><td>15.0 % <small>(warn)</small></td>",
        "<tr><th scope=\"row\">eth_usdt short <small>crossed</small></th><td>–</td><td>100</td><td>–</td>",
        "and 1 more positions",
        "open positions, read",
    ] {
        assert!(page.contains(text), "{text} in\n{page}");
    }
    let flat = html(vec![with_positions(Ok(""), NOW - 5)]);
    assert!(flat.contains("no open positions, read"), "{flat}");
    let failed = html(vec![with_positions(Err(Failure::new(Reason::Auth, "not <allowed>")), NOW - 5)]);
    assert!(failed.contains("<b>positions: auth</b> not &#60;allowed&#62;"), "{failed}");
    assert!(failed.contains("open positions unknown") && !failed.contains("no open positions"), "{failed}");
    let old = html(vec![with_positions(Ok(&rows.join(",")), NOW - 90)]);
    assert!(old.contains("open positions unknown") && !old.contains("btc_usdt"), "{old}");
}
