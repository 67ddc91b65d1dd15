//! `healthcheck` with TLS, client certificates and passwords: it gets in with the right ones, and each error has its fix.

use super::{HASH, MUTUAL, TLS, WebConfigSetup, format_users};
use crate::common::{Exporter, Output, golden::Transcript, replace};

/// Runs `healthcheck` in the folder of the setup, with `PORT` in its words replaced.
fn healthcheck(setup: &WebConfigSetup, exporter: &Exporter, words: &str) -> Output {
    let words = words.replace("PORT", &exporter.address().port().to_string());
    let words: Vec<_> = words.split_whitespace().collect();
    let mut command = std::process::Command::new("env");
    command.arg("--chdir").arg(setup.folder.path()).arg(crate::common::PROGRAM).arg("healthcheck");
    // Started by `env`, which finds it by its path.
    Exporter::start_by(command, &words, &[("PATH", "/usr/bin:/bin")]).wait()
}

const CA: &str = "--url https://localhost:PORT --tls.ca-file ca.crt";
const CLIENT: &str = "--tls.cert-file client.crt --tls.key-file client.key";
const LOGIN: &str = "--basic-auth.username alice --basic-auth.password-file password";

#[test]
fn healthcheck_gets_in_with_certificates_and_passwords() {
    let setup = WebConfigSetup::new(TLS);
    setup.write("password", "hunter2\n");
    let password = format_users(&[("alice", HASH)]);
    for (yaml, words) in [
        (TLS.to_owned(), CA.to_owned()),
        (
            TLS.to_owned(),
            "--url https://127.0.0.1:PORT/ --tls.ca-file ca.crt --tls.server-name localhost".to_owned(),
        ),
        (MUTUAL.to_owned(), format!("{CA} {CLIENT}")),
        (format!("{MUTUAL}{password}"), format!("{CA} {CLIENT} {LOGIN}")),
        (password.clone(), format!("--url http://127.0.0.1:PORT {LOGIN}")),
        (password, format!("--web.listen-address 127.0.0.1:PORT {LOGIN}")),
    ] {
        setup.write("web.yml", &yaml);
        let exporter = setup.serve();
        let output = healthcheck(&setup, &exporter, &words);
        assert_eq!(output.status.code(), Some(0), "{yaml}{words}: {}", output.stderr);
        assert!(output.stdout.starts_with("healthy"), "{}", output.stdout);
    }
}

#[test]
fn healthcheck_is_set_up_by_variables() {
    let setup = WebConfigSetup::new(&format!("{MUTUAL}{}", format_users(&[("alice", HASH)])));
    setup.write("password", "hunter2");
    let exporter = setup.serve();
    let path = |name: &str| setup.path(name).display().to_string();
    let url = format!("https://localhost:{}", exporter.address().port());
    let (ca, cert, key, password) =
        (path("ca.crt"), path("client.crt"), path("client.key"), path("password"));
    let env = [
        ("XT_URL", &*url),
        // As in the container image.
        ("XT_WEB_LISTEN_ADDRESS", ":10770"),
        ("XT_TLS_CA_FILE", &ca),
        ("XT_TLS_CERT_FILE", &cert),
        ("XT_TLS_KEY_FILE", &key),
        ("XT_BASIC_AUTH_USERNAME", "alice"),
        ("XT_BASIC_AUTH_PASSWORD_FILE", &password),
    ];
    let output = Exporter::run(&["healthcheck"], &env);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
}

#[test]
fn healthcheck_names_what_keeps_it_out_and_the_fix() {
    let setup = WebConfigSetup::new(TLS);
    setup.write("password", "hunter2");
    setup.write("wrong", "swordfish");
    setup.write("empty", "\n");
    let password = format_users(&[("alice", HASH)]);
    let mut transcript = Transcript::default();
    for (yaml, words, code) in [
        (TLS, "--web.listen-address 127.0.0.1:PORT", 1),
        (TLS, "--url http://localhost:PORT", 1),
        (TLS, "--url https://localhost:PORT", 1),
        (TLS, "--url https://127.0.0.1:PORT --tls.ca-file ca.crt", 1),
        (MUTUAL, CA, 1),
        (MUTUAL, &format!("{CA} --tls.cert-file other.crt --tls.key-file other.key"), 1),
        (&password, "--web.listen-address 127.0.0.1:PORT", 1),
        (
            &password,
            "--url http://localhost:PORT --basic-auth.username alice --basic-auth.password-file wrong",
            1,
        ),
        (&password, "--url https://localhost:PORT", 1),
        (&password, "--url localhost:PORT", 2),
        (&password, "--url https://localhost:99999", 2),
        (&password, "--url http://localhost:PORT/#x", 2),
        (&password, "--web.listen-address localhost", 2),
        (&password, "--url http://alice:hunter2@localhost:PORT", 2),
        (&password, &format!("--url http://192.0.2.1 {LOGIN}"), 2),
        (&password, "--tls.ca-file ca.crt", 2),
        (&password, "--basic-auth.username alice --basic-auth.password-file empty", 2),
        (&password, "--basic-auth.username alice --basic-auth.password-file missing", 2),
        (&password, "--basic-auth.username alice", 2),
        (TLS, "--url https://localhost:PORT --tls.ca-file missing", 2),
        (TLS, "--url https://localhost:PORT --tls.cert-file password --tls.key-file client.key", 2),
        (TLS, "--url https://localhost:PORT --tls.cert-file client.crt --tls.key-file password", 2),
        (TLS, "--url https://localhost:PORT --tls.cert-file client.crt --tls.key-file other.key", 2),
    ] {
        replace(&setup.path("web.yml"), yaml);
        let exporter = setup.serve();
        let output = healthcheck(&setup, &exporter, words);
        assert_eq!(output.status.code(), Some(code), "{words}: {}{}", output.stdout, output.stderr);
        for secret in ["hunter2", "swordfish"] {
            assert!(!output.stderr.contains(secret), "{}", output.stderr);
        }
        let server = yaml.lines().next().unwrap_or_default();
        let server = if yaml == MUTUAL { "client certificates" } else { server };
        let server = server.split(':').next().unwrap_or_default();
        transcript.add_output(&format!("{server}: {words}"), &output);
    }
    transcript.assert("healthcheck_web_config");
}
