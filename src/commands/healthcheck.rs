//! `healthcheck`: asks a running daemon's `/-/healthy`, for containers that have no curl.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{CommandError, print};
use crate::{cli::HealthcheckFlags, quoting};

const TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_MAX_BYTES: u64 = 64 * 1024;

pub(super) async fn run(flags: &HealthcheckFlags) -> Result<(), CommandError> {
    let address = reachable(&flags.listen_address);
    let shown = quoting::quote_address(&address);
    let answer = match timeout(TIMEOUT, ask(&address)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            return Err(CommandError::Failed(format!(
                "cannot ask http://{shown}/-/healthy: {error}: is the daemon running, and does it listen there?"
            )));
        }
        Err(_) => {
            return Err(CommandError::Failed(format!(
                "http://{shown}/-/healthy has not answered within 5 s"
            )));
        }
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        print(body);
        return Ok(());
    }
    Err(CommandError::Failed(format!("http://{shown}/-/healthy answered {status}: {}", body.trim_end())))
}

/// Where to reach a daemon that was told to listen there: all addresses include this machine's own.
fn reachable(listen_address: &str) -> String {
    let (host, port) = listen_address.rsplit_once(':').unwrap_or((listen_address, ""));
    match host {
        "" | "0.0.0.0" => format!("127.0.0.1:{port}"),
        "[::]" => format!("[::1]:{port}"),
        _ => listen_address.to_owned(),
    }
}

async fn ask(address: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // By the address and not by its name, which the daemon may not answer for.
    let host = stream.peer_addr()?;
    let request = format!("GET /-/healthy HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_daemon_on_all_addresses_is_asked_on_this_machine() {
        for (listens, asked) in [
            (":9", "127.0.0.1:9"),
            ("0.0.0.0:9", "127.0.0.1:9"),
            ("[::]:9", "[::1]:9"),
            ("127.0.0.2:9", "127.0.0.2:9"),
            ("localhost:9", "localhost:9"),
        ] {
            assert_eq!(super::reachable(listens), asked);
        }
    }
}
