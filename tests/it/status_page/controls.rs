//! The controls of the page, its size on a phone, whether it is still while it refreshes, and accessibility.

use std::{fmt::Write as _, fs, net::SocketAddr};

use serde_json::{Value, json};
use tempfile::TempDir;
use xt_balance_exporter::simulator::{SimulatedAccount, SimulatedWallet, SimulatorConfig};

use super::{open_all, see, text};
use crate::common::{Exchange, Exporter, browser::Browser, dashboards::target_folder, get, replace, until};

const NAMES: [&str; 5] = ["arbitrage", "cold-storage", "grid-bot", "market-maker", "treasury"];

/// An exporter that watches five accounts without a problem, and what it reads from.
struct Desk {
    exporter: Exporter,
    exchange: Exchange,
    _folder: TempDir,
}

impl Desk {
    fn start() -> Self {
        let account = |(number, name): (usize, &&str)| {
            let account =
                SimulatedAccount::new(name, &format!("access-{number}"), &format!("secret-{number}"));
            let account = account.with_balance(SimulatedWallet::Spot, "usdt", "3867.43650012", "12.5");
            account.with_balance(SimulatedWallet::Spot, "btc", &format!("{number}.50"), "0")
        };
        let accounts = NAMES.iter().enumerate().map(account).collect();
        let exchange = Exchange::new(SimulatorConfig::default(), accounts);
        let folder = tempfile::tempdir().unwrap();
        let mut config = format!(
            "api: v1\nbase_urls: ['{}']\npoll_interval: 5s\npoll_timeout: 4s\nprices: usdt\naccounts:\n",
            exchange.url()
        );
        for (number, name) in NAMES.iter().enumerate() {
            replace(&folder.path().join(format!("{number}.key")), &format!("access-{number}"));
            replace(&folder.path().join(format!("{number}.secret")), &format!("secret-{number}"));
            let keys = format!("access_key_file: {number}.key, secret_key_file: {number}.secret");
            let _ = writeln!(config, "  - {{name: {name}, {keys}, watch: {{usdt: 500}}}}");
        }
        let file = folder.path().join("accounts.yml");
        replace(&file, &config);
        let flag = format!("--config.file={}", file.display());
        let exporter = Exporter::start(&[&flag, "--web.listen-address=127.0.0.1:0"], &[]);
        exporter.ready();
        Self { exporter, exchange, _folder: folder }
    }

    fn open(&self, browser: &mut Browser, path: &str) {
        browser.open(&format!("http://{}{path}", self.exporter.address()));
    }
}

/// Waits until the page has refreshed itself `times` times.
fn wait_for_refreshes(browser: &mut Browser, times: usize) {
    for _ in 0..times {
        let shown = browser.eval("document.getElementById('as-of').textContent");
        until("a refresh", || {
            (browser.eval("document.getElementById('as-of').textContent") != shown).then_some(())
        });
    }
}

#[test]
fn a_refresh_moves_nothing_and_a_phone_needs_less_than_three_screens() {
    let desk = Desk::start();
    let mut browser = Browser::start();
    for (width, height) in [(1280, 900), (360, 740)] {
        browser.set_screen(width, height, false);
        desk.open(&mut browser, "/");
        see(&mut browser, "currencies with a price in USDT");
        let shown = text(&mut browser);
        assert!(shown.contains("5 of 5 above threshold") && shown.contains("All fresh"), "{shown}");
        let screens = browser.eval("document.documentElement.scrollHeight / innerHeight");
        assert!(screens.as_f64().unwrap() < 3.0, "{screens} screens at {width}");
        open_all(&mut browser);
        browser.eval("new Promise(painted => requestAnimationFrame(() => requestAnimationFrame(painted))).then(() => 0)");
        browser.eval(
            "window.shifts = []; new PerformanceObserver(list => list.getEntries().forEach(entry => { window.shifts.push(...entry.sources.map(source => source.node?.parentNode?.outerHTML ?? '?')); })).observe({type: 'layout-shift'}); 0",
        );
        wait_for_refreshes(&mut browser, 3);
        assert_eq!(browser.eval("window.shifts"), json!([]), "at {width}");
        browser.eval("document.querySelector('main').prepend(document.createElement('h2')); document.querySelector('main h2').textContent = 'a shift'");
        until("a shift is noticed", || (browser.eval("window.shifts") != json!([])).then_some(()));
    }
}

#[test]
fn the_filter_keeps_its_text_over_refreshes_and_in_the_url() {
    let desk = Desk::start();
    let mut browser = Browser::start();
    desk.open(&mut browser, "/");
    browser.eval("const box = document.getElementById('filter'); box.value = 'Grid'; box.dispatchEvent(new Event('input'))");
    let visible = "[...document.querySelectorAll('.account:not(#prices)')].filter(a => a.checkVisibility()).map(a => a.querySelector('h3').textContent)";
    assert_eq!(browser.eval(visible), json!(["grid-bot"]));
    assert_eq!(browser.eval("location.search"), json!("?filter=Grid"));
    wait_for_refreshes(&mut browser, 2);
    assert_eq!(browser.eval(visible), json!(["grid-bot"]));
    see(&mut browser, "1 of 5 accounts");

    desk.open(&mut browser, "/?filter=btc");
    let rows = "[...document.querySelectorAll('tbody th')].filter(th => th.checkVisibility()).map(th => th.textContent)";
    assert_eq!(browser.eval(rows), json!(vec!["BTC"; 5]), "what has matching rows is open");
    browser.eval("const box = document.getElementById('filter'); box.value = ''; box.dispatchEvent(new Event('input'))");
    assert_eq!(browser.eval(rows), json!([]), "and closed as before");
    assert_eq!(browser.eval("location.search"), json!(""));
}

#[test]
fn a_person_sorts_opens_and_copies_and_a_refresh_keeps_it() {
    let desk = Desk::start();
    desk.exchange.simulator.set_price("btc_usdt", "70000");
    let mut browser = Browser::start();
    desk.open(&mut browser, "/");
    let names = "[...document.querySelectorAll('.account:not(#prices) h3')].map(h => h.textContent)";
    let richest_first = json!(NAMES.iter().rev().collect::<Vec<_>>());
    until("prices are read", || (browser.eval(names) == richest_first).then_some(()));
    browser.eval("window.same = true; document.querySelector('.sort a[href*=name]').click()");
    until("the order changes", || (browser.eval(names) == json!(NAMES)).then_some(()));
    assert_eq!(browser.eval("[window.same, location.search]"), json!([true, "?sort=name"]), "no page load");

    browser.eval("document.getElementById('account.grid-bot').open = true");
    wait_for_refreshes(&mut browser, 2);
    assert_eq!(browser.eval("document.getElementById('account.grid-bot').open"), json!(true));
    browser.eval("document.querySelector('[id=\"account.grid-bot\"] .watched .copy').click()");
    let copied = "document.getElementById('news').textContent === 'copied 3867.43650012' || getSelection().toString().trim() === '3867.43650012'";
    until("the exact amount is copied or selected", || (browser.eval(copied) == json!(true)).then_some(()));

    browser.eval("document.querySelector('[id=\"account.grid-bot\"] .facts a').click()");
    until("the page of the account", || {
        (browser.eval("location.pathname") == json!("/account/grid-bot")).then_some(())
    });
    see(&mut browser, "12.5");
    assert_eq!(browser.eval("document.querySelectorAll('.account:not(#prices)').length"), json!(1));
    assert_eq!(desk.exporter.get("/account/nobody").status, 404);
    assert_eq!(desk.exporter.get("/account/grid%2Dbot").status, 200);
}

#[test]
fn the_theme_is_remembered() {
    let desk = Desk::start();
    let mut browser = Browser::start();
    browser.set_screen(1000, 700, false);
    desk.open(&mut browser, "/");
    let is_dark =
        "getComputedStyle(document.body).color.match(/\\d+/g).slice(0, 3).every(part => part > 128)";
    assert_eq!(browser.eval(is_dark), json!(false));
    for theme in ["light", "dark"] {
        browser.eval("document.getElementById('theme').click()");
        see(&mut browser, &format!("Theme: {theme}"));
        assert_eq!(browser.eval(is_dark), json!(theme == "dark"));
    }
    desk.open(&mut browser, "/account/treasury");
    assert_eq!(browser.eval(is_dark), json!(true), "on another page, after a load");
    see(&mut browser, "Theme: dark");
}

/// The address that the demo prints.
fn printed_address(demo: &Exporter) -> SocketAddr {
    let line = demo.stdout.wait_for("status page");
    let address = line.split("http://").nth(1).map(|rest| rest.trim_end().trim_end_matches('/'));
    address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

/// The demo has a low balance, a refused key and a position near liquidation.
#[test]
fn axe_finds_nothing_serious() {
    let axe = target_folder().join("browser/node_modules/axe-core/axe.min.js");
    let axe = fs::read_to_string(axe).expect("axe-core is installed: `make test` sees to it");
    let demo = Exporter::start(&["demo", "--web.listen-address=127.0.0.1:0"], &[]);
    let demo_address = printed_address(&demo);
    until("every account has been polled", || {
        (get(demo_address, "/-/ready", &[]).status == 200).then_some(())
    });
    let desk = Desk::start();
    let mut browser = Browser::start();
    let pages = [(demo_address, "/"), (demo_address, "/account/arbitrage"), (desk.exporter.address(), "/")];
    for (address, path) in pages {
        for (width, dark) in [(1280, false), (1280, true), (360, false), (360, true)] {
            browser.set_screen(width, 800, dark);
            browser.open(&format!("http://{address}{path}"));
            open_all(&mut browser);
            browser.eval(&format!("{axe}; 0"));
            let found = browser.eval(
                "axe.run().then(result => [result.passes.length, result.violations.filter(v => v.impact === 'serious' || v.impact === 'critical').map(v => [v.id, v.nodes.map(n => [n.html, n.any.map(check => check.message)])])])",
            );
            assert!(found[0].as_u64() > Some(10), "{found}");
            let violations = serde_json::to_string_pretty(&found[1]).unwrap();
            assert_eq!(found[1], Value::Array(vec![]), "{path} at {width}, dark: {dark}: {violations}");
        }
    }
}
