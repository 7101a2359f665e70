//! The keys of `[access]`: how long people stay signed in, whose footage is restricted, and which provider signs people in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::check::path;
use super::raw::Raw;

/// Names of roles and of kinds of recorders, as the rooms have them.
const ROLES: [&str; 5] = ["operator", "supervisor", "inspector", "auditor", "administrator"];
const KINDS: [&str; 3] = ["officer", "vehicle", "premises"];

/// The section `[access]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// A session ends after so long without a request.
    pub idle: Duration,
    /// A session ends after so long at the latest.
    pub longest: Duration,
    /// Departments whose footage is restricted.
    pub restricted_departments: Vec<String>,
    /// Kinds of recorders whose footage is restricted.
    pub restricted_kinds: Vec<String>,
    /// Requests that each may make in a second.
    pub requests_per_s: u32,
    /// Who else signs people in.
    pub provider: Option<Provider>,
}

/// A provider of OpenID Connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its issuer identifier.
    pub issuer: Url,
    /// What this site is called there.
    pub client_id: String,
    /// The file with the secret of this site.
    pub secret_file: Option<PathBuf>,
    /// Where it sends people back to.
    pub redirect: Url,
    /// CAs that vouch for it.
    pub ca: Option<PathBuf>,
    /// What is asked for beside `openid`.
    pub scopes: String,
    /// The claim that has the groups.
    pub groups_claim: String,
    /// Which roles a group has, each in all departments or in these.
    pub groups: BTreeMap<String, Vec<Grant>>,
}

/// A role by its name, and where it holds.
pub type Grant = (String, Option<Vec<String>>);

pub(super) fn read(raw: &mut Raw) -> Access {
    raw.section("access");
    let minutes = raw.integer("idle_minutes", 30_u64, 1..=1_440);
    let hours = raw.integer("session_hours", 12_u64, 1..=168);
    let restricted_departments =
        raw.text("restricted_departments", Vec::new(), "names, separated by commas", |text| Some(names(text)));
    let restricted_kinds = raw.text("restricted_kinds", Vec::new(), "officer, vehicle, premises", |text| {
        Some(names(text)).filter(|all| all.iter().all(|kind| KINDS.contains(&kind.as_str())))
    });
    Access {
        idle: Duration::from_secs(minutes * 60),
        longest: Duration::from_secs(hours * 60 * 60),
        restricted_departments,
        restricted_kinds,
        requests_per_s: raw.integer("requests_per_second", 300_u32, 1..=100_000),
        provider: provider(raw),
    }
}

fn provider(raw: &mut Raw) -> Option<Provider> {
    let issuer = address(raw, "oidc_issuer");
    let client_id = text(raw, "oidc_client_id", "");
    let secret_file = path(raw, "oidc_secret_file");
    let redirect = address(raw, "oidc_redirect");
    let ca = path(raw, "oidc_ca");
    let scopes = text(raw, "oidc_scopes", "profile");
    let groups_claim = text(raw, "oidc_groups_claim", "groups");
    let wanted = "names with roles, such as { \"shift\" = \"operator in Astana, Pavlodar; auditor\" }";
    let groups = raw.texts("oidc_groups", wanted, grants);
    let (Some(issuer), Some(redirect), false) = (issuer.clone(), redirect.clone(), client_id.is_empty()) else {
        if issuer.is_some() || redirect.is_some() || !client_id.is_empty() {
            raw.note("access.oidc_issuer, access.oidc_client_id and access.oidc_redirect: set all or none".to_owned());
        }
        return None;
    };
    if issuer.scheme() == "https" && ca.is_none() {
        raw.note("access.oidc_ca: needed for an issuer that begins with https".to_owned());
    }
    Some(Provider { issuer, client_id, secret_file, redirect, ca, scopes, groups_claim, groups })
}

fn text(raw: &mut Raw, key: &'static str, default: &str) -> String {
    raw.text(key, default.to_owned(), "a text", |text| Some(text.trim().to_owned()))
}

/// An address with TLS, or one of this machine.
fn address(raw: &mut Raw, key: &'static str) -> Option<Url> {
    raw.text(key, None, "\"\", or an address with https, or with http one of this machine", |text| {
        if text.is_empty() {
            return Some(None);
        }
        let url = text.parse::<Url>().ok()?;
        let local = match url.host()? {
            url::Host::Ipv4(address) => address.is_loopback(),
            url::Host::Ipv6(address) => address.is_loopback(),
            url::Host::Domain(name) => name == "localhost",
        };
        let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        (plain && (url.scheme() == "https" || url.scheme() == "http" && local)).then_some(Some(url))
    })
}

fn names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Reads `ROLE in DEPARTMENT, DEPARTMENT; ROLE`.
fn grants(text: &str) -> Option<Vec<Grant>> {
    let read = |one: &str| {
        let (role, departments) = match one.split_once(" in ") {
            Some((role, departments)) => (role.trim(), Some(names(departments)).filter(|names| !names.is_empty())?),
            None => return ROLES.contains(&one).then(|| (one.to_owned(), None)),
        };
        ROLES.contains(&role).then(|| (role.to_owned(), Some(departments)))
    };
    text.split(';').map(str::trim).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_roles_in_all_departments_or_in_some() {
        let role = |name: &str, departments: Option<&[&str]>| {
            (name.to_owned(), departments.map(|all| all.iter().map(|&one| one.to_owned()).collect()))
        };
        assert_eq!(grants("auditor").unwrap(), [role("auditor", None)]);
        let both = grants("operator in Astana, Almaty city; inspector").unwrap();
        assert_eq!(both, [role("operator", Some(&["Astana", "Almaty city"])), role("inspector", None)]);
        for wrong in ["", "king", "operator in", "operator in ,", "operator; ", "in Astana"] {
            assert_eq!(grants(wrong), None, "{wrong}");
        }
    }
}
