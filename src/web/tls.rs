//! TLS of the HTTP server: translates a web configuration for rustls, and performs handshakes. The only file of the server
//! that uses rustls. Reads no file, and depends on HTTP only for one error response.

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

use super::response::raw_response;
use crate::quoting::quote_value;

/// The first byte that a TLS client sends.
const HANDSHAKE_RECORD_TYPE: u8 = 0x16;

/// TLS settings, with the content of the files.
pub(super) struct TlsOptions {
    /// The certificate chain, PEM.
    pub certificates: Zeroizing<Vec<u8>>,
    /// The private key of the first certificate, PEM.
    pub key: Zeroizing<Vec<u8>>,
    /// `None` if clients need no certificate.
    pub client_auth: Option<Arc<ClientAuthOptions>>,
    /// Oldest and newest TLS version, by the names of exporter-toolkit.
    pub versions: [Option<String>; 2],
    /// Cipher suites of TLS 1.2 by Go's names; empty for all.
    pub cipher_suites: Vec<String>,
    /// Whether the server's order of cipher suites counts, not the client's.
    pub prefers_server_order: bool,
    /// Groups for the key exchange by Go's names, the preferred first; empty for all.
    pub curves: Vec<String>,
}

/// Requirements on client certificates.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientAuthOptions {
    /// Certificates of the accepted authorities, PEM.
    pub authorities: Zeroizing<Vec<u8>>,
    /// Whether clients without a certificate may connect.
    pub is_optional: bool,
    /// Subject alternative names, one of which a certificate must have; `None` accepts all.
    pub allowed_names: Option<Vec<String>>,
}

/// Random bytes from the TLS provider; `None` if the system cannot provide them.
pub(super) fn random_bytes() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    ring::default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(bytes)
}

/// A TLS configuration that is ready for handshakes.
#[derive(Clone)]
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    trust: ClientTrust,
}

/// Equal for two configurations with the same requirements on client certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientTrust(Option<Arc<ClientAuthOptions>>);

impl ClientTrust {
    /// Whether clients without a certificate are rejected.
    pub(super) fn is_required(&self) -> bool {
        self.0.as_ref().is_some_and(|options| !options.is_optional)
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// # Errors
    /// If a setting is not supported, with the supported values, or a certificate or key is invalid.
    pub(super) fn new(options: &TlsOptions) -> Result<Self, String> {
        let provider = Arc::new(crypto_provider(options)?);
        let chain = parse_certificates(&options.certificates, "cert or cert_file")?;
        let key = PrivateKeyDer::from_pem_slice(&options.key)
            .map_err(|_| "no PEM private key found in key or key_file: use a PEM key without a passphrase")?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&select_versions(&options.versions)?)
            .map_err(|error| format!("TLS versions and cipher_suites do not match: {error}"))?;
        let builder = match &options.client_auth {
            None => builder.with_no_client_auth(),
            Some(client_auth) => builder.with_client_cert_verifier(build_verifier(client_auth, &provider)?),
        };
        let config = builder.with_single_cert(chain, key);
        let mut config =
            config.map_err(|error| format!("cannot use this certificate with this key: {error}"))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ignore_client_order = options.prefers_server_order;
        let trust = ClientTrust(options.client_auth.clone());
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), trust })
    }

    /// The requirements on client certificates.
    pub(super) fn trust(&self) -> &ClientTrust {
        &self.trust
    }

    /// Performs the handshake. A client that sends HTTP without TLS gets an error response.
    ///
    /// # Errors
    /// If the handshake fails.
    pub(super) async fn handshake(&self, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut first = [0];
        // Before rustls: it would send an alert, which no HTTP client understands.
        if stream.peek(&mut first).await? == 0 || first == [HANDSHAKE_RECORD_TYPE] {
            return self.acceptor.accept(stream).await;
        }
        let response = raw_response("400 Bad Request", "this port speaks HTTPS: use https://");
        stream.write_all(response.as_bytes()).await?;
        // Closing a socket with unread bytes resets the connection: the client must receive the end first.
        stream.shutdown().await?;
        Err(io::Error::other("the client did not use TLS"))
    }
}

/// The provider, limited to the configured cipher suites and groups.
fn crypto_provider(options: &TlsOptions) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if !options.cipher_suites.is_empty() {
        let suites = select_by_name(&options.cipher_suites, &provider.cipher_suites, |suite| {
            suite_name(suite.suite())
        });
        let suites = suites.map_err(|error| format!("cipher_suites: {error}"))?;
        // As in Go, the suites of TLS 1.3 cannot be chosen.
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        provider.cipher_suites.extend(suites.iter().filter(|suite| suite.tls13().is_none()));
    }
    if !options.curves.is_empty() {
        let groups = select_by_name(&options.curves, &provider.kx_groups, |group| group_name(group.name()));
        provider.kx_groups = groups.map_err(|error| format!("curve_preferences: {error}"))?;
    }
    Ok(provider)
}

/// Finds each of `names` among the `supported` items.
fn select_by_name<T: Copy>(
    names: &[String],
    supported: &[T],
    name_of: impl Fn(&T) -> String,
) -> Result<Vec<T>, String> {
    let find = |name: &String| {
        let found = supported.iter().find(|item| name_of(item) == *name).copied();
        found.ok_or_else(|| {
            let supported: Vec<_> = supported.iter().map(&name_of).collect();
            format!("{} is not supported: use one of {}", quote_value(name), supported.join(", "))
        })
    };
    names.iter().map(find).collect()
}

/// Go's name of a cipher suite.
fn suite_name(suite: CipherSuite) -> String {
    format!("{suite:?}").replace("TLS13_", "TLS_")
}

/// exporter-toolkit's name of a group.
fn group_name(group: NamedGroup) -> String {
    match group {
        NamedGroup::secp256r1 => "CurveP256".to_owned(),
        NamedGroup::secp384r1 => "CurveP384".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The TLS versions from the oldest to the newest.
fn select_versions(
    [oldest, newest]: &[Option<String>; 2],
) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let supported = [("TLS12", &TLS12), ("TLS13", &TLS13)];
    let find = |key: &str, name: &Option<String>, default| match name {
        None => Ok(default),
        Some(name) => supported
            .iter()
            .position(|(supported, _)| supported == name)
            .ok_or_else(|| format!("{key} is not supported: use TLS12 or TLS13")),
    };
    let (oldest, newest) = (find("min_version", oldest, 0)?, find("max_version", newest, 1)?);
    let versions: Vec<_> =
        supported.into_iter().take(newest + 1).skip(oldest).map(|(_, version)| version).collect();
    if versions.is_empty() {
        return Err("min_version is above max_version: lower min_version".to_owned());
    }
    Ok(versions)
}

/// `source` names the settings that `pem` may be from.
fn parse_certificates(pem: &[u8], source: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates
        .map_err(|_| format!("cannot decode the PEM certificate in {source}: check that it is complete"))?;
    if certificates.is_empty() {
        return Err(format!("no PEM certificate found in {source}: it must contain BEGIN CERTIFICATE"));
    }
    Ok(certificates)
}

fn build_verifier(
    client_auth: &ClientAuthOptions,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in parse_certificates(&client_auth.authorities, "client_ca or client_ca_file")? {
        roots.add(authority).map_err(|error| format!("cannot use a certificate of client_ca: {error}"))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if client_auth.is_optional { builder.allow_unauthenticated() } else { builder };
    let chain_verifier = builder.build().map_err(|error| format!("cannot use client_ca: {error}"))?;
    let Some(names) = &client_auth.allowed_names else { return Ok(chain_verifier) };
    let names = names.iter().map(|name| SanName::parse(name)).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Err(
            "client_allowed_sans is empty, no client could connect: add a name, or remove it".to_owned()
        );
    }
    Ok(Arc::new(SanVerifier { chain_verifier, names }))
}

/// An allowed subject alternative name.
#[derive(Debug)]
enum SanName {
    Address(IpAddr),
    Dns(String),
    Uri(String),
}

impl SanName {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if text.contains(':') {
            return Ok(Self::Uri(text.to_owned()));
        }
        if text.contains('@') {
            return Err("client_allowed_sans: e-mail addresses are not supported: use DNS names, IP addresses or URIs".to_owned());
        }
        Ok(Self::Dns(text.to_owned()))
    }

    fn matches(&self, certificate: &EndEntityCert<'_>) -> bool {
        match self {
            Self::Address(address) => {
                certificate.verify_is_valid_for_subject_name(&ServerName::from(*address)).is_ok()
            }
            Self::Dns(name) => certificate.valid_dns_names().any(|dns_name| dns_name == name),
            Self::Uri(name) => certificate.valid_uri_names().any(|uri| uri == name),
        }
    }
}

/// Accepts a valid certificate that has one of the names.
#[derive(Debug)]
struct SanVerifier {
    chain_verifier: Arc<dyn ClientCertVerifier>,
    names: Vec<SanName>,
}

impl ClientCertVerifier for SanVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain_verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain_verifier.verify_client_cert(end_entity, intermediates, now)?;
        let certificate =
            EndEntityCert::try_from(end_entity).map_err(|_| rustls::CertificateError::BadEncoding)?;
        if self.names.iter().any(|name| name.matches(&certificate)) {
            Ok(verified)
        } else {
            Err(rustls::CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain_verifier.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain_verifier.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain_verifier.supported_verify_schemes()
    }
}
