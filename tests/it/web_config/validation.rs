//! Which web configuration files are accepted, as by Prometheus' own tools, and how a mistake is reported.

use std::{fs, path::Path, process::Command};

use super::{HASH, MUTUAL, OTHER_HASH, TLS, WebConfigSetup, format_users};
use crate::common::{Exporter, golden::Transcript};

/// What `serve --config.check` says of the web configuration `web.yml`.
fn check(setup: &WebConfigSetup) -> crate::common::Output {
    let flag = format!("--web.config.file={}", setup.path("web.yml").display());
    Exporter::run(&["--config.check", &flag], &[("XT_ACCESS_KEY", "a"), ("XT_SECRET_KEY", "s")])
}

fn promtool(file: &Path) -> bool {
    let output = Command::new("promtool").args(["check", "web-config"]).arg(file).output();
    output
        .unwrap_or_else(|error| panic!("promtool is needed, of Debian's prometheus: {error}"))
        .status
        .success()
}

/// Files that Prometheus' own tool knows what to think of, and so do we.
#[test]
fn the_same_files_are_accepted_as_by_prometheus() {
    let setup = WebConfigSetup::new("");
    for yaml in [
        String::new(),
        "# nothing yet\n".to_owned(),
        "---\n".to_owned(),
        "tls_server_config:\nbasic_auth_users:\nhttp_server_config:\n".to_owned(),
        TLS.to_owned(),
        MUTUAL.to_owned(),
        MUTUAL.replace("  client_auth_type: RequireAndVerifyClientCert\n", ""),
        MUTUAL.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"),
        MUTUAL.replace("RequireAndVerifyClientCert", "NoClientCert"),
        MUTUAL.replace("RequireAndVerifyClientCert", "Require"),
        TLS.replace("host.crt", "missing.crt"),
        TLS.replace("host.key", "missing.key"),
        TLS.replace("host.key", "client.key"),
        TLS.replace("host.crt", "host.key"),
        TLS.replace(", key_file: host.key", ""),
        TLS.replace("cert_file: host.crt, ", ""),
        TLS.replace("cert_file", "certfile"),
        TLS.replace('}', ", min_version: TLS12, max_version: TLS13}"),
        TLS.replace('}', ", min_version: TLS13}"),
        TLS.replace('}', ", min_version: TLS14}"),
        TLS.replace('}', ", prefer_server_cipher_suites: false}"),
        TLS.replace('}', ", cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256]}"),
        TLS.replace('}', ", cipher_suites: [TLS_MADE_UP]}"),
        TLS.replace('}', ", curve_preferences: [CurveP256, CurveP384, X25519]}"),
        TLS.replace('}', ", curve_preferences: [P256]}"),
        "http_server_config: {http2: false}".to_owned(),
        "http_server_config: {http2: perhaps}".to_owned(),
        "http_server_config: {headers: {X-Frame-Options: sameorigin, X-Content-Type-Options: nosniff, X-XSS-Protection: 1; mode=block}}".to_owned(),
        "http_server_config: {headers: {X-Frame-Options: SAMEORIGIN}}".to_owned(),
        "http_server_config: {headers: {X-Made-Up: 1}}".to_owned(),
        "http_server_config: {headers: {x-frame-options: deny}}".to_owned(),
        format_users(&[("alice", HASH), ("bob", OTHER_HASH)]),
        format_users(&[("alice", "hunter2")]),
        format_users(&[("alice", HASH), ("alice", HASH)]),
        "basic_auth_user: {}".to_owned(),
        "[]".to_owned(),
        "{".to_owned(),
    ] {
        setup.write("web.yml", &yaml);
        let output = check(&setup);
        let is_accepted_by_promtool = promtool(&setup.path("web.yml"));
        assert_eq!(output.status.success(), is_accepted_by_promtool, "{yaml}\n{}", output.stderr);
        assert_eq!(output.status.code(), Some(if is_accepted_by_promtool { 0 } else { 2 }), "{yaml}");
    }
}

#[test]
fn each_mistake_is_named_with_its_remedy() {
    let setup = WebConfigSetup::new("");
    let key = setup.text("host.key");
    let key = key.lines().nth(1).unwrap().to_owned();
    let mut transcript = Transcript::default();
    for yaml in [
        TLS.replace('}', ", min_version: TLS11}"),
        TLS.replace('}', ", min_version: TLS13, max_version: TLS12}"),
        TLS.replace('}', ", curve_preferences: [CurveP521]}"),
        TLS.replace('}', ", cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]}"),
        TLS.replace('}', ", max_version: TLS12, cipher_suites: [TLS_AES_128_GCM_SHA256]}"),
        TLS.replace('}', ", cert: x}"),
        TLS.replace(", key_file: host.key", ""),
        TLS.replace("host.crt", "missing.crt"),
        TLS.replace("host.crt", "host.key"),
        TLS.replace("host.key", "host.crt"),
        TLS.replace("host.key", "client.key"),
        TLS.replace("host.key", "/dev/zero"),
        MUTUAL.replace("RequireAndVerifyClientCert", "RequireAnyClientCert"),
        MUTUAL.replace("RequireAndVerifyClientCert", "Require"),
        MUTUAL.replace("  client_auth_type: RequireAndVerifyClientCert\n", ""),
        MUTUAL.replace("  client_ca_file: ca.crt\n", ""),
        MUTUAL.replace("ca.crt", "host.key"),
        format!("{MUTUAL}  client_allowed_sans: []\n"),
        format!("{MUTUAL}  client_allowed_sans: [a@b.example]\n"),
        TLS.replace('}', ", client_allowed_sans: [a]}"),
        format!("{MUTUAL}  client_allowed_sans: [a]\n")
            .replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"),
        "http_server_config: {http2: true}".to_owned(),
        "http_server_config: {headers: {Server: x}}".to_owned(),
        "http_server_config: {headers: {X-Frame-Options: no}}".to_owned(),
        "http_server_config: {headers: {X-XSS-Protection: \"a\\nb\"}}".to_owned(),
        "rate_limit: {interval: 1s}".to_owned(),
        "rate_limit: {interval: 1s, burst: -1}".to_owned(),
        "rate_limit: {interval: soon, burst: 1}".to_owned(),
        format_users(&[("alice", "hunter2")]),
        format!("basic_auth_users: {HASH}"),
        format!("tls_server_config: {{key: [{key}]}}"),
        format!("tls_server_config: {{cipher_suites: {key}}}"),
        format!("tls_server_config: {{prefer_server_cipher_suites: {key}}}"),
        format!("rate_limit: {{interval: 1s, burst: {key}}}"),
        "web: {}".to_owned(),
        "\u{1}".to_owned(),
    ] {
        setup.write("web.yml", &yaml);
        let ended = check(&setup);
        assert_eq!(ended.status.code(), Some(2), "{yaml}\n{}", ended.stderr);
        assert!(ended.stderr.starts_with("error: --web.config.file "), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        for secret in [&*key, HASH, "hunter2"] {
            assert!(!ended.stderr.contains(secret), "{yaml}\n{}", ended.stderr);
        }
        transcript.add_output(&yaml.replace(&key, "KEY").replace('\u{1}', "\\u{1}"), &ended);
    }
    let missing = Exporter::run(&["demo", "--web.config.file=/nowhere/web.yml"], &[]);
    assert_eq!(missing.status.code(), Some(2));
    transcript.add_output("no file", &missing);
    transcript.assert("web_config_invalid");
}

/// A certificate and its key in the file itself, and files of another form than those of these tests.
#[test]
fn certificates_and_keys_may_stand_in_the_file_and_be_of_any_usual_form() {
    let setup = WebConfigSetup::new("");
    let indented = |name: &str| format!("    {}\n", setup.text(name).trim_end().replace('\n', "\n    "));
    let (cert, key, ca) = (indented("host.crt"), indented("host.key"), indented("ca.crt"));
    setup.write("web.yml", &format!("tls_server_config:\n  client_auth_type: VerifyClientCertIfGiven\n  cert: |\n{cert}  key: |\n{key}  client_ca: |\n{ca}"));
    assert_eq!(setup.status(&setup.serve(), "/metrics", &[]), 200);
    for kind in [
        &["-newkey", "rsa:2048"][..],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"],
        &["-newkey", "ed25519"],
    ] {
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-nodes",
                "-subj",
                "/CN=x",
                "-addext",
                "subjectAltName=DNS:localhost",
                "-days",
                "9",
            ])
            .args(["-keyout", "host.key", "-out", "host.crt"])
            .args(kind)
            .current_dir(setup.folder.path())
            .output()
            .unwrap_or_else(|error| panic!("openssl is needed, the Debian package: {error}"));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        setup.write("web.yml", TLS);
        assert_eq!(setup.status(&setup.serve(), "/metrics", &["--cacert", "host.crt"]), 200, "{kind:?}");
    }
}

/// The example of README.md, with the password `example`.
#[test]
fn the_example_of_the_readme_works() {
    let readme = fs::read_to_string("README.md").unwrap();
    let section = readme.split("## TLS and passwords").nth(1).unwrap();
    let setup = WebConfigSetup::new(section.split("```").nth(1).unwrap().strip_prefix("yaml").unwrap());
    for (name, file) in
        [("host.crt", "exporter.crt"), ("host.key", "exporter.key"), ("ca.crt", "prometheus-ca.crt")]
    {
        setup.write(file, &setup.text(name));
    }
    let exporter = setup.serve();
    let certificate = ["--cert", "client.crt", "--key", "client.key"];
    let known = [&certificate[..], &["--user", "prometheus:example"]].concat();
    assert_eq!(setup.status(&exporter, "/metrics", &known), 200);
    assert_eq!(setup.status(&exporter, "/metrics", &certificate), 401);
    assert_eq!(setup.status(&exporter, "/metrics", &["--user", "prometheus:example"]), 0);
}

#[test]
fn a_file_with_secrets_that_others_may_read_is_warned_of() {
    let setup = WebConfigSetup::new(&format!("{TLS}{}", format_users(&[("alice", HASH)])));
    assert_eq!(check(&setup).stderr, "");
    for name in ["host.key", "web.yml"] {
        fs::set_permissions(setup.path(name), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    }
    let output = check(&setup);
    assert!(output.status.success());
    for name in ["host.key", "web.yml"] {
        let path = setup.path(name).display().to_string();
        let lines = output.stderr.lines().filter(|line| line.contains("level=warn") && line.contains(&path));
        assert_eq!(lines.count(), 1, "{}", output.stderr);
    }
}
