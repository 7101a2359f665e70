//! One witness: what it cosigned last, and the question for one more cosignature.

use std::sync::{Mutex, PoisonError};

use aigaq_proto::Digest;
use aigaq_proto::cosignature::WitnessKey;
use data_encoding::BASE64;
use http::{Method, Request};
use url::Url;

use crate::error::{Kind, Result};
use crate::http::Client;
use crate::log::{Reader, Tree, blocking};

/// Why there is no cosignature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It does not answer.
    Unreachable(String),
    /// It answers with this status.
    Refused(u16),
    /// It has cosigned something else, which it did not show, or which is now known to contradict the store.
    Conflict(String),
    /// What it sent is not its cosignature, or not a checkpoint of this log.
    Invalid,
    /// The log of our own could not be read.
    Own(String),
}

impl Failure {
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) | Self::Own(_) => "refused",
            Self::Conflict(_) => "conflict",
            Self::Invalid => "invalid",
        }
    }
}

/// A witness.
pub(super) struct Peer {
    url: Url,
    key: WitnessKey,
    client: Client,
    reader: Reader,
    /// Size of the tree that it cosigned last; `None` until it is known, and again when it does not go along.
    known: Mutex<Option<u64>>,
}

impl Peer {
    pub(super) fn new(url: Url, key: WitnessKey, client: Client, reader: Reader) -> Self {
        Self { url, key, client, reader, known: Mutex::new(None) }
    }

    /// Asks what it cosigned last and compares it with the store: the size.
    pub(super) async fn compare(&self) -> Result<u64, Failure> {
        let path = format!("{}/checkpoint", Digest::of(self.reader.key().origin().as_bytes()));
        let size = match self.ask(Method::GET, &path, String::new()).await? {
            (404, _) => 0,
            (200, text) => self.compare_with(&text).await?,
            (status, _) => return Err(Failure::Refused(status)),
        };
        self.know(Some(size));
        Ok(size)
    }

    /// Compares a checkpoint that this log is said to have signed.
    async fn compare_with(&self, text: &str) -> Result<u64, Failure> {
        let (size, root) = self.reader.key().open(text).map_err(|_| Failure::Invalid)?;
        let reader = self.reader.clone();
        let who = format!("witness {}", self.key.name());
        let shown = blocking(move || reader.show(&who, size, root));
        if shown.await.map_err(|error| Failure::Own(error.to_string()))? {
            return Ok(size);
        }
        let contradiction = self.reader.witnessed().contradiction().unwrap_or_default().to_owned();
        Err(Failure::Conflict(contradiction))
    }

    /// Its signature line on the checkpoint of `tree`.
    pub(super) async fn cosign(&self, tree: &Tree) -> Result<String, Failure> {
        let known = self.known();
        let mut old = match known {
            Some(size) => size,
            None => self.compare().await?,
        };
        let mut answer = self.add(old, tree).await?;
        if matches!(answer.0, 409 | 422) && known.is_some() {
            old = self.compare().await?;
            answer = self.add(old, tree).await?;
        }
        // What it cosigned last need not be to be had otherwise (C2SP tlog-witness: the size is the body of a 409).
        if let Some(size) = size_told(&answer).filter(|size| *size > old && *size <= tree.size) {
            old = size;
            answer = self.add(old, tree).await?;
        }
        match answer {
            (200, lines) => self.own_line(tree, &lines).inspect(|_| self.know(Some(tree.size))),
            (409 | 422, text) => {
                self.know(None);
                let text: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
                Err(Failure::Conflict(format!("witness {} answered to {old}: {text}", self.key.name())))
            }
            (status, _) => Err(Failure::Refused(status)),
        }
    }

    async fn add(&self, old: u64, tree: &Tree) -> Result<(u16, String), Failure> {
        let (reader, of) = (self.reader.clone(), tree.clone());
        let proof = blocking(move || match reader.prove_consistency(old, &of) {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            proof => proof.map(Some),
        });
        let Some(proof) = proof.await.map_err(|error| Failure::Own(error.to_string()))? else {
            // It saw a newer tree of this log while this one was being asked about: the next round has that.
            return Err(Failure::Refused(409));
        };
        let proof: String = proof.iter().map(|hash| format!("{}\n", BASE64.encode(&hash.0))).collect();
        self.ask(Method::POST, "add-checkpoint", format!("old {old}\n{proof}\n{}", tree.checkpoint)).await
    }

    fn own_line(&self, tree: &Tree, lines: &str) -> Result<String, Failure> {
        let own = lines.lines().map(|line| format!("{line}\n")).find(|line| {
            line.starts_with('\u{2014}') && self.key.cosigned_at(&format!("{}{line}", tree.checkpoint)).is_some()
        });
        own.ok_or(Failure::Invalid)
    }

    async fn ask(&self, method: Method, path: &str, body: String) -> Result<(u16, String), Failure> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", self.url.path().trim_end_matches('/')));
        let asked = self.client.ask(&url, Request::builder().method(method), body).await;
        let (status, body) = asked.map_err(|error| Failure::Unreachable(error.to_string()))?;
        String::from_utf8(body.to_vec()).map(|body| (status, body)).map_err(|_| Failure::Invalid)
    }

    fn known(&self) -> Option<u64> {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn know(&self, size: Option<u64>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = size;
    }
}

/// The size of the tree that a witness says it cosigned last. It proves nothing.
fn size_told((status, text): &(u16, String)) -> Option<u64> {
    (*status == 409).then(|| text.trim_end().parse().ok()).flatten()
}
