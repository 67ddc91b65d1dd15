//! `--web.listen-address`: spellings that can be misread are rejected before anything starts, and the exporter warns if
//! other machines can connect without a password.

use std::{fs, process::Command};

use crate::common::{
    ACCESS_KEY, Exporter, Output, PROGRAM, SECRET_KEY, golden::Transcript, messages, replace, until,
};

const KEYS: [(&str, &str); 3] =
    [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY), ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")];
/// Nobody listens there.
const NOBODY: &str = "--xt.base-url=http://127.0.0.1:1";
/// The hash of `hunter2`.
const HASH: &str = "$2b$04$zcJ9CRqi.V8swiImsw8DYeRhPRTQXbenYWojITkx4vLNdL4Al0c0O";

fn check(addresses: &[&str]) -> Output {
    let flags = addresses.iter().map(|address| format!("--web.listen-address={address}"));
    let flags: Vec<_> = flags.collect();
    let mut args = vec!["--config.check", NOBODY];
    args.extend(flags.iter().map(String::as_str));
    Exporter::run(&args, &KEYS)
}

#[test]
fn an_address_that_can_be_misread_is_rejected_with_the_right_spelling() {
    let mut transcript = Transcript::default();
    for address in [
        "10770",
        "65536",
        ":65536",
        "1.2.3.4",
        "localhost",
        "nowhere",
        "::1:10770",
        "[::1]",
        "http://0.0.0.0:10770/metrics",
        "127.0.0.1:10770/metrics",
        "*:10770",
        ":10770,:10771",
        "300.0.0.1:10770",
        ":web",
        "",
    ] {
        let output = check(&[address]);
        assert_eq!(output.status.code(), Some(2), "{address}: {}", output.stderr);
        transcript.add_output(&format!("--web.listen-address={address}"), &output);
    }
    transcript.assert("listen_address_invalid");
}

#[test]
fn config_check_finds_addresses_that_exclude_each_other_and_opens_none() {
    let mut transcript = Transcript::default();
    for pair in [["127.0.0.1:10770"; 2], [":10770", "[::1]:10770"]] {
        let output = check(&pair);
        assert_eq!(output.status.code(), Some(2), "{pair:?}: {}", output.stderr);
        transcript.add_output(&pair.join(" "), &output);
    }
    transcript.assert("listen_address_conflict");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let output = check(&[&taken.local_addr().unwrap().to_string(), ":0", "[::1]:0", "localhost:0"]);
    assert!(output.status.success(), "{}", output.stderr);
}

/// Starts `serve` in a network of its own, where only it can be reached.
fn serve_apart(more: &[&str]) -> Exporter {
    let mut apart = Command::new("unshare");
    apart.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\"", PROGRAM]);
    let exporter = Exporter::start_by(apart, &[&["serve", NOBODY], more].concat(), &KEYS);
    exporter.stderr.wait_for(messages::LISTENING);
    exporter
}

/// Sends the exporter a request, which lets it see a change of its web configuration.
fn send_request(exporter: &Exporter) {
    let mut inside = Command::new("nsenter");
    inside.args([&format!("--net=/proc/{}/ns/net", exporter.pid()), PROGRAM]);
    Exporter::start_by(inside, &["healthcheck", "--web.listen-address=127.0.0.1:10770"], &KEYS).wait();
}

/// Stops the exporter. Returns how often it warned about its address.
fn stop_and_count(exporter: Exporter) -> usize {
    exporter.signal("TERM");
    let log = exporter.wait().stderr;
    log.matches(messages::OPEN_TO_OTHER_MACHINES).count()
}

#[test]
fn other_machines_without_a_password_are_one_warning() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: a network of its own cannot be made");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password.yml");
    fs::write(&password, format!("basic_auth_users: {{alice: {HASH}}}\n")).unwrap();
    let password = format!("--web.config.file={}", password.display());
    for (flags, expected) in [
        (&["--web.listen-address=:10770"][..], 1),
        (&["--web.listen-address=0.0.0.0:10770", "--web.listen-address=[::1]:10770"], 1),
        (&["--web.listen-address=127.0.0.1:10770", "--web.listen-address=[::1]:10770"], 0),
        (&["--web.listen-address=127.0.0.2:10770"], 0),
        (&["--web.listen-address=:10770", &password], 0),
        (&["--web.listen-address=:10770", "--web.allow-insecure"], 0),
    ] {
        assert_eq!(stop_and_count(serve_apart(flags)), expected, "{flags:?}");
    }
}

#[test]
fn a_password_that_is_removed_is_a_warning_again() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: a network of its own cannot be made");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.yml");
    let with_password = format!("basic_auth_users: {{alice: {HASH}}}\n");
    let flag = format!("--web.config.file={}", path.display());
    for (more, expected) in [(None, 2), (Some("--web.allow-insecure"), 0)] {
        fs::write(&path, &with_password).unwrap();
        let mut flags = vec!["--web.listen-address=:10770", &flag];
        flags.extend(more);
        let exporter = serve_apart(&flags);
        // The second removal follows an invalid file.
        for (count, text) in (1..).zip(["", &with_password, "basic_auth_users: 5\n", "# none\n"]) {
            replace(&path, text);
            let logged = || {
                let log = exporter.stderr.text();
                log.matches(messages::WEB_CONFIG_IN_FORCE).count()
                    + log.matches(messages::WEB_CONFIG_UNUSABLE).count()
            };
            until("the change is seen", || {
                send_request(&exporter);
                (logged() >= count).then_some(())
            });
        }
        assert_eq!(stop_and_count(exporter), expected, "{more:?}");
    }
}
