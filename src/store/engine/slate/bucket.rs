//! The bucket: how an S3-compatible object store is reached, with bounded retries and time-outs.
//!
//! Promises: what is read from the file with the credentials is in no error, no log and no `Debug`.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use toml::{Table, Value};
use url::Url;

use crate::error::{Context as _, Error, Kind, Result};

/// One request, its retries left out.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(25);
/// Until there is a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Attempts of a request beyond the first that the client makes by itself; those above it make more.
const RETRIES_MAX: usize = 3;
/// … and no later than this after the first.
const RETRY_TIMEOUT: Duration = Duration::from_secs(25);
/// What a file with credentials holds at most, bytes.
const CREDENTIALS_BYTES_MAX: u64 = 16 << 10;

/// Where the bucket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The address of the service.
    pub endpoint: Url,
    /// Its region, which is signed.
    pub region: String,
    /// The bucket's name.
    pub name: String,
    /// Below which name everything of this store lies.
    pub prefix: String,
    /// The file with the credentials.
    pub credentials: PathBuf,
    /// Certificates of the CAs that vouch for the service, in the place of those of the system.
    pub ca: Option<PathBuf>,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.endpoint)
    }
}

impl Bucket {
    /// A client of it. Asks nothing of it yet.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the credentials or certificates do not read.
    pub fn connect(&self) -> Result<Arc<dyn ObjectStore>> {
        let credentials = Credentials::read(&self.credentials)?;
        let is_plain = self.endpoint.scheme() == "http";
        let mut client = ClientOptions::new()
            .with_allow_http(is_plain)
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT);
        if let Some(ca) = &self.ca {
            let failed = || format!("cannot read the certificates {}", ca.display());
            let pem = std::fs::read(ca).context(Kind::Invalid, failed())?;
            for certificate in Certificate::from_pem_bundle(&pem).context(Kind::Invalid, failed())? {
                client = client.with_root_certificate(certificate);
            }
            client = client.with_no_system_certificates(true);
        }
        let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() };
        let retry = RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT };
        let mut builder = AmazonS3Builder::new()
            .with_endpoint(self.endpoint.as_str().trim_end_matches('/'))
            .with_region(&self.region)
            .with_bucket_name(&self.name)
            .with_access_key_id(credentials.id)
            .with_secret_access_key(credentials.secret)
            .with_client_options(client)
            .with_retry(retry);
        if let Some(token) = credentials.token {
            builder = builder.with_token(token);
        }
        let built = builder.build().map_err(|error| {
            Error::new(Kind::Invalid, "cannot make a client of the bucket").because(error.to_string())
        })?;
        Ok(Arc::new(built))
    }
}

/// What requests are signed with.
struct Credentials {
    id: String,
    secret: String,
    token: Option<String>,
}

impl Credentials {
    fn read(path: &Path) -> Result<Self> {
        let failed = |what: &str| Error::new(Kind::Invalid, format!("the credentials {}: {what}", path.display()));
        let file = File::open(path).map_err(|error| failed("cannot be read").because(error))?;
        let mode = file.metadata().map_err(|error| failed("cannot be read").because(error))?.mode();
        if mode & 0o077 != 0 {
            return Err(failed("others may read them: chmod 600"));
        }
        let mut text = String::new();
        file.take(CREDENTIALS_BYTES_MAX).read_to_string(&mut text).map_err(|_| failed("are not text"))?;
        // What the parser says repeats what it read.
        Self::parse(&text).ok_or_else(|| {
            failed(
                "need the lines access_key_id = \"…\" and secret_access_key = \"…\", and session_token = \"…\" at most",
            )
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut table = text.parse::<Table>().ok()?;
        let mut take = |key| match table.remove(key) {
            Some(Value::String(value)) if !value.is_empty() => Some(value),
            _ => None,
        };
        let (id, secret) = (take("access_key_id")?, take("secret_access_key")?);
        let token = take("session_token");
        table.is_empty().then_some(Self { id, secret, token })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI";

    fn bucket(dir: &Path) -> Bucket {
        Bucket {
            endpoint: "http://127.0.0.1:1/".parse().unwrap(),
            region: "us-east-1".to_owned(),
            name: "evidence".to_owned(),
            prefix: "aigaq".to_owned(),
            credentials: dir.join("credentials"),
            ca: None,
        }
    }

    #[test]
    fn credentials_that_do_not_read_are_refused_without_a_word_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let bucket = bucket(dir.path());
        let write = |text: &str, mode| {
            fs::write(&bucket.credentials, text).unwrap();
            fs::set_permissions(&bucket.credentials, fs::Permissions::from_mode(mode)).unwrap();
        };
        let good = format!("access_key_id = \"AK\"\nsecret_access_key = \"{SECRET}\"\n");
        write(&good, 0o600);
        let client = bucket.connect().unwrap();
        assert!(!format!("{client:?} {client}").contains(SECRET), "{client:?}");
        write(&good, 0o640);
        let refused = bucket.connect().unwrap_err();
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
        for wrong in [format!("secret_access_key = {SECRET}"), SECRET.to_owned(), format!("{good}more = \"{SECRET}\"")]
        {
            write(&wrong, 0o600);
            let refused = bucket.connect().unwrap_err();
            assert_eq!(refused.kind(), Kind::Invalid);
            assert!(!format!("{refused} {refused:?}").contains(SECRET), "{refused}");
        }
    }
}
