//! `healthcheck`: requests `/-/healthy` of a running exporter, for containers without curl.

use std::{fmt, io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::outcome::{CommandError, print};
use crate::{cli::HealthcheckFlags, quoting::quote_address};

const TIMEOUT: Duration = Duration::from_secs(5);
const RESPONSE_MAX_BYTES: u64 = 64 * 1024;

pub(super) async fn run(flags: &HealthcheckFlags) -> Result<(), CommandError> {
    let address = connect_address(flags.listen_address.first().map_or("", String::as_str));
    let shown = quote_address(&address);
    let failed = |why: &dyn fmt::Display| {
        CommandError::Failed(format!("/-/healthy at --web.listen-address{shown} {why}"))
    };
    let response = match timeout(TIMEOUT, request_health(&address)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            return Err(failed(&format!(
                "is not reachable: {error}: start the exporter, or set the address that it listens on"
            )));
        }
        Err(_) => return Err(failed(&format!("did not respond within {} s", TIMEOUT.as_secs()))),
    };
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        print(body);
        return Ok(());
    }
    Err(failed(&format!("returned status {status}: {}", body.trim_end())))
}

/// The address to connect to: the loopback address for an exporter that listens on all addresses.
fn connect_address(listen_address: &str) -> String {
    let (host, port) = listen_address.rsplit_once(':').unwrap_or((listen_address, ""));
    match host {
        "" | "0.0.0.0" => format!("127.0.0.1:{port}"),
        "[::]" => format!("[::1]:{port}"),
        _ => listen_address.to_owned(),
    }
}

async fn request_health(address: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // The exporter may reject the host name of the address, but not the IP address.
    let host = stream.peer_addr()?;
    let request = format!("GET /-/healthy HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    stream.take(RESPONSE_MAX_BYTES).read_to_end(&mut response).await?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_exporter_on_all_addresses_is_reached_by_loopback() {
        for (listens, connects) in [
            (":9", "127.0.0.1:9"),
            ("0.0.0.0:9", "127.0.0.1:9"),
            ("[::]:9", "[::1]:9"),
            ("127.0.0.2:9", "127.0.0.2:9"),
            ("localhost:9", "localhost:9"),
        ] {
            assert_eq!(super::connect_address(listens), connects);
        }
    }
}
