//! `healthcheck`: requests `/-/healthy` of a running exporter, for containers without curl.

mod access;
mod response;
mod target;

use std::{error::Error, io, iter, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{
    Request, StatusCode,
    header::{AUTHORIZATION, CONNECTION, HOST},
};
use rustls::{AlertDescription, CertificateError};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

pub(super) use self::target::connect_address;
use self::{
    access::Access,
    response::{Response, send},
    target::{HEALTHY_PATH, Target},
};
use super::outcome::{CommandError, print};
use crate::{blocking::BlockingWorker, cli::HealthcheckFlags};

const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(flags: &HealthcheckFlags) -> Result<(), CommandError> {
    let target = Target::new(flags).map_err(CommandError::Usage)?;
    let (access_flags, is_tls) = (flags.access.clone(), target.server_name.is_some());
    let read = BlockingWorker::default()
        .run("healthcheck files", TIMEOUT, move || Access::read(&access_flags, is_tls))
        .await;
    let access = read.map_err(|error| CommandError::Failed(format!("cannot read a file: {error}")))?;
    let access = access.map_err(CommandError::Usage)?;

    let failed = |why: String| CommandError::Failed(format!("{HEALTHY_PATH} at {} {why}", target.shown));
    let Response { status, body } = match timeout(TIMEOUT, request_health(&target, &access)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(failed(explain_error(&*error))),
        Err(_) => return Err(failed(format!("did not respond within {} s", TIMEOUT.as_secs()))),
    };
    match status {
        StatusCode::OK => {
            print(&body);
            Ok(())
        }
        StatusCode::BAD_REQUEST if body.contains("HTTPS") => {
            Err(failed("speaks HTTPS: set --url https://HOST:PORT".to_owned()))
        }
        StatusCode::UNAUTHORIZED => Err(failed(
            "needs a user and password that it knows: set --basic-auth.username and --basic-auth.password-file".to_owned(),
        )),
        status => Err(failed(format!("returned status {}: {}", status.as_u16(), body.trim_end()))),
    }
}

async fn request_health(target: &Target, access: &Access) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(&target.address).await?;
    let host = match &target.host {
        Some(host) => host.clone(),
        // The exporter may reject the host name of the address, but not the IP address.
        None => stream.peer_addr()?.to_string(),
    };
    let mut request = Request::get(&*target.path).header(HOST, host).header(CONNECTION, "close");
    if let Some(authorization) = &access.authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    Ok(match (&access.tls, &target.server_name) {
        (Some(tls), Some(name)) => {
            let stream = TlsConnector::from(Arc::clone(tls)).connect(name.clone(), stream).await?;
            send(stream, request).await?
        }
        _ => send(stream, request).await?,
    })
}

/// Sends a request without a body to the exporter at `address`, which is `host:port`. Returns the status and the body.
pub(super) async fn request_plain(
    method: &str,
    address: &str,
    path: &str,
) -> Result<(u16, String), Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    // The exporter may reject the host name of the address, but not the IP address.
    let host = stream.peer_addr()?.to_string();
    let request = Request::builder().method(method).uri(path).header(HOST, host).header(CONNECTION, "close");
    let Response { status, body } = send(stream, request.body(Empty::<Bytes>::new())?).await?;
    Ok((status.as_u16(), body))
}

/// The predicate of a sentence about the exporter, with the fix.
fn explain_error(error: &(dyn Error + 'static)) -> String {
    let causes = || iter::successors(Some(error), |&cause| cause.source());
    let tls = causes()
        .find_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>());
    let is_http = !error
        .downcast_ref::<hyper::Error>()
        .is_some_and(|error| error.is_parse() || error.is_incomplete_message());
    // The last cause names the reason; those before it say only that the connection failed.
    let cause = causes().last().unwrap_or(error);
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
        None if !is_http => format!("does not answer in HTTP: {cause}: check the address"),
        None => {
            format!("is not reachable: {cause}: start the exporter, or set the address that it listens on")
        }
    }
}
