//! The keys of `[webhooks]`: where events are sent, and which addresses that may be.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use toml::{Table, Value};
use url::Url;

use super::check::path;
use super::raw::Raw;

/// Most webhooks of the configuration.
const WEBHOOKS_MAX: usize = 32;
/// Longest name, bytes.
const NAME_BYTES_MAX: usize = 64;

/// The section `[webhooks]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhooks {
    /// Where events are sent.
    pub endpoints: Vec<Webhook>,
    /// Networks that are not of the whole internet and may be reached.
    pub private: Vec<IpNet>,
    /// CAs that vouch for those with https.
    pub ca: Option<PathBuf>,
}

/// Where events are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// What it is called.
    pub name: String,
    /// Where it listens.
    pub url: Url,
    /// The file with its secret.
    pub secret_file: PathBuf,
    /// Only these kinds of events; all if there are none.
    pub kinds: Vec<String>,
    /// Only events of this department.
    pub department: Option<String>,
}

pub(super) fn read(raw: &mut Raw) -> Webhooks {
    raw.section("webhooks");
    let wanted = "a list of at most 32 different { name, url, secret_file, kinds, department }, the name of letters, digits, hyphens and \
                  underscores, the address with https or http";
    let endpoints = raw.tables("endpoints", Vec::new(), wanted, endpoint);
    let names: BTreeSet<&str> = endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    if names.len() != endpoints.len() || endpoints.len() > WEBHOOKS_MAX {
        raw.note(format!("webhooks.endpoints: must be {wanted}"));
    }
    let private = raw.text("private", Vec::new(), "networks, separated by commas, such as \"10.20.0.0/16\"", |text| {
        let each = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        each.map(|one| one.parse().or_else(|_| one.parse::<IpAddr>().map(IpNet::from)).ok()).collect()
    });
    Webhooks { endpoints, private, ca: path(raw, "ca") }
}

fn endpoint(table: &Table) -> Option<Webhook> {
    const KEYS: [&str; 5] = ["name", "url", "secret_file", "kinds", "department"];
    if !table.keys().all(|key| KEYS.contains(&key.as_str())) {
        return None;
    }
    let text = |key: &str| table.get(key)?.as_str().filter(|text| !text.is_empty());
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name = text("name").filter(|name| name.len() <= NAME_BYTES_MAX && name.chars().all(plain))?;
    let url: Url = text("url")?.parse().ok()?;
    let listed = |value: &Value| value.as_array()?.iter().map(|one| one.as_str().map(str::to_owned)).collect();
    Some(Webhook {
        name: name.to_owned(),
        url: Some(url).filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?,
        secret_file: text("secret_file")?.into(),
        kinds: table.get("kinds").map_or(Some(Vec::new()), listed)?,
        department: table.get("department").map_or(Some(None), |value| Some(Some(value.as_str()?.to_owned())))?,
    })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_webhook_needs_a_name_an_address_and_a_secret() {
        let text = "[webhooks]\nprivate = \"10.0.0.0/8, 127.0.0.1\"\nendpoints = [{ name = \"cad\", url = \"https://cad.example/hook\", \
                    secret_file = \"/etc/aigaq/cad\", kinds = [\"mark\"] }]";
        let webhooks = Config::parse(text).unwrap().webhooks;
        assert_eq!((webhooks.endpoints.len(), webhooks.private.len()), (1, 2));
        assert_eq!(webhooks.endpoints[0].kinds, ["mark"]);
        for wrong in [
            "[{ name = \"cad\" }]",
            "[{ name = \"c a d\", url = \"https://a.b/\", secret_file = \"x\" }]",
            "[{ name = \"cad\", url = \"ftp://a.b/\", secret_file = \"x\" }]",
            "[{ name = \"cad\", url = \"https://a.b/\", secret_file = \"x\", secret = \"y\" }]",
        ] {
            let refused = Config::parse(&format!("[webhooks]\nendpoints = {wrong}")).unwrap_err();
            assert!(refused.to_string().contains("webhooks.endpoints"), "{refused}");
        }
        assert!(Config::parse("[webhooks]\nprivate = \"inside\"").is_err());
    }
}
