//! TLS between the program and the exchange: only a certificate that is valid now, for this name,
//! from an authority that is trusted, is given a key. The program is told of the authority the way
//! a user tells it, with `SSL_CERT_FILE`.

use std::{fs, sync::Arc};

use crate::common::messages;
use crate::common::proxy::Proxy;
use crate::common::{ACCESS_KEY, Exchange, Exporter, SECRET_KEY, authority::Authority, sample, until};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};

const FREE: &str = "xt_balance_free{account=\"main\",currency=\"usdt\",wallet=\"spot\"}";
const UP: &str = "xt_up{account=\"main\",wallet=\"spot\"}";
const TLS_FAILURES: &str = "xt_poll_failures_total{account=\"main\",reason=\"tls\",wallet=\"spot\"}";

/// A server with a certificate of `authority` for `name` that is good until the end of `year`.
fn tls_config(authority: &Authority, name: &str, year: i32) -> Arc<ServerConfig> {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(year, 12, 31);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap())
}

/// An exchange behind TLS, and the file with the authority that is trusted.
struct TlsSetup {
    _exchange: Exchange,
    authority: Authority,
    proxy: Proxy,
    folder: tempfile::TempDir,
}

impl TlsSetup {
    fn new() -> Self {
        let (exchange, authority) = (Exchange::documented(), Authority::new("trusted"));
        let proxy = Proxy::new(exchange.address);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), &authority.pem).unwrap();
        Self { _exchange: exchange, authority, proxy, folder }
    }

    fn start(&self, args: &[&str]) -> Exporter {
        let url = format!("https://localhost:{}", self.proxy.address.port());
        let roots = self.folder.path().join("ca.pem");
        let env = [
            ("XT_ACCESS_KEY", ACCESS_KEY),
            ("XT_SECRET_KEY", SECRET_KEY),
            ("SSL_CERT_FILE", roots.to_str().unwrap()),
        ];
        Exporter::start(&[args, &["--xt.base-url", &url]].concat(), &env)
    }
}

#[test]
fn an_untrusted_certificate_has_its_own_error_and_gets_no_key() {
    let setup = TlsSetup::new();
    let stranger = Authority::new("stranger");
    let cases = [
        (Some(tls_config(&setup.authority, "localhost", 2020)), "certificate expired"),
        (Some(tls_config(&setup.authority, "api.example.com", 2090)), "not valid for name"),
        (Some(tls_config(&stranger, "localhost", 2090)), "UnknownIssuer"),
        (None, "received corrupt message"),
    ];
    for (tls, expected_text) in cases {
        setup.proxy.set_tls(tls);
        let output = setup.start(&["once"]).wait();
        assert_eq!(output.status.code(), Some(1), "{expected_text}: {}", output.stderr);
        assert_eq!(sample(&output.stdout, TLS_FAILURES), Some(1.0), "{expected_text}: {}", output.stderr);
        assert_eq!(
            (sample(&output.stdout, UP), sample(&output.stdout, FREE)),
            (Some(0.0), None),
            "{expected_text}"
        );
        let others = output.stdout.lines().filter(|line| line.starts_with("xt_poll_failures_total{"));
        assert_eq!(
            others.filter(|line| !line.ends_with(" 0")).count(),
            1,
            "{expected_text}: {}",
            output.stdout
        );
        let place = format!("https://localhost:{}/v4/public/time: ", setup.proxy.address.port());
        assert!(
            output.stderr.contains(&place) && output.stderr.contains(expected_text),
            "{expected_text}: {}",
            output.stderr
        );
        assert_eq!(setup.proxy.requests().len(), 0, "{expected_text}");
    }
    setup.proxy.set_tls(Some(tls_config(&setup.authority, "localhost", 2090)));
    let output = setup.start(&["once"]).wait();
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert_eq!(sample(&output.stdout, FREE), Some(3_867.436_500_12));
}

#[test]
fn a_renewed_certificate_ends_the_trouble_without_a_restart() {
    let setup = TlsSetup::new();
    setup.proxy.set_tls(Some(tls_config(&setup.authority, "localhost", 2090)));
    let serve = ["serve", "--web.listen-address=127.0.0.1:0", "--poll.interval=1s", "--poll.timeout=900ms"];
    let holds = setup.start(&[&serve[..], &["--poll.max-age=1h"]].concat());
    let forgets = setup.start(&[&serve[..], &["--poll.max-age=1s"]].concat());
    for exporter in [&holds, &forgets] {
        until("there is a balance", || exporter.sample(FREE));
    }
    setup.proxy.set_tls(Some(tls_config(&setup.authority, "localhost", 2020)));
    setup.proxy.close_connections();
    for exporter in [&holds, &forgets] {
        until("the certificate is refused", || exporter.sample(TLS_FAILURES).filter(|count| *count > 0.0));
    }
    assert_eq!(holds.sample(FREE), Some(3_867.436_500_12));
    until("the balance is unknown", || forgets.sample(FREE).is_none().then_some(()));
    setup.proxy.set_tls(Some(tls_config(&setup.authority, "localhost", 2090)));
    for exporter in [&holds, &forgets] {
        until("polls are good", || exporter.sample(UP).filter(|up| *up > 0.0));
        until("there is a balance again", || exporter.sample(FREE));
    }
}

#[test]
fn authorities_that_are_replaced_are_trusted_without_a_restart() {
    let setup = TlsSetup::new();
    setup.proxy.set_tls(Some(tls_config(&setup.authority, "localhost", 2090)));
    let serve = ["serve", "--web.listen-address=127.0.0.1:0", "--poll.interval=1s", "--poll.timeout=900ms"];
    let exporter = setup.start(&serve);
    until("polls are good", || exporter.sample(UP).filter(|up| *up > 0.0));
    let successor = Authority::new("successor");
    setup.proxy.set_tls(Some(tls_config(&successor, "localhost", 2090)));
    until("the certificate is refused", || exporter.sample(TLS_FAILURES).filter(|count| *count > 0.0));
    // A bundle is gone for a moment while it is replaced, and broken while it is written.
    let bundle = setup.folder.path().join("ca.pem");
    fs::remove_file(&bundle).unwrap();
    exporter.stderr.wait_for(messages::AUTHORITIES_KEPT);
    fs::write(&bundle, &successor.pem).unwrap();
    until("polls are good again", || exporter.sample(UP).filter(|up| *up > 0.0));
    // The old authority is not trusted any more.
    setup.proxy.set_tls(Some(tls_config(&setup.authority, "localhost", 2090)));
    until("the certificate is refused", || exporter.sample(UP).filter(|up| *up < 1.0));
}

#[test]
fn unreadable_certificate_authorities_are_reported_at_the_start() {
    let setup = TlsSetup::new();
    fs::remove_file(setup.folder.path().join("ca.pem")).unwrap();
    setup.proxy.set_tls(Some(tls_config(&setup.authority, "localhost", 2090)));
    let expected_text = messages::AUTHORITIES_UNREADABLE;
    let exporter = setup.start(&["serve", "--web.listen-address=127.0.0.1:0"]);
    exporter.stderr.wait_for(expected_text);
    let checked = setup.start(&["check"]).wait();
    assert_eq!(checked.status.code(), Some(1));
    let line = checked.stdout.lines().find(|line| line.contains("certificate authorities"));
    assert!(
        line.is_some_and(|line| line.contains("FAIL") && line.contains(expected_text)),
        "{}",
        checked.stdout
    );
}
