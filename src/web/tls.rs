//! TLS of the HTTP server: what a web configuration asks for, in the words of rustls, and the handshake.
//! The only place of the server that names rustls. Reads no file, and knows no HTTP but one refusal.

use std::{io, net::IpAddr, sync::Arc};

use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, NamedGroup, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use webpki::EndEntityCert;
use zeroize::Zeroizing;

use super::body::raw_response;
use crate::quoting::quote_short;

/// The first byte of a TLS connection.
const HANDSHAKE_RECORD: u8 = 0x16;

/// What TLS is to be like, every file read.
pub(super) struct TlsOptions {
    /// The certificate and those that lead to its authority, PEM.
    pub certificates: Zeroizing<Vec<u8>>,
    /// The key of the first certificate, PEM.
    pub key: Zeroizing<Vec<u8>>,
    /// Which clients may connect; all if none.
    pub clients: Option<Arc<ClientAuthOptions>>,
    /// Oldest and newest version, by the names of exporter-toolkit.
    pub versions: [Option<String>; 2],
    /// Cipher suites of TLS 1.2 by Go's names; empty for all.
    pub cipher_suites: Vec<String>,
    /// Whether the order of the suites here counts, and not the client's.
    pub prefers_own_order: bool,
    /// Groups for the key exchange by Go's names, the best first; empty for all.
    pub curves: Vec<String>,
}

/// Which clients may connect.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientAuthOptions {
    /// Authorities that sign their certificates, PEM.
    pub authorities: Zeroizing<Vec<u8>>,
    /// Whether a client without a certificate may connect too.
    pub may_have_none: bool,
    /// One of these must be in a certificate; any name will do if none is given.
    pub names: Option<Vec<String>>,
}

/// Random bytes of the TLS provider; `None` if the system has none.
pub(super) fn random_bytes() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    ring::default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(bytes)
}

/// TLS, ready for clients.
#[derive(Clone)]
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    trust: ClientTrust,
}

/// Which clients may connect: equal for two configurations that let the same ones in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientTrust(Option<Arc<ClientAuthOptions>>);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// TLS as it is `wanted`.
    ///
    /// # Errors
    /// A sentence that names what cannot be had, and what can.
    pub(super) fn new(wanted: &TlsOptions) -> Result<Self, String> {
        let provider = Arc::new(provider(wanted)?);
        let chain = certificates(&wanted.certificates).map_err(|why| format!("the certificate {why}"))?;
        let key = PrivateKeyDer::from_pem_slice(&wanted.key)
            .map_err(|_| "the key is no private key in PEM, or one with a passphrase: give one without")?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions(&wanted.versions)?)
            .map_err(|error| format!("these versions and cipher_suites do not go together: {error}"))?;
        let builder = match &wanted.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(verifier(clients, &provider)?),
        };
        let config = builder.with_single_cert(chain, key);
        let mut config =
            config.map_err(|error| format!("certificate and key cannot be used together: {error}"))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ignore_client_order = wanted.prefers_own_order;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), trust: ClientTrust(wanted.clients.clone()) })
    }

    /// Which clients may connect.
    pub(super) fn trust(&self) -> &ClientTrust {
        &self.trust
    }

    /// Shakes hands with a client. Whoever speaks HTTP without TLS is told so.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(super) async fn handshake(&self, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut first = [0];
        // Asked before rustls answers with an alert, which no HTTP client understands.
        if stream.peek(&mut first).await? == 0 || first == [HANDSHAKE_RECORD] {
            return self.acceptor.accept(stream).await;
        }
        let advice = raw_response("400 Bad Request", "this port speaks HTTPS: ask it with https://");
        stream.write_all(advice.as_bytes()).await?;
        // To close while there is something to read resets the connection: the end must come before.
        stream.shutdown().await?;
        Err(io::Error::other("the client began without TLS"))
    }
}

/// The library's cipher suites and groups, less what is not wanted.
fn provider(wanted: &TlsOptions) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if !wanted.cipher_suites.is_empty() {
        let chosen =
            select_by_name(&wanted.cipher_suites, &provider.cipher_suites, |suite| suite_name(suite.suite()))
                .map_err(|why| format!("cipher_suites: {why}"))?;
        // Those of TLS 1.3 cannot be chosen: in Go neither.
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        provider.cipher_suites.extend(chosen.iter().filter(|suite| suite.tls13().is_none()));
    }
    if !wanted.curves.is_empty() {
        provider.kx_groups =
            select_by_name(&wanted.curves, &provider.kx_groups, |group| group_name(group.name()))
                .map_err(|why| format!("curve_preferences: {why}"))?;
    }
    Ok(provider)
}

/// What is `wanted` by name of all that `there` is.
fn select_by_name<T: Copy>(
    wanted: &[String],
    there: &[T],
    name: impl Fn(&T) -> String,
) -> Result<Vec<T>, String> {
    let one = |wanted: &String| {
        let found = there.iter().find(|item| name(item) == *wanted).copied();
        found.ok_or_else(|| {
            let names: Vec<_> = there.iter().map(&name).collect();
            format!("{} cannot be had here, but {}", quote_short(wanted), names.join(", "))
        })
    };
    wanted.iter().map(one).collect()
}

/// A cipher suite as Go calls it.
fn suite_name(suite: CipherSuite) -> String {
    format!("{suite:?}").replace("TLS13_", "TLS_")
}

/// A group as exporter-toolkit calls it.
fn group_name(group: NamedGroup) -> String {
    match group {
        NamedGroup::secp256r1 => "CurveP256".to_owned(),
        NamedGroup::secp384r1 => "CurveP384".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The versions from the oldest to the newest that are wanted.
fn versions(
    [oldest, newest]: &[Option<String>; 2],
) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let known = [("TLS12", &TLS12), ("TLS13", &TLS13)];
    let place = |key: &str, name: &Option<String>, default| match name {
        None => Ok(default),
        Some(name) => known.iter().position(|(known, _)| known == name).ok_or_else(|| {
            format!(
                "{key} is {} and can be TLS12 or TLS13: older versions are not safe, and not offered",
                quote_short(name)
            )
        }),
    };
    let (oldest, newest) = (place("min_version", oldest, 0)?, place("max_version", newest, 1)?);
    let versions: Vec<_> =
        known.into_iter().take(newest + 1).skip(oldest).map(|(_, version)| version).collect();
    if versions.is_empty() {
        return Err("min_version is above max_version: no client could connect".to_owned());
    }
    Ok(versions)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|_| "cannot be read: it is not PEM, or cut short")?;
    if read.is_empty() {
        return Err("is none: what is given holds no BEGIN CERTIFICATE".to_owned());
    }
    Ok(read)
}

fn verifier(
    clients: &ClientAuthOptions,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let authorities =
        certificates(&clients.authorities).map_err(|why| format!("the certificate of client_ca {why}"))?;
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots
            .add(authority)
            .map_err(|error| format!("client_ca has a certificate that cannot be used: {error}"))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if clients.may_have_none { builder.allow_unauthenticated() } else { builder };
    let signed = builder.build().map_err(|error| format!("client_ca cannot be used: {error}"))?;
    let Some(names) = &clients.names else { return Ok(signed) };
    let names = names.iter().map(|name| SanName::read(name)).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Err("client_allowed_sans is empty: no client could connect".to_owned());
    }
    Ok(Arc::new(SanVerifier { signed, names }))
}

/// What a client's certificate must have among its alternative names.
#[derive(Debug)]
enum SanName {
    Address(IpAddr),
    Dns(String),
    Uri(String),
}

impl SanName {
    fn read(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if text.contains(':') {
            return Ok(Self::Uri(text.to_owned()));
        }
        if text.contains('@') {
            return Err("client_allowed_sans: one is an e-mail address, and those cannot be checked here, but DNS names, IP addresses and URIs".to_owned());
        }
        Ok(Self::Dns(text.to_owned()))
    }

    fn matches(&self, certificate: &EndEntityCert<'_>) -> bool {
        match self {
            Self::Address(address) => {
                certificate.verify_is_valid_for_subject_name(&ServerName::from(*address)).is_ok()
            }
            Self::Dns(name) => certificate.valid_dns_names().any(|own| own == name),
            Self::Uri(name) => certificate.valid_uri_names().any(|own| own == name),
        }
    }
}

/// Takes certificates that are signed as they must be, and have one of the names.
#[derive(Debug)]
struct SanVerifier {
    signed: Arc<dyn ClientCertVerifier>,
    names: Vec<SanName>,
}

impl ClientCertVerifier for SanVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.signed.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.signed.verify_client_cert(own, between, now)?;
        let unnamed = rustls::CertificateError::ApplicationVerificationFailure;
        let certificate = EndEntityCert::try_from(own).map_err(|_| rustls::CertificateError::BadEncoding)?;
        if self.names.iter().any(|name| name.matches(&certificate)) {
            Ok(verified)
        } else {
            Err(unnamed.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}
