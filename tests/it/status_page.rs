//! The status page in a real browser: what a person sees of each state, that names from outside are only text, and what
//! the page's script does.

mod controls;

use crate::common::{ACCESS_KEY, Exchange, Exporter, SECRET_KEY, browser::Browser, until};
use serde_json::{Value, json};
use xt_balance_exporter::simulator::{Effect, Fault, SimulatedAccount, SimulatedWallet, SimulatorConfig};

/// What the page shows as text, white space folded.
fn text(browser: &mut Browser) -> String {
    let Value::String(text) = browser.eval("document.body.innerText.replace(/\\s+/g, ' ')") else {
        return String::new();
    };
    text
}

/// Opens what is closed while an account has no problem.
fn open_all(browser: &mut Browser) {
    browser.eval("document.querySelectorAll('details').forEach(details => { details.open = true; })");
}

fn see(browser: &mut Browser, what: &str) {
    until(&format!("the page shows {what:?}"), || text(browser).contains(what).then_some(()));
}

fn account(name: &str) -> SimulatedAccount {
    SimulatedAccount::new(name, ACCESS_KEY, SECRET_KEY)
}

#[test]
fn every_state_is_shown_in_words_and_the_page_refreshes_itself() {
    let exchange = Exchange::documented();
    let exporter = Exporter::serve(
        &exchange.url(),
        &[
            "--poll.interval=1s",
            "--poll.timeout=900ms",
            "--poll.max-age=12s",
            "--balance.watch=usdt=5000",
            "--balance.watch=xrp",
            "--xt.prices=usdt",
        ],
    );
    exporter.ready();
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", exporter.address()));
    // The second poll confirms that xrp is missing.
    see(&mut browser, "not in the answer");
    let shown = text(&mut browser);
    for part in [
        "no poller is stuck",
        "1 low",
        "main",
        "spot",
        "fresh",
        "3867.43650012",
        "3062.17437341",
        "not in the answer",
        "3 zero balances",
        "currencies with a price in usdt",
    ] {
        assert!(shown.to_lowercase().contains(&part.to_lowercase()), "no {part:?} in {shown}");
    }
    assert_eq!(browser.eval("document.title"), json!("1 low · xt-balance-exporter"));

    exchange.simulator.inject_fault(Fault::new(Effect::Maintenance));
    see(&mut browser, "held");
    see(&mut browser, "unavailable");
    see(&mut browser, "Balances unknown");
    see(&mut browser, "prices unknown");
    assert!(
        !text(&mut browser).contains("3867.43650012"),
        "what is too old is not shown: {}",
        text(&mut browser)
    );
    exchange.simulator.clear_faults();
    see(&mut browser, "fresh");
    see(&mut browser, "3867.43650012");
    see(&mut browser, "with a price in USDT");
}

#[test]
fn a_refresh_keeps_the_scroll_position_and_what_was_opened() {
    let rows = (0..80).fold(account("main"), |account, row| {
        account.with_balance(
            SimulatedWallet::Spot,
            &format!("coin{row:02}"),
            if row < 60 { "1" } else { "0" },
            "0",
        )
    });
    let exchange = Exchange::new(SimulatorConfig::default(), vec![rows]);
    let exporter = Exporter::serve(&exchange.url(), &["--poll.interval=1s", "--poll.timeout=900ms"]);
    exporter.ready();
    let mut browser = Browser::start();
    browser.set_screen(800, 400, false);
    browser.open(&format!("http://{}/", exporter.address()));
    open_all(&mut browser);
    browser.eval("scrollTo(0, 500)");
    assert_eq!(browser.eval("scrollY"), json!(500));
    exchange
        .simulator
        .set_balance("main", SimulatedWallet::Spot, "coin07", "42.5", "0")
        .unwrap_or_else(|error| panic!("{error}"));
    see(&mut browser, "42.5");
    assert_eq!(browser.eval("scrollY"), json!(500));
    assert_eq!(browser.eval("document.querySelector('details').open"), json!(true));
}

#[test]
fn a_page_reports_that_its_exporter_is_gone() {
    let exchange = Exchange::documented();
    let exporter = Exporter::serve(&exchange.url(), &[]);
    exporter.ready();
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", exporter.address()));
    assert!(!text(&mut browser).contains("connection lost"));
    drop(exporter);
    see(&mut browser, "connection lost: this page shows the state as of");
}

#[test]
fn hostile_names_are_text() {
    let attack = "<img src=x onerror=\"document.title='broken'\">";
    let hostile = account("main").with_balance(SimulatedWallet::Spot, attack, "1", "0").with_balance(
        SimulatedWallet::Spot,
        "\u{202e}tdsu",
        "2",
        "0",
    );
    let exchange = Exchange::new(SimulatorConfig::default(), vec![hostile]);
    let name = "<script>document.title='broken'</script>";
    let exporter = Exporter::serve(&exchange.url(), &["--xt.account", name]);
    exporter.ready();
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", exporter.address()));
    open_all(&mut browser);
    let shown = text(&mut browser);
    assert!(shown.contains(&attack.to_ascii_uppercase()) && shown.contains(name), "{shown}");
    assert_eq!(browser.eval("document.querySelectorAll('img, main script').length"), json!(0));
    assert!(!browser.eval("document.title").to_string().contains("broken"));
    assert_eq!(
        browser.eval(
            "performance.getEntriesByType('resource').filter(e => !e.name.startsWith(location.origin)).length"
        ),
        json!(0)
    );
}

#[test]
fn a_phone_shows_all_of_it_without_sideways_scrolling() {
    let long = "averyveryveryverylongcurrencynamewithoutanyplacetobreakitinsixty";
    let wide = account("main").with_balance(
        SimulatedWallet::Spot,
        long,
        "123456789012345678901234567890.123456789012345678",
        "1e-30",
    );
    let exchange = Exchange::new(
        SimulatorConfig::default(),
        vec![wide.with_balance(SimulatedWallet::Spot, "usdt", "12.5", "0")],
    );
    let exporter = Exporter::serve(
        &exchange.url(),
        &["--balance.watch=usdt=500", "--xt.account=the-desk-with-a-rather-long-name"],
    );
    exporter.ready();
    let mut browser = Browser::start();
    for dark in [false, true] {
        browser.set_screen(360, 740, dark);
        browser.open(&format!("http://{}/", exporter.address()));
        let widths = browser.eval("[document.documentElement.scrollWidth, innerWidth]");
        assert_eq!(widths, json!([360, 360]));
        let light_ink = browser
            .eval("getComputedStyle(document.body).color.match(/\\d+/g).slice(0, 3).every(c => c > 128)");
        assert_eq!(light_ink, json!(dark), "the page follows the reader's wish");
    }
}
