//! The egress groups of the file: accounts whose calls leave by one IP address, and how they do that. Opens nothing.
//! An error repeats the name of a group only if it is valid: a user may have pasted a key.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::routes::{DIRECT, RouteSettings};
use crate::{
    exchange::{DEFAULT_EGRESS, Egress, Proxy},
    yaml::required_value,
};

/// Shorter than a key.
const NAME_MAX_BYTES: usize = 30;
const EXAMPLE: &str = "write `egress: [{name: office, source_address: 192.0.2.1}]`";

/// A group as the file describes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EgressYaml {
    name: String,
    #[serde(default, deserialize_with = "required_value")]
    source_address: Option<String>,
    #[serde(default, deserialize_with = "required_value")]
    proxy_url: Option<String>,
    #[serde(default, deserialize_with = "required_value")]
    proxy_credentials_file: Option<PathBuf>,
}

/// The groups, by name.
pub(super) struct EgressGroups<'a>(BTreeMap<&'a str, EgressGroup<'a>>);

/// A valid group.
pub(super) struct EgressGroup<'a> {
    pub egress: Egress,
    yaml: &'a EgressYaml,
}

impl<'a> EgressGroups<'a> {
    /// Validates the groups of the file.
    ///
    /// # Errors
    /// What is wrong with the first invalid group, and how to fix it.
    pub(super) fn new(yaml: &'a [EgressYaml]) -> Result<Self, String> {
        let mut groups = BTreeMap::<&str, EgressGroup<'_>>::new();
        for (index, yaml) in yaml.iter().enumerate() {
            check_name(&yaml.name).map_err(|why| format!("egress[{index}].name: the name {why}"))?;
            let egress = yaml.egress().map_err(|why| format!("egress '{}': {why}", yaml.name))?;
            if let Some(other) = groups.values().find(|other| other.egress.address == egress.address) {
                return Err(format!(
                    "egress groups '{}' and '{}' have the same address, so they would share its limit: put their accounts into one group",
                    other.egress.name, egress.name
                ));
            }
            if groups.insert(&yaml.name, EgressGroup { egress, yaml }).is_some() {
                return Err(format!("two egress groups are named '{}': rename one of them", yaml.name));
            }
        }
        Ok(Self(groups))
    }

    /// The group with this `name`, or `None` for an account that names none in a file without groups.
    ///
    /// # Errors
    /// If there is no such group, or if an account names none although there are groups: its calls might leave by the
    /// address of one of them.
    pub(super) fn find(&self, name: Option<&str>) -> Result<Option<&EgressGroup<'a>>, String> {
        let known = || self.0.keys().copied().collect::<Vec<_>>().join(", ");
        match name {
            Some(name) => match self.0.get(name) {
                Some(group) => Ok(Some(group)),
                None if self.0.is_empty() => {
                    Err(format!("egress names a group, but the file lists none: {EXAMPLE}"))
                }
                None => Err(format!("egress names an unknown group: the file lists {}", known())),
            },
            None if self.0.is_empty() => Ok(None),
            None => Err(format!(
                "egress is not set, but the file lists groups, and without one the calls may leave by the address of a group: name one of {}",
                known()
            )),
        }
    }

    /// The default group and all others.
    pub(super) fn all(&self) -> Vec<Egress> {
        let groups = self.0.values().map(|group| group.egress.clone());
        std::iter::once(Egress::default()).chain(groups).collect()
    }
}

impl EgressGroup<'_> {
    /// The settings of the routes of an account in this group, with the account's own `ca_file`. A source address is used
    /// without a proxy, also without one of the environment.
    pub(super) fn routes<'b>(&'b self, ca_file: Option<&'b Path>) -> RouteSettings<'b> {
        RouteSettings {
            proxy_url: Some(self.yaml.proxy_url.as_deref().unwrap_or(DIRECT)),
            proxy_credentials_file: self.yaml.proxy_credentials_file.as_deref(),
            ca_file,
        }
    }
}

impl EgressYaml {
    fn egress(&self) -> Result<Egress, String> {
        let (source_address, address) = match (&self.source_address, &self.proxy_url) {
            (Some(_), Some(_)) => {
                return Err("has a source_address and a proxy_url: remove one of them".to_owned());
            }
            (None, None) => return Err(format!("needs a source_address or a proxy_url: {EXAMPLE}")),
            (Some(_), None) if self.proxy_credentials_file.is_some() => {
                return Err("proxy_credentials_file is set, but there is no proxy: remove it".to_owned());
            }
            (Some(text), None) => {
                let address = parse_source_address(text)?;
                (Some(address), address.to_string())
            }
            (None, Some(url)) if url == DIRECT => {
                return Err("proxy_url must be the URL of a proxy: set source_address to leave without one"
                    .to_owned());
            }
            (None, Some(url)) => {
                let (proxy, _) = Proxy::parse(url).map_err(|why| format!("proxy_url {why}"))?;
                (None, format!("proxy {proxy}"))
            }
        };
        Ok(Egress { name: self.name.as_str().into(), address: address.into(), source_address })
    }
}

/// Checks a name. The error is the predicate of a sentence.
fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !(1..=NAME_MAX_BYTES).contains(&name.len()) || !name.chars().all(is_plain) {
        return Err(format!("must have 1 to {NAME_MAX_BYTES} letters, digits, - and _"));
    }
    if name == DEFAULT_EGRESS {
        return Err(format!(
            "{DEFAULT_EGRESS} is reserved for calls outside of all groups: choose another name"
        ));
    }
    Ok(())
}

fn parse_source_address(text: &str) -> Result<IpAddr, String> {
    let address = text.parse::<IpAddr>().map(|address| address.to_canonical());
    let is_multicast = |address: &IpAddr| address.is_multicast() || address.is_unspecified();
    address.ok().filter(|address| !is_multicast(address)).ok_or_else(|| {
        "source_address is not an IP address of this machine: write it like 192.0.2.1".to_owned()
    })
}
