//! Which web configuration files are accepted, as by Prometheus' own tools, and how a mistake is reported.

use std::{fs, path::Path, process::Command};

use super::{HASH, MUTUAL, OTHER_HASH, TLS, World, users};
use crate::common::{Exporter, golden::Transcript};

/// What `serve --config.check` says of the web configuration `web.yml`.
fn check(world: &World) -> crate::common::Output {
    let flag = format!("--web.config.file={}", world.path("web.yml").display());
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
    let world = World::new("");
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
        users(&[("alice", HASH), ("bob", OTHER_HASH)]),
        users(&[("alice", "hunter2")]),
        users(&[("alice", HASH), ("alice", HASH)]),
        "basic_auth_user: {}".to_owned(),
        "[]".to_owned(),
        "{".to_owned(),
    ] {
        world.write("web.yml", &yaml);
        let said = check(&world);
        let theirs = promtool(&world.path("web.yml"));
        assert_eq!(said.status.success(), theirs, "{yaml}\n{}", said.stderr);
        assert_eq!(said.status.code(), Some(if theirs { 0 } else { 2 }), "{yaml}");
    }
}

#[test]
fn each_mistake_is_named_with_its_remedy() {
    let world = World::new("");
    let key = world.text("host.key");
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
        users(&[("alice", "hunter2")]),
        format!("basic_auth_users: {HASH}"),
        format!("tls_server_config: {{key: [{key}]}}"),
        format!("tls_server_config: {{cipher_suites: {key}}}"),
        format!("tls_server_config: {{prefer_server_cipher_suites: {key}}}"),
        format!("rate_limit: {{interval: 1s, burst: {key}}}"),
        "web: {}".to_owned(),
        "\u{1}".to_owned(),
    ] {
        world.write("web.yml", &yaml);
        let ended = check(&world);
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
    let world = World::new("");
    let indented = |name: &str| format!("    {}\n", world.text(name).trim_end().replace('\n', "\n    "));
    let (cert, key, ca) = (indented("host.crt"), indented("host.key"), indented("ca.crt"));
    world.write("web.yml", &format!("tls_server_config:\n  client_auth_type: VerifyClientCertIfGiven\n  cert: |\n{cert}  key: |\n{key}  client_ca: |\n{ca}"));
    assert_eq!(world.status(&world.serve(), "/metrics", &[]), 200);
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
            .current_dir(world.folder.path())
            .output()
            .unwrap_or_else(|error| panic!("openssl is needed, the Debian package: {error}"));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        world.write("web.yml", TLS);
        assert_eq!(world.status(&world.serve(), "/metrics", &["--cacert", "host.crt"]), 200, "{kind:?}");
    }
}

/// The example of README.md, with the password `example`.
#[test]
fn the_example_of_the_readme_does_what_it_says() {
    let readme = fs::read_to_string("README.md").unwrap();
    let section = readme.split("## TLS and passwords").nth(1).unwrap();
    let world = World::new(section.split("```").nth(1).unwrap().strip_prefix("yaml").unwrap());
    for (name, file) in
        [("host.crt", "exporter.crt"), ("host.key", "exporter.key"), ("ca.crt", "prometheus-ca.crt")]
    {
        world.write(file, &world.text(name));
    }
    let exporter = world.serve();
    let certificate = ["--cert", "client.crt", "--key", "client.key"];
    let known = [&certificate[..], &["--user", "prometheus:example"]].concat();
    assert_eq!(world.status(&exporter, "/metrics", &known), 200);
    assert_eq!(world.status(&exporter, "/metrics", &certificate), 401);
    assert_eq!(world.status(&exporter, "/metrics", &["--user", "prometheus:example"]), 0);
}

#[test]
fn a_file_with_secrets_that_others_may_read_is_warned_of() {
    let world = World::new(&format!("{TLS}{}", users(&[("alice", HASH)])));
    assert_eq!(check(&world).stderr, "");
    for name in ["host.key", "web.yml"] {
        fs::set_permissions(world.path(name), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    }
    let said = check(&world);
    assert!(said.status.success());
    for name in ["host.key", "web.yml"] {
        let path = world.path(name).display().to_string();
        let lines = said.stderr.lines().filter(|line| line.contains("level=warn") && line.contains(&path));
        assert_eq!(lines.count(), 1, "{}", said.stderr);
    }
}
