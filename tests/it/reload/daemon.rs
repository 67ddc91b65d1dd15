//! A running daemon reads its files again on SIGHUP and on `POST /-/reload`.

use std::{os::unix::process::ExitStatusExt as _, path::Path, process::Command};

use super::{RELOADED, RELOADED_AT, THRESHOLD, exchange, free};
use crate::common::{
    ACCESS_KEY, Answer, Exchange, Exporter, PROGRAM, SECRET_KEY, get,
    golden::Transcript,
    in_process::{FREE, POLLS, failures},
    messages, replace, request, sample, until,
};

/// A configuration file with keys beside it.
struct Files(tempfile::TempDir);

impl Files {
    fn new(yaml: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        for (name, text) in [
            ("main.key", ACCESS_KEY),
            ("main.secret", SECRET_KEY),
            ("next.key", "nextKey"),
            ("next.secret", "nextSecret"),
        ] {
            files.write(name, text);
        }
        files.write("accounts.yml", yaml);
        files
    }

    fn write(&self, name: &str, text: &str) {
        replace(&self.path().join(name), text);
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn serve(&self, more: &[&str]) -> Exporter {
        let file = format!("--config.file={}", self.path().join("accounts.yml").display());
        Exporter::start(&[&["--web.listen-address=127.0.0.1:0", &file], more].concat(), &[])
    }
}

/// These accounts, polled every two seconds; USDT is watched.
fn yaml(exchange: &Exchange, threshold: u32, names: &[&str]) -> String {
    let head =
        format!("api: v1\nbase_urls: [{}]\npoll_interval: 2s\npoll_timeout: 1s\naccounts:\n", exchange.url());
    let account = |name: &&str| {
        format!(
            "- {{name: {name}, access_key_file: {name}.key, secret_key_file: {name}.secret, watch: {{usdt: {threshold}}}}}\n"
        )
    };
    head + &names.iter().map(account).collect::<String>()
}

fn post(exporter: &Exporter) -> Answer {
    request("POST", exporter.address(), "/-/reload", &[])
}

#[test]
fn a_signal_reloads_the_file_and_an_invalid_file_changes_nothing() {
    let exchange = exchange();
    let files = Files::new(&yaml(&exchange, 500, &["main"]));
    let exporter = files.serve(&[]);
    exporter.ready();
    let started = exporter.sample(RELOADED_AT).unwrap();
    assert_eq!((exporter.sample(RELOADED), exporter.sample(THRESHOLD)), (Some(1.0), Some(500.0)));
    assert!(started > 1.7e9, "{started}");

    files.write("accounts.yml", &yaml(&exchange, 900, &["main", "next"]));
    exporter.signal("HUP");
    let line = exporter.stderr.wait_for(messages::RELOADED);
    assert!(line.contains("new=1 changed=1 removed=0 unchanged=0") && line.contains("level=info"), "{line}");
    assert_eq!(exporter.sample(THRESHOLD), Some(900.0));
    assert_eq!(exporter.sample(FREE), Some(3_867.4), "it is not forgotten meanwhile");
    let reloaded = exporter.sample(RELOADED_AT).unwrap();
    assert!(reloaded > started);
    until("the new account is polled", || exporter.sample(&free("next", "usdt")));

    let broken = [
        "accounts: [".to_owned(),
        yaml(&exchange, 900, &["main", "gone"]),
        yaml(&exchange, 900, &["main", "main"]),
    ];
    for (reloads, broken) in broken.into_iter().enumerate() {
        files.write("accounts.yml", &broken);
        exporter.signal("HUP");
        let line = until("it is refused", || {
            let log = exporter.stderr.text();
            let mut lines = log.lines().filter(|line| line.contains(messages::RELOAD_FAILED));
            lines.nth(reloads).map(str::to_owned)
        });
        assert!(line.contains("level=error") && line.contains("accounts.yml"), "{line}");
        assert_eq!((exporter.sample(RELOADED), exporter.sample(RELOADED_AT)), (Some(0.0), Some(reloaded)));
        assert_eq!((exporter.sample(FREE), exporter.sample(THRESHOLD)), (Some(3_867.4), Some(900.0)));
        assert_eq!(exporter.sample(&free("next", "usdt")), Some(7.0));
    }
    // On a busy machine the page may be a second old.
    until("the page shows the failed reload", || {
        exporter.get("/").text().contains(messages::PAGE_RELOAD_FAILED).then_some(())
    });
    files.write("accounts.yml", &yaml(&exchange, 900, &["next"]));
    exporter.signal("HUP");
    exporter.stderr.wait_for("new=0 changed=0 removed=1 unchanged=1");
    assert_eq!(exporter.sample(RELOADED), Some(1.0));
    assert!(exporter.sample(RELOADED_AT) > Some(reloaded));
    let text = exporter.metrics();
    assert!(!text.contains("account=\"main\"") && text.contains("account=\"next\""), "{text}");
    until("the page shows the new accounts", || {
        let page = exporter.get("/").text();
        (!page.contains(">main<") && page.contains(">next<")).then_some(())
    });
    exporter.signal("TERM");
    let output = exporter.wait();
    assert!(output.status.success(), "{}", output.stderr);
    for secret in [ACCESS_KEY, SECRET_KEY, "nextKey", "nextSecret"] {
        assert!(!output.stderr.contains(secret), "{}", output.stderr);
    }
}

#[test]
fn a_request_reloads_the_file_and_its_reply_reports_the_result() {
    let exchange = exchange();
    let files = Files::new(&yaml(&exchange, 500, &["main"]));
    let exporter = files.serve(&["--web.enable-lifecycle"]);
    exporter.ready();
    let same = post(&exporter);
    assert_eq!(same.status, 200);
    let mut transcript = Transcript::default();
    transcript.add("the same", &same.text());

    files.write("accounts.yml", &yaml(&exchange, 900, &["main", "next"]));
    let changed = post(&exporter);
    transcript.add("one new, one changed", &changed.text());
    assert_eq!((changed.status, exporter.sample(THRESHOLD)), (200, Some(900.0)));

    files.write("accounts.yml", &("prices: usdt\n".to_owned() + &yaml(&exchange, 900, &["main", "next"])));
    let priced = post(&exporter).text();
    transcript.add("prices as well", &priced);

    files.write("accounts.yml", "accounts: []");
    let broken = post(&exporter);
    assert_eq!((broken.status, exporter.sample(RELOADED)), (500, Some(0.0)));
    transcript.add("no account", &broken.text());
    transcript.assert("reload");
    assert_eq!(exporter.sample(THRESHOLD), Some(900.0));

    for method in ["GET", "HEAD", "PUT"] {
        let refused = request(method, exporter.address(), "/-/reload", &[]);
        assert_eq!((refused.status, refused.header("allow")), (405, Some("POST")), "{method}");
    }
    assert!(exporter.get("/nothing").text().lines().any(|line| line == "/-/reload (POST)"));
}

#[test]
fn a_request_is_refused_unless_it_is_allowed_and_let_in() {
    let exchange = exchange();
    let files = Files::new(&yaml(&exchange, 500, &["main"]));
    let exporter = files.serve(&[]);
    exporter.ready();
    files.write("accounts.yml", &yaml(&exchange, 900, &["main"]));
    let refused = post(&exporter);
    assert_eq!(refused.status, 404);
    assert!(
        refused.text().contains("start with --web.enable-lifecycle, or send SIGHUP"),
        "{}",
        refused.text()
    );
    assert_eq!(exporter.sample(THRESHOLD), Some(500.0));
    drop(exporter);

    // Of `hunter2`.
    let hash = "$2b$04$zcJ9CRqi.V8swiImsw8DYeRhPRTQXbenYWojITkx4vLNdL4Al0c0O";
    files.write("web.yml", &format!("basic_auth_users: {{alice: {hash}}}"));
    let web = format!("--web.config.file={}", files.path().join("web.yml").display());
    let exporter = files.serve(&["--web.enable-lifecycle", &web]);
    assert_eq!(post(&exporter).status, 401);
    let basic = ("Authorization", "Basic YWxpY2U6aHVudGVyMg==");
    assert_eq!(request("POST", exporter.address(), "/-/reload", &[basic]).status, 200);
}

#[test]
fn without_a_file_a_reload_changes_nothing() {
    let exchange = exchange();
    let exporter = Exporter::serve(&exchange.url(), &["--poll.interval=1h"]);
    exporter.ready();
    exporter.signal("HUP");
    exporter.stderr.wait_for("new=0 changed=0 removed=0 unchanged=1");
    assert_eq!((exporter.sample(FREE), exporter.sample(POLLS)), (Some(3_867.4), Some(1.0)));
}

#[test]
fn the_demo_ends_with_its_terminal() {
    // The shell that runs the tests may have told its children to ignore SIGHUP.
    let mut minding = Command::new("/usr/bin/env");
    minding.args(["--default-signal=HUP", PROGRAM]);
    let demo =
        Exporter::start_by(minding, &["demo", "--web.listen-address=127.0.0.1:0", "--log.level=info"], &[]);
    demo.stderr.wait_for(messages::FIRST_POLL_GOOD);
    demo.signal("HUP");
    assert_eq!(demo.wait().status.signal(), Some(1));
}

#[test]
fn however_often_it_is_read_again_no_limit_is_passed_and_no_account_starved() {
    let exchange = exchange();
    let fast =
        |yaml: String| yaml.replace("interval: 2s", "interval: 1s").replace("timeout: 1s", "timeout: 900ms");
    let configs = [(500, &["main"][..]), (900, &["next", "main"])];
    let configs = configs.map(|(threshold, names)| fast(yaml(&exchange, threshold, names)));
    let files = Files::new(&configs[0]);
    let exporter = files.serve(&["--web.enable-lifecycle"]);
    exporter.ready();
    let address = exporter.address();
    let polled = || sample(&get(address, "/metrics", &[]).text(), POLLS).unwrap();
    let (mut reloads, before) = (0, polled());
    // Each is another than the one before.
    until("it has been polled ten times more", || {
        for config in configs.iter().rev() {
            files.write("accounts.yml", config);
            assert_eq!(post(&exporter).status, 200);
            reloads += 1;
        }
        (polled() >= before + 10.0).then_some(())
    });
    assert!(reloads > 50, "{reloads}");
    assert_eq!(exchange.simulator.call_log().count_breaches(), 0);
    assert!(failures(&exporter.metrics()).is_empty(), "{}", exporter.metrics());
}
