//! What is open, worth, the order of rows, the last hour, the page of one account, and the size.

use super::*;

#[test]
fn a_healthy_wallet_of_a_troubled_account_is_closed() {
    let mut account = polled(account("main", &[]), NOW, Ok(answer(&[])));
    let fiat = WalletConfig { wallet: Wallet::Fiat, ..WalletConfig::clone(&first_snapshot(&account).config) };
    account
        .wallets
        .extend(AccountEntry::new(account.state.clone(), vec![Arc::new(fiat)], at(NOW).uptime).wallets);
    let html = html(vec![account]);
    assert!(html.contains("id=\"spot.main\"><summary>"), "{html}");
    assert!(html.contains("id=\"fiat.main\" open><summary>"), "{html}");
}

#[test]
fn worth_is_summed_and_names_what_it_leaves_out() {
    let rows = [("btc", "1", "1"), ("doge", "7", "0"), ("eth", "0", "0"), ("usdt", "0.7", "0")];
    let rich = polled(account("rich", &[]), NOW, Ok(answer(&rows)));
    let lost = |name: &str| polled(account(name, &[]), NOW, timeout());
    let accounts = || vec![lost("a"), lost("b"), rich.clone(), lost("c"), lost("d")];
    let shown = text(&html_with(accounts(), Some(&market(vec![(4, prices())]))));
    let total = "Worth 141 415 USDT + 1 without a price, without a spot, b spot, c spot and 1 more (unknown)";
    assert!(shown.contains(total), "{shown}");
    assert!(shown.contains("rich fresh 1 wallet 141 415 USDT + 1 without a price read 0 s ago"), "{shown}");
    assert!(shown.contains("a unknown failing (timeout) worth unknown never read"), "{shown}");
    assert!(shown.contains("BTC 1 1 141 414 USDT 0.7 0 0.70 DOGE 7 0 no price"), "by worth: {shown}");
    let held = market(vec![(64, prices()), (4, Err(Failure::new(Reason::Timeout, "t")))]);
    let held = text(&html_with(accounts(), Some(&held)));
    assert!(held.contains("Worth 141 415 USDT at prices from 1 min 4 s ago + 1"), "{held}");
    let unknown = text(&html_with(accounts(), Some(&market(vec![(90, prices())]))));
    assert!(
        unknown.contains("Worth unknown: the prices are unknown") && !unknown.contains("141"),
        "{unknown}"
    );
    assert!(!text(&html(accounts())).contains("orth"), "without prices");
}

#[test]
fn accounts_and_currencies_are_sorted_as_the_link_says() {
    let with = |name: &str, amount: &str| {
        polled(account(name, &[]), NOW, Ok(answer(&[("btc", amount, "0"), ("usdt", "5", "0")])))
    };
    let accounts: Vec<_> = [with("a", "0.00001"), with("b", "2")].into_iter().map(Arc::new).collect();
    let market = market(vec![(4, prices())]);
    let page = |sort| render(&StatusPage { accounts: &accounts, prices: Some(&market), sort, ..nothing() });
    let order = |html: &str| {
        let shown = text(html);
        let (_, rest) = shown.split_once("Accounts").unwrap_or_else(|| panic!("{shown}"));
        let names = rest.split(' ').filter(|word| ["a", "b", "BTC", "USDT"].contains(word));
        names.collect::<Vec<_>>().join(" ").replace("USDT USDT", "USDT")
    };
    let by_worth = order(&page(None));
    assert!(by_worth.find('b') < by_worth.find('a'), "{by_worth}");
    let by_name = order(&page(Some(SortKey::Name)));
    assert!(by_name.find('a') < by_name.find('b'), "{by_name}");
    let html = page(Some(SortKey::Change));
    assert!(html.contains("<a href=\"?sort=change\" aria-current=\"true\">change</a>"), "{html}");
    assert!(!self::html(vec![]).contains("sort=worth"), "there is no worth without prices");
}

#[test]
fn a_watched_balance_shows_its_last_hour() {
    let watch = [("usdt", Some(100.0))];
    let reads =
        (0..=20_u32).map(|step| (NOW - 600 + 30 * u64::from(step), format!("{}", 110.0 - f64::from(step))));
    let mut entry = account("main", &watch);
    let mut history = History::default();
    for (at, free) in reads {
        entry = polled(entry, at, Ok(answer(&[("usdt", &free, "0")])));
        history = history.record(first_snapshot(&entry));
    }
    let page = |entry: AccountEntry, now| {
        let accounts = [Arc::new(entry)];
        render(&StatusPage { accounts: &accounts, history: &history, now: at(now), ..nothing() })
    };
    let html = page(entry.clone(), NOW);
    let shown = text(&html);
    assert!(shown.contains("USDT critical 90") || shown.contains("USDT 90"), "{shown}");
    // It fell below 100 at the eleventh read after the first, and falls by 2 a minute.
    assert!(shown.contains("10 below the threshold 00:55:30 UTC about 45 min −18.2 % in 10 min"), "{shown}");
    assert!(shown.contains("low since 00:55:30 UTC −18.2 % in 10 min, empty in 45 min"), "{shown}");
    assert!(html.contains("<path class=\"warn\" d=\"M0 3h120\"/><path d=\"M100 1h0"), "{html}");
    let unknown = text(&page(entry, NOW + 90));
    assert!(!unknown.contains("low since") && !unknown.contains("empty in"), "{unknown}");
}

#[test]
fn the_page_of_an_account_shows_all_its_balances() {
    let names: Vec<_> = (0..100).map(|number| format!("c{number:03}")).collect();
    let rows: Vec<_> = names.iter().map(|name| (&**name, "1", "0")).collect();
    let accounts = [Arc::new(polled(account("a b", &[]), NOW, Ok(answer(&rows))))];
    let all = render(&StatusPage { accounts: &accounts, ..nothing() });
    assert!(all.contains("href=\"./account/a%20b\">all balances"), "{all}");
    let own = render(&StatusPage { accounts: &accounts, scope: PageScope::Account, ..nothing() });
    assert_eq!(own.matches("<th scope=\"row\">C").count(), 100);
    assert!(own.contains("<a href=\"../\">") && own.contains("href=\"../metrics\""), "{own}");
    assert!(!own.contains("./account/") && !own.contains("more: see"), "{own}");
    assert!(own.contains("id=\"account.a_20b\" open"), "{own}");
}

/// Five accounts of two wallets, with two watched currencies that move all the time, and twelve more.
#[test]
fn five_accounts_take_less_than_60_kilobytes() {
    let mut history = History::default();
    let mut accounts = Vec::new();
    for name in ["arbitrage", "cold-storage", "grid-bot", "market-maker", "treasury"] {
        let mut entry = account(name, &[("btc", Some(2.0)), ("usdt", Some(60_000.0))]);
        for step in 0..120_u32 {
            let wobble = f64::from(step * 7919 % 97);
            let btc = format!("{}", 1.01 + wobble / 100.0);
            let usdt = format!("{}", 51_234.123_456_78 + wobble * 311.0);
            let mut rows = vec![("btc", &*btc, "0.10000001"), ("usdt", &*usdt, "1200.5")];
            rows.extend(
                ["ada", "apt", "avax", "bnb", "doge", "eth", "link", "ltc", "near", "sol", "uni", "xrp"]
                    .map(|name| (name, "35883.08280711", "13885.40929512")),
            );
            entry = polled(entry, NOW - 3_600 + 30 * u64::from(step), Ok(answer(&rows)));
            history = history.record(first_snapshot(&entry));
        }
        let now = at(NOW - 30);
        assert!(first_snapshot(&entry).visible(now).is_some());
        accounts.push(Arc::new(entry));
    }
    let market = market(vec![(4, prices())]);
    let page = StatusPage { accounts: &accounts, prices: Some(&market), history: &history, ..nothing() };
    let html = render(&page);
    assert!(html.contains("<path d=\""), "{html}");
    assert!(html.len() < 60_000, "{} bytes", html.len());
}

#[test]
fn hundreds_of_accounts_with_a_thousand_currencies_make_no_huge_page() {
    let names: Vec<_> = (0..1_000).map(|number| format!("c{number:03}")).collect();
    let rows: Vec<_> = names.iter().map(|name| (&**name, "12345.12345678", "1.5")).collect();
    let entry = polled(account("desk", &[("c007", Some(5.0))]), NOW, Ok(answer(&rows)));
    let desk = |number: usize| {
        let mut entry = entry.clone();
        entry.state.name = format!("desk-{number}").into();
        Arc::new(entry)
    };
    let accounts: Vec<_> = (0..450).map(desk).collect();
    let html =
        render(&StatusPage { accounts: &accounts, prices: Some(&market(vec![(4, prices())])), ..nothing() });
    assert_eq!(html.matches("<th scope=\"row\">C").count(), 450 * 21);
    assert!(html.len() < 3_000_000, "{} bytes", html.len());
}
