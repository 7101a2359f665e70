//! Enrolment codes on disk: `DIR/codes/<digest>.toml`, one file each, made by the command line and used up by the server.
//!
//! A code is known by the digest of its secret alone. Using it up is durable before the certificate leaves: its file then names the
//! key and holds the certificate, so that the same key gets the same answer again while the code lives (an answer may be lost), and
//! no other key ever gets one. Why a code is not good is never told: not known, used and expired look the same.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aigaq_proto::Micros;
use data_encoding::HEXLOWER;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::{EnrolRequest, check, files, micros, text};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::est::{Code, Fingerprint, Secret};
use crate::store::records::RecorderKind;

const DIR: &str = "codes";

/// The file of a code.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CodeFile {
    pub(super) kind: RecorderKind,
    pub(super) department: String,
    pub(super) label: String,
    expires_at: Micros,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used: Option<Used>,
}

/// Who used it.
#[derive(Debug, Serialize, Deserialize)]
struct Used {
    /// DER `SubjectPublicKeyInfo`, hexadecimal.
    spki: String,
    /// What it got for it, DER, hexadecimal.
    certificate: String,
}

/// The codes of a data directory.
#[derive(Debug)]
pub(super) struct Codes {
    dir: PathBuf,
    /// Held while a code is used up: one use at a time.
    turn: Mutex<()>,
}

/// Makes a code that lives for `life`, for a recorder as `request` says. Durable on return; a running server takes it at once.
pub(super) fn make(data: &Path, request: EnrolRequest, life: Duration, ca: Fingerprint, clock: &Clock) -> Result<Code> {
    check(&request)?;
    let code = Code { secret: Secret::random()?, ca };
    let file = CodeFile {
        kind: request.kind,
        department: request.department,
        label: request.label,
        expires_at: clock.now().saturating_add(micros(life)),
        used: None,
    };
    let codes = Codes::of(data);
    files::make_private_dir(&codes.dir)?;
    files::write(&codes.path(&code.secret), text(&file)?.as_bytes(), files::SECRET)?;
    Ok(code)
}

impl Codes {
    pub(super) fn of(data: &Path) -> Self {
        Self { dir: data.join(DIR), turn: Mutex::new(()) }
    }

    fn path(&self, secret: &Secret) -> PathBuf {
        self.dir.join(format!("{}.toml", secret.digest()))
    }

    /// Uses a code up for the key `spki`; `issue` makes the certificate, and is not asked when the key used the code before. An error
    /// of `issue` leaves the code as it was. Blocks.
    ///
    /// # Errors
    /// [`Kind::Unauthorised`] for a code that is not good, and those of `issue`.
    pub(super) fn redeem(
        &self,
        secret: &Secret,
        spki: &[u8],
        now: Micros,
        issue: impl FnOnce() -> Result<CertificateDer<'static>>,
    ) -> Result<(CodeFile, CertificateDer<'static>)> {
        let not_good = || Error::new(Kind::Unauthorised, "the enrolment code is not known, was used, or has expired");
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(secret);
        let text_of = files::read(&path)?.ok_or_else(not_good)?;
        let mut file: CodeFile = toml::from_str(&text_of)
            .map_err(|error| Error::new(Kind::Internal, "the file of an enrolment code is damaged").because(error))?;
        if file.expires_at <= now {
            return Err(not_good());
        }
        let spki = HEXLOWER.encode(spki);
        if let Some(used) = &file.used {
            if used.spki != spki {
                return Err(not_good());
            }
            let certificate = HEXLOWER.decode(used.certificate.as_bytes()).map_err(|error| {
                Error::new(Kind::Internal, "the certificate of an enrolment code is damaged").because(error)
            })?;
            return Ok((file, certificate.into()));
        }
        let certificate = issue()?;
        file.used = Some(Used { spki, certificate: HEXLOWER.encode(&certificate) });
        files::write(&path, text(&file)?.as_bytes(), files::SECRET)?;
        Ok((file, certificate))
    }

    /// Removes the files of codes that have expired. Blocks.
    pub(super) fn sweep(&self, now: Micros) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        for path in files::waiting(&self.dir).unwrap_or_default() {
            let file = files::read(&path).ok().flatten().and_then(|text| toml::from_str::<CodeFile>(&text).ok());
            if file.is_some_and(|file| file.expires_at <= now)
                && let Err(error) = std::fs::remove_file(&path)
            {
                tracing::warn!(%error, "cannot remove the file of an expired enrolment code");
            }
        }
    }
}
