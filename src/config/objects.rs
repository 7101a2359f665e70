//! The keys of `[store]` that choose a bucket in the place of the local disk.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::check::path;
use super::raw::Raw;

/// A bucket of an S3-compatible object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objects {
    /// The address of the service.
    pub endpoint: Url,
    /// Its region.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// Below which name everything lies.
    pub prefix: String,
    /// The file with the credentials.
    pub credentials: PathBuf,
    /// CAs that vouch for the service.
    pub ca: Option<PathBuf>,
    /// How long the ledger gathers before it writes.
    pub flush_interval: Duration,
}

/// Takes the keys out, after those of the disk.
pub(super) fn read(raw: &mut Raw) -> Option<Objects> {
    let is_s3 = raw.text("engine", false, "rocksdb or s3", |text| match text {
        "rocksdb" => Some(false),
        "s3" => Some(true),
        _ => None,
    });
    let wanted = "\"\", or an address with https, or with http one of this machine, without a path";
    let endpoint = raw.text("s3_endpoint", None, wanted, endpoint);
    let name = |raw: &mut Raw, key, default: &str, wanted: &str, more: &'static str| {
        raw.text(key, default.to_owned(), wanted, |text| plain(text, more).then(|| text.to_owned()))
    };
    let letters = "letters, digits, hyphens, dots and underscores";
    let region = name(raw, "s3_region", "us-east-1", letters, "-._");
    let bucket = name(raw, "s3_bucket", "", letters, "-._");
    let below = "letters, digits, hyphens, dots, underscores, and slashes between them";
    let prefix = raw.text("s3_prefix", "aigaq".to_owned(), below, |text| {
        text.split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && plain(part, "-._"))
            .then(|| text.to_owned())
    });
    let (credentials, ca) = (path(raw, "s3_credentials"), path(raw, "s3_ca"));
    let flush_interval = Duration::from_millis(raw.integer("s3_flush_ms", 50_u64, 10..=1_000));
    if !is_s3 {
        if endpoint.is_some() || !bucket.is_empty() || credentials.is_some() {
            raw.note(
                "store.s3_endpoint, store.s3_bucket and store.s3_credentials: only with store.engine = \"s3\""
                    .to_owned(),
            );
        }
        return None;
    }
    let (Some(endpoint), Some(credentials), false) = (endpoint, credentials, bucket.is_empty()) else {
        raw.note(
            "store.s3_endpoint, store.s3_bucket and store.s3_credentials: needed with store.engine = \"s3\"".to_owned(),
        );
        return None;
    };
    Some(Objects { endpoint, region, bucket, prefix, credentials, ca, flush_interval })
}

fn plain(text: &str, more: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

/// What is signed is not what is secret: evidence goes over TLS, or nowhere.
fn endpoint(text: &str) -> Option<Option<Url>> {
    if text.is_empty() {
        return Some(None);
    }
    let url = text.parse::<Url>().ok()?;
    let local = match url.host()? {
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
        url::Host::Domain(name) => name == "localhost",
    };
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let nobody = url.username().is_empty() && url.password().is_none();
    (bare && nobody && (url.scheme() == "https" || url.scheme() == "http" && local)).then_some(Some(url))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    const GOOD: &str = "[store]\nengine = \"s3\"\ns3_endpoint = \"https://s3.example.kz\"\ns3_bucket = \"evidence\"\n\
                        s3_credentials = \"/etc/aigaq/s3\"\n";

    #[test]
    fn a_bucket_needs_an_address_a_name_and_credentials() {
        let objects = Config::parse(GOOD).unwrap().store.objects.unwrap();
        assert_eq!((objects.bucket.as_str(), objects.prefix.as_str()), ("evidence", "aigaq"));
        assert_eq!(Config::default().store.objects, None);
        for (line, problem) in [
            ("s3_endpoint", "needed with"),
            ("s3_bucket", "needed with"),
            ("s3_credentials", "needed with"),
            ("engine", "only with"),
        ] {
            let text: String =
                GOOD.lines().filter(|of| !of.starts_with(line)).map(|line| format!("{line}\n")).collect();
            let refused = Config::parse(&text).unwrap_err().to_string();
            assert!(refused.contains(problem), "{line}: {refused}");
        }
    }

    #[test]
    fn evidence_goes_over_tls_or_stays_on_this_machine() {
        let with = |endpoint: &str| Config::parse(&GOOD.replace("https://s3.example.kz", endpoint));
        for good in ["http://127.0.0.1:8333", "http://localhost:8333/", "https://[2001:db8::1]:9000"] {
            with(good).unwrap();
        }
        for bad in ["http://10.0.0.1", "https://a:b@s3.example.kz", "https://s3.example.kz/evidence", "ftp://localhost"]
        {
            assert!(with(bad).unwrap_err().to_string().contains("store.s3_endpoint"), "{bad}");
        }
        for bad in ["/aigaq", "a//b", "..", "a b"] {
            assert!(Config::parse(&format!("{GOOD}s3_prefix = \"{bad}\"\n")).is_err(), "{bad}");
        }
    }
}
