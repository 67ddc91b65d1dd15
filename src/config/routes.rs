//! Chooses the route to each base URL: by the settings of the account, or else by the variables `HTTPS_PROXY`, `ALL_PROXY`
//! and `NO_PROXY`. Opens the files that the settings name, each once. Sends nothing.

use std::{
    collections::HashMap,
    ffi::OsString,
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;

use super::paths::resolve_path;
use crate::{
    exchange::{BaseUrl, Egress, Proxy, RootStore, Route},
    quoting::quote_existing_path,
};

/// Looks up an environment variable.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The variables that name a proxy, in order of precedence.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const NO_PROXY_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// The value of `proxy_url` that ignores the environment.
pub(super) const DIRECT: &str = "direct";

/// The settings of an account's routes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RouteSettings<'a> {
    pub proxy_url: Option<&'a str>,
    pub proxy_credentials_file: Option<&'a Path>,
    pub ca_file: Option<&'a Path>,
}

/// The names of the settings, for errors.
#[derive(Clone, Copy)]
pub(super) struct RouteSettingNames {
    pub proxy_url: &'static str,
    pub proxy_credentials_file: &'static str,
    pub ca_file: &'static str,
}

/// The variables of the environment that choose a proxy.
#[derive(Clone, Debug, Default)]
pub(super) struct ProxyEnvironment {
    /// The name and the value of the first variable that is set.
    proxy: Option<(&'static str, OsString)>,
    no_proxy: String,
}

/// The routes of all accounts, which share the files that they name.
#[derive(Debug, Default)]
pub(super) struct Routes {
    environment: ProxyEnvironment,
    /// The folder of relative paths.
    folder: PathBuf,
    roots: HashMap<PathBuf, Arc<RootStore>>,
    proxies: HashMap<(String, Option<PathBuf>), Arc<Proxy>>,
}

/// How the proxy of a base URL was chosen.
#[derive(Debug, PartialEq)]
enum Choice<'a> {
    Direct,
    /// By `proxy_url`.
    Setting,
    /// By the variable with this name and value.
    Variable(&'static str, &'a str),
}

impl ProxyEnvironment {
    /// `env` looks up a variable; an empty one counts as unset.
    pub(super) fn read(env: Env<'_>) -> Self {
        let no_proxy = NO_PROXY_VARIABLES.into_iter().find_map(env).unwrap_or_default();
        Self {
            proxy: PROXY_VARIABLES.into_iter().find_map(|name| Some((name, env(name)?))),
            no_proxy: no_proxy.to_string_lossy().into_owned(),
        }
    }
}

/// Chooses the proxy for `base`. A base URL on this machine never has one, and a setting overrides the whole environment.
fn choose<'a>(base: &BaseUrl, proxy_url: Option<&str>, environment: &'a ProxyEnvironment) -> Choice<'a> {
    if base.is_loopback() {
        return Choice::Direct;
    }
    let (host, port) = base.host_and_port();
    match (proxy_url, &environment.proxy) {
        (Some(DIRECT), _) | (None, None) => Choice::Direct,
        (Some(_), _) => Choice::Setting,
        (None, Some(_)) if is_exempt(host, port, &environment.no_proxy) => Choice::Direct,
        // A value that is not UTF-8 is no URL.
        (None, Some((name, url))) => Choice::Variable(name, url.to_str().unwrap_or_default()),
    }
}

/// Rejects a proxy for an IPv6 address: the HTTP library opens the tunnel, and then takes the brackets around the address for
/// a part of the name in the certificate, so that every call would fail.
fn check_tunnel(base: &BaseUrl, choice: &Choice<'_>, names: RouteSettingNames) -> Result<(), String> {
    let (host, _) = base.host_and_port();
    let direct = format!("set {} to direct", names.proxy_url);
    let (setting, exempt) = match choice {
        Choice::Direct => return Ok(()),
        // A setting overrides NO_PROXY.
        Choice::Setting => (names.proxy_url, direct),
        Choice::Variable(name, _) => (*name, format!("set NO_PROXY={host}, or {direct}")),
    };
    if host.parse::<Ipv6Addr>().is_err() {
        return Ok(());
    }
    Err(format!(
        "{setting} names a proxy, but the base URL {base} is an IPv6 address, to which the exporter cannot open a tunnel: \
         write a host name in the base URL, or {exempt}"
    ))
}

/// Whether the list `no_proxy` exempts a host: `*`, a domain with or without a leading dot or `*.`, which includes its
/// subdomains, an IP address, or a network. An entry may end in a port.
fn is_exempt(host: &str, port: u16, no_proxy: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    no_proxy.split([',', ' ']).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        let (name, only_port) = split_port(entry);
        if only_port.is_some_and(|only| only != port) {
            return false;
        }
        match address {
            Some(address) => {
                name.parse::<IpNet>().is_ok_and(|network| network.contains(&address))
                    || name.parse::<IpAddr>().is_ok_and(|known| known == address)
            }
            None => is_domain_of(host, name),
        }
    })
}

/// Splits `host:port`, `[address]:port` or `[address]`.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some((address, rest)) = entry.strip_prefix('[').and_then(|entry| entry.split_once(']')) {
        return (address, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match entry.split_once(':') {
        // More colons are an IPv6 address.
        Some((name, port)) if !port.contains(':') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

/// Whether `host` is `domain` or a subdomain of it.
fn is_domain_of(host: &str, domain: &str) -> bool {
    let domain =
        domain.trim_start_matches('*').trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let rest = host.strip_suffix(domain.as_str()).filter(|_| !domain.is_empty());
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl Routes {
    pub(super) fn new(environment: ProxyEnvironment, folder: &Path) -> Self {
        Self { environment, folder: folder.to_owned(), ..Self::default() }
    }

    /// The route to `base`. May block.
    ///
    /// # Errors
    /// A sentence that begins with the name of the setting or variable.
    pub(super) fn route(
        &mut self,
        base: &BaseUrl,
        settings: RouteSettings<'_>,
        names: RouteSettingNames,
    ) -> Result<Route, String> {
        let roots = settings.ca_file.map(|path| self.open_roots(path, names)).transpose()?;
        self.check_credentials_file(settings, names)?;
        let environment = self.environment.clone();
        // Validated even if no base URL uses it.
        let set = settings.proxy_url.filter(|url| *url != DIRECT);
        let set = set.map(|url| self.open_proxy(names.proxy_url, url, settings, names)).transpose()?;
        let choice = choose(base, settings.proxy_url, &environment);
        check_tunnel(base, &choice, names)?;
        let proxy = match choice {
            Choice::Direct => None,
            Choice::Setting => set,
            Choice::Variable(name, url) => {
                // As curl and Prometheus read it.
                let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
                Some(self.open_proxy(name, &url, settings, names)?)
            }
        };
        Ok(Route { proxy, roots, egress: Egress::default() })
    }

    /// Rejects a file with a password that no proxy would get.
    fn check_credentials_file(
        &self,
        settings: RouteSettings<'_>,
        names: RouteSettingNames,
    ) -> Result<(), String> {
        let has_proxy = match settings.proxy_url {
            Some(url) => url != DIRECT,
            None => self.environment.proxy.is_some(),
        };
        if has_proxy || settings.proxy_credentials_file.is_none() {
            return Ok(());
        }
        Err(format!(
            "{} is set, but there is no proxy: set {}, or remove it",
            names.proxy_credentials_file, names.proxy_url
        ))
    }

    fn open_roots(&mut self, path: &Path, names: RouteSettingNames) -> Result<Arc<RootStore>, String> {
        let path = resolve_path(&self.folder, path);
        if let Some(roots) = self.roots.get(&path) {
            return Ok(Arc::clone(roots));
        }
        let roots = RootStore::open(Some(&path))
            .map_err(|why| format!("{}{} {why}", names.ca_file, quote_existing_path(&path)))?;
        let roots = Arc::new(roots);
        self.roots.insert(path, Arc::clone(&roots));
        Ok(roots)
    }

    /// The proxy at `url`, which `setting` names.
    fn open_proxy(
        &mut self,
        setting: &str,
        url: &str,
        settings: RouteSettings<'_>,
        names: RouteSettingNames,
    ) -> Result<Arc<Proxy>, String> {
        let file = settings.proxy_credentials_file.map(|path| resolve_path(&self.folder, path));
        let key = (url.to_owned(), file.clone());
        if let Some(proxy) = self.proxies.get(&key) {
            return Ok(Arc::clone(proxy));
        }
        let (proxy, credentials) = Proxy::parse(url).map_err(|why| format!("{setting} {why}"))?;
        let proxy = match (credentials, file) {
            (None, None) => proxy,
            (Some(_), _) if setting == names.proxy_url => {
                return Err(format!(
                    "{setting} must not hold a user or password, because others can read it: write user:password into a file and name it with {}",
                    names.proxy_credentials_file
                ));
            }
            (Some(_), Some(_)) => {
                return Err(format!(
                    "{setting} holds a user or password, but {} is set too: remove one of them",
                    names.proxy_credentials_file
                ));
            }
            (Some(credentials), None) => proxy.with_credentials(credentials),
            (None, Some(path)) => proxy.with_credentials_file(&path).map_err(|why| {
                format!("{}{} {why}", names.proxy_credentials_file, quote_existing_path(&path))
            })?,
        };
        let proxy = Arc::new(proxy);
        self.proxies.insert(key, Arc::clone(&proxy));
        Ok(proxy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(url: &str) -> BaseUrl {
        BaseUrl::parse(url).unwrap_or_else(|why| panic!("{why}"))
    }

    fn environment(variables: &[(&str, &str)]) -> ProxyEnvironment {
        let env =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        ProxyEnvironment::read(&env)
    }

    #[test]
    fn a_setting_precedes_the_environment_and_loopback_is_always_direct() {
        let (exchange, proxy, other) = ("https://sapi.xt.com", "http://proxy:3128", "http://other:1");
        let https = [("HTTPS_PROXY", proxy)];
        for (url, setting, variables, expected) in [
            (exchange, None, &[][..], Choice::Direct),
            (exchange, None, &https, Choice::Variable("HTTPS_PROXY", proxy)),
            (exchange, None, &[("https_proxy", proxy)], Choice::Variable("https_proxy", proxy)),
            (exchange, None, &[("all_proxy", proxy)], Choice::Variable("all_proxy", proxy)),
            (
                exchange,
                None,
                &[("ALL_PROXY", other), ("https_proxy", proxy)],
                Choice::Variable("https_proxy", proxy),
            ),
            (exchange, None, &[("HTTP_PROXY", proxy)], Choice::Direct),
            (exchange, None, &[("HTTPS_PROXY", proxy), ("no_proxy", ".xt.com")], Choice::Direct),
            (
                exchange,
                None,
                &[("HTTPS_PROXY", proxy), ("NO_PROXY", "a.b"), ("no_proxy", "*")],
                Choice::Variable("HTTPS_PROXY", proxy),
            ),
            (exchange, Some(other), &https, Choice::Setting),
            (exchange, Some(other), &[("NO_PROXY", "*")], Choice::Setting),
            (exchange, Some("direct"), &https, Choice::Direct),
            ("https://localhost:8443", None, &https, Choice::Direct),
            ("https://127.9.9.9", Some(other), &[], Choice::Direct),
            ("https://[::1]", None, &https, Choice::Direct),
            ("http://127.0.0.1:8470", None, &https, Choice::Direct),
        ] {
            let environment = environment(variables);
            assert_eq!(
                choose(&base(url), setting, &environment),
                expected,
                "{url} {setting:?} {variables:?}"
            );
        }
    }

    #[test]
    fn no_proxy_lists_hosts_domains_addresses_networks_and_ports() {
        for (list, host, port) in [
            ("*", "sapi.xt.com", 443),
            ("a.b, xt.com", "sapi.xt.com", 443),
            ("a.b xt.com", "xt.com", 443),
            (".XT.com", "sapi.xt.com", 443),
            (".xt.com", "xt.com", 443),
            ("*.xt.com", "sapi.xt.com", 443),
            ("xt.com.", "sapi.xt.com", 443),
            ("sapi.xt.com:443", "sapi.xt.com", 443),
            ("192.0.2.7", "192.0.2.7", 443),
            ("192.0.2.0/24", "192.0.2.7", 443),
            ("192.0.2.7:8443", "192.0.2.7", 8443),
            ("*", "192.0.2.7", 443),
            ("2001:db8::1", "2001:db8::1", 443),
            ("[2001:db8::1]", "2001:db8::1", 443),
            ("[2001:db8::1]:443", "2001:db8::1", 443),
            ("2001:db8::/32", "2001:db8::1", 443),
        ] {
            assert!(is_exempt(host, port, list), "{list}: {host}:{port}");
        }
        for (list, host, port) in [
            ("", "sapi.xt.com", 443),
            (",, ,", "sapi.xt.com", 443),
            (".", "sapi.xt.com", 443),
            ("*.", "sapi.xt.com", 443),
            ("t.com", "xt.com", 443),
            ("api.xt.com", "xt.com", 443),
            ("sapi.xt.com:8443", "sapi.xt.com", 443),
            ("xt.com:x", "xt.com", 443),
            ("192.0.2.8,192.0.3.0/24,192.0.2.7:1", "192.0.2.7", 443),
            ("0.0.2.7", "192.0.2.7", 443),
            ("2001:db8::1", "2001:db8::2", 443),
            ("192.0.2.0/24", "sapi.xt.com", 443),
        ] {
            assert!(!is_exempt(host, port, list), "{list}: {host}:{port}");
        }
    }
}
