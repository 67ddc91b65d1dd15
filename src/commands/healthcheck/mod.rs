//! `healthcheck`: requests `/-/healthy` of a running exporter, for containers without curl.

mod access;
mod response;
mod target;

use std::{io, sync::Arc, time::Duration};

use rustls::{AlertDescription, CertificateError};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use self::{
    access::Access,
    response::Response,
    target::{HEALTHY_PATH, Target},
};
use super::outcome::{CommandError, print};
use crate::{blocking::BlockingWorker, cli::HealthcheckFlags};

const TIMEOUT: Duration = Duration::from_secs(5);
const RESPONSE_MAX_BYTES: u64 = 64 * 1024;

pub(super) async fn run(flags: &HealthcheckFlags) -> Result<(), CommandError> {
    let target = Target::new(flags).map_err(CommandError::Usage)?;
    let (access_flags, is_tls) = (flags.access.clone(), target.server_name.is_some());
    let read = BlockingWorker::default()
        .run("healthcheck files", TIMEOUT, move || Access::read(&access_flags, is_tls))
        .await;
    let access = read.map_err(|error| CommandError::Failed(format!("cannot read a file: {error}")))?;
    let access = access.map_err(CommandError::Usage)?;

    let failed = |why: String| CommandError::Failed(format!("{HEALTHY_PATH} at {} {why}", target.shown));
    let response = match timeout(TIMEOUT, request_health(&target, &access)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(failed(explain_error(&error))),
        Err(_) => return Err(failed(format!("did not respond within {} s", TIMEOUT.as_secs()))),
    };
    let Response { status, body } = Response::parse(&response);
    match &*status {
        "200" => {
            print(&body);
            Ok(())
        }
        "400" if body.contains("HTTPS") => {
            Err(failed("speaks HTTPS: set --url https://HOST:PORT".to_owned()))
        }
        "401" => Err(failed(
            "needs a user and password that it knows: set --basic-auth.username and --basic-auth.password-file".to_owned(),
        )),
        status => Err(failed(format!("returned status {status}: {}", body.trim_end()))),
    }
}

/// The bytes of the response, headers included.
async fn request_health(target: &Target, access: &Access) -> io::Result<Vec<u8>> {
    let stream = TcpStream::connect(&target.address).await?;
    let host = match &target.host {
        Some(host) => host.clone(),
        // The exporter may reject the host name of the address, but not the IP address.
        None => stream.peer_addr()?.to_string(),
    };
    let authorization = access.authorization.as_deref().map_or("", String::as_str);
    let path = &target.path;
    let request = Zeroizing::new(format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Connection: close\r\n\r\n"
    ));
    match (&access.tls, &target.server_name) {
        (Some(tls), Some(name)) => {
            let stream = TlsConnector::from(Arc::clone(tls)).connect(name.clone(), stream).await?;
            send_request(stream, &request).await
        }
        _ => send_request(stream, &request).await,
    }
}

async fn send_request(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut response = Vec::new();
    match stream.take(RESPONSE_MAX_BYTES).read_to_end(&mut response).await {
        // Some servers close without the end of TLS.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof || response.is_empty() => Err(error),
        _ => Ok(response),
    }
}

/// The predicate of a sentence about the exporter, with the fix.
fn explain_error(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "has a certificate of an unknown authority: set --tls.ca-file".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "has a certificate for another name: set --tls.server-name".to_owned(),
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::BadCertificate,
        )) => "needs a client certificate that it trusts: set --tls.cert-file and --tls.key-file".to_owned(),
        Some(rustls::Error::InvalidMessage(_)) => "does not speak TLS: write http:// in --url".to_owned(),
        Some(error) => format!("cannot be reached with TLS: {error}: check its certificate"),
        None => {
            format!("is not reachable: {error}: start the exporter, or set the address that it listens on")
        }
    }
}
