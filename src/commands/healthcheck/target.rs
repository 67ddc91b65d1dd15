//! Where the exporter is that `healthcheck` asks: an address that it listens on, or a URL. Reads no file and connects to
//! nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::Uri;
use rustls::pki_types::ServerName;

use crate::{
    cli::{HealthcheckFlags, ListenAddress},
    exchange::parse_port,
    quoting::quote_address,
};

pub(super) const HEALTHY_PATH: &str = "/-/healthy";

/// Where and how to connect, and what to request.
#[derive(Debug)]
pub(super) struct Target {
    /// The flag, and the address where an error may repeat it.
    pub shown: String,
    /// `host:port`, to connect to.
    pub address: String,
    /// The value of the header `Host`; `None` for the IP address of the connection.
    pub host: Option<String>,
    /// Path of the request.
    pub path: String,
    /// The name in the exporter's certificate; `None` without TLS.
    pub server_name: Option<ServerName<'static>>,
}

impl Target {
    /// # Errors
    /// If the URL is invalid, or flags do not fit it.
    pub(super) fn new(flags: &HealthcheckFlags) -> Result<Self, String> {
        let target = match &flags.url {
            Some(url) => Self::from_url(url, flags.access.server_name.as_deref())?,
            None => Self::from_listen_address(flags.listen_address.first())?,
        };
        let access = &flags.access;
        let has_tls_flags = [&access.ca_file, &access.cert_file].iter().any(|file| file.is_some())
            || access.server_name.is_some();
        if has_tls_flags && target.server_name.is_none() {
            return Err("the --tls flags need --url https://HOST:PORT".to_owned());
        }
        if access.username.is_some() && target.server_name.is_none() && !is_loopback(&target.address) {
            return Err(
                "a password is sent to another machine only with TLS: set --url https://HOST:PORT".to_owned()
            );
        }
        Ok(target)
    }

    fn from_listen_address(listen_address: Option<&ListenAddress>) -> Result<Self, String> {
        let listen_address = listen_address.filter(|address| address.port() != 0).ok_or(
            "--web.listen-address has port 0, which stands for any free port: write the port that the exporter listens on",
        )?;
        let address = connect_address(listen_address);
        Ok(Self {
            shown: format!("--web.listen-address{}", quote_address(&address)),
            address,
            host: None,
            path: HEALTHY_PATH.to_owned(),
            server_name: None,
        })
    }

    fn from_url(url: &str, server_name: Option<&str>) -> Result<Self, String> {
        let invalid =
            || "--url is not a valid URL: write it like https://exporter.example.com:10770".to_owned();
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let (host, authority) = uri.host().zip(uri.authority()).ok_or_else(invalid)?;
        let default_port = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(invalid()),
        };
        if authority.as_str().contains('@') {
            let why = "every user of the machine can read the command line";
            return Err(format!("--url contains a password, but {why}: set --basic-auth.password-file"));
        }
        // The parser drops a fragment.
        if url.contains(['?', '#']) {
            return Err("--url must end after the path: remove what follows ? or #".to_owned());
        }
        let port = parse_port(authority.as_str()).map_err(|why| format!("--url {why}"))?;
        let address = format!("{host}:{}", port.unwrap_or(default_port));
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix(HEALTHY_PATH).unwrap_or(path);
        let name = server_name.unwrap_or_else(|| host.trim_matches(['[', ']']));
        let server_name = if uri.scheme_str() == Some("https") {
            let name = ServerName::try_from(name.to_owned());
            Some(
                name.map_err(|_| "--tls.server-name is not a host name: write it like exporter.example.com")?,
            )
        } else {
            None
        };
        Ok(Self {
            shown: format!("--url{}", quote_address(&address)),
            address,
            host: Some(authority.to_string()),
            path: format!("{path}{HEALTHY_PATH}"),
            server_name,
        })
    }
}

/// The address to connect to: the loopback address for an exporter that listens on all addresses.
pub(crate) fn connect_address(listen_address: &ListenAddress) -> String {
    match listen_address {
        ListenAddress::AllAddresses(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, *port)).to_string(),
        ListenAddress::Socket(address) if address.ip().is_unspecified() => {
            let loopback: IpAddr =
                if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            SocketAddr::new(loopback, address.port()).to_string()
        }
        ListenAddress::Socket(_) | ListenAddress::Name(..) => listen_address.to_string(),
    }
}

/// Whether `host:port` is on this machine.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exporter_on_all_addresses_is_reached_by_loopback() {
        for (listens, connects) in [
            (":9", "127.0.0.1:9"),
            ("0.0.0.0:9", "127.0.0.1:9"),
            ("[::]:9", "[::1]:9"),
            ("127.0.0.2:9", "127.0.0.2:9"),
            ("localhost:9", "localhost:9"),
        ] {
            let address = listens.parse::<ListenAddress>();
            assert_eq!(address.map(|address| connect_address(&address)), Ok(connects.to_owned()));
        }
    }

    #[test]
    fn a_url_names_host_port_and_path() -> Result<(), String> {
        for (url, address, path) in [
            ("http://localhost", "localhost:80", "/-/healthy"),
            ("https://exporter.example.com", "exporter.example.com:443", "/-/healthy"),
            ("https://[::1]:10770/", "[::1]:10770", "/-/healthy"),
            ("https://example.com/xt/", "example.com:443", "/xt/-/healthy"),
            ("https://example.com/xt/-/healthy", "example.com:443", "/xt/-/healthy"),
        ] {
            let target = Target::from_url(url, None)?;
            assert_eq!((&*target.address, &*target.path), (address, path), "{url}");
            assert_eq!(target.server_name.is_some(), url.starts_with("https"), "{url}");
        }
        for (url, why) in [
            ("localhost:10770", "not a valid URL"),
            ("ftp://localhost", "not a valid URL"),
            ("https://user:hunter2@localhost", "--basic-auth.password-file"),
            ("https://localhost/?hunter2", "remove what follows"),
            ("https://localhost/#hunter2", "remove what follows"),
            ("https://localhost:99999", "a number from 1 to 65535"),
            ("https://localhost:4294967296/x", "a number from 1 to 65535"),
            ("http://localhost:", "a number from 1 to 65535"),
            ("http://[::1]:0", "a number from 1 to 65535"),
            ("hunter2", "not a valid URL"),
        ] {
            let error = Target::from_url(url, None).err().unwrap_or_default();
            assert!(error.contains(why) && !error.contains("hunter2"), "{url}: {error}");
        }
        Ok(())
    }

    #[test]
    fn only_loopback_addresses_are_this_machine() {
        for (address, expected) in [
            ("localhost:80", true),
            ("127.0.0.9:80", true),
            ("[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("192.0.2.1:80", false),
            ("localhost.example.com:80", false),
        ] {
            assert_eq!(is_loopback(address), expected, "{address}");
        }
    }
}
