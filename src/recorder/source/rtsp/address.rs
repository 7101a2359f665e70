//! Where a camera is, and who may look through it.

use std::fmt;

use percent_encoding::percent_decode_str;
use retina::client::Credentials;
use url::Url;

use crate::error::{Error, Kind, Result};

/// A camera.
#[derive(Clone, PartialEq, Eq)]
pub struct Camera {
    /// Without user and password.
    url: Url,
    credentials: Option<(String, String)>,
}

impl Camera {
    /// Reads `rtsp://USER:PASSWORD@HOST/PATH`; what the address does not say of user and password may be said apart.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if it is no such address. The message does not repeat it.
    pub fn parse(address: &str, user: Option<String>, password: Option<String>) -> Result<Self> {
        let invalid = |what: &str| Error::new(Kind::Invalid, format!("the address of the camera {what}"));
        let mut url = Url::parse(address).map_err(|error| invalid(&format!("cannot be read: {error}")))?;
        if url.scheme() != "rtsp" {
            return Err(invalid("does not begin with rtsp://"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(invalid("names no host"));
        }
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = if url.username().is_empty() { user } else { Some(plain(url.username())) };
        let password = url.password().map(plain).or(password);
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| invalid("cannot have a user"))?;
        Ok(Self { url, credentials: user.map(|user| (user, password.unwrap_or_default())) })
    }

    pub(super) fn url(&self) -> Url {
        self.url.clone()
    }

    pub(super) fn credentials(&self) -> Option<Credentials> {
        let (username, password) = self.credentials.clone()?;
        Some(Credentials { username, password })
    }
}

/// Without user and password, and without the query, in which some cameras take them too.
impl fmt::Display for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.url.clone();
        url.set_query(None);
        write!(f, "{url}")
    }
}

impl fmt::Debug for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> Camera {
        Camera::parse(address, Some("other".to_owned()), Some("secret2".to_owned())).unwrap()
    }

    fn known(camera: &Camera) -> (String, String) {
        camera.credentials.clone().unwrap()
    }

    #[test]
    fn user_and_password_come_from_the_address_or_from_beside_it() {
        let camera = parse("rtsp://guard:se%40cret@10.0.0.7:8554/stream?channel=1&password=secret3");
        assert_eq!(camera.url().as_str(), "rtsp://10.0.0.7:8554/stream?channel=1&password=secret3");
        assert_eq!(known(&camera), ("guard".to_owned(), "se@cret".to_owned()));
        assert_eq!(known(&parse("rtsp://guard@camera/")), ("guard".to_owned(), "secret2".to_owned()));
        assert_eq!(known(&parse("rtsp://camera/")), ("other".to_owned(), "secret2".to_owned()));
        assert_eq!(Camera::parse("rtsp://camera/", None, None).unwrap().credentials, None);
    }

    #[test]
    fn nothing_that_is_shown_has_a_password() {
        let camera = parse("rtsp://guard:secret1@10.0.0.7/stream?password=secret3");
        assert_eq!(format!("{camera} {camera:?}"), "rtsp://10.0.0.7/stream rtsp://10.0.0.7/stream");
        for bad in
            ["rtsp://guard:secret1@/x", "http://guard:secret1@camera/", "rtsp:guard:secret1", "rtsp://guard:secret1@[/"]
        {
            let error = Camera::parse(bad, None, None).unwrap_err().to_string();
            assert!(!error.contains("secret1"), "{error}");
        }
    }
}
