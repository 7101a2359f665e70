//! Certificates as recorders have shown them, and the revocation lists that they were judged by: each is stored once, before
//! it counts, and never changed. Who judges footage years later finds here what the server saw.

use aigaq_proto::{Digest, Micros, RecorderId};
use serde_bytes::ByteBuf;

use super::engine::{Batch, Direction, Family};
use super::records::{self, CertificateRecord, RevocationListRecord};
use super::{Store, keys};
use crate::error::Result;

impl Store {
    /// Keeps the certificates, DER, leaf first, that a recorder has shown, unless its leaf is there already. Durable on return.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn keep_certificates(&self, recorder: RecorderId, chain: &[&[u8]], now: Micros) -> Result<()> {
        let Some(leaf) = chain.first() else { return Ok(()) };
        let key = keys::certificate(recorder, Digest::of(leaf));
        if self.engine().get(Family::Certificates, &key)?.is_some() {
            return Ok(());
        }
        let chain = chain.iter().map(|der| ByteBuf::from(der.to_vec())).collect();
        let mut batch = Batch::default();
        batch.put(Family::Certificates, key, records::encode(&CertificateRecord { first_at: now, chain })?);
        self.engine().commit(&[], &batch)
    }

    /// The certificates that a recorder has shown, by fingerprint of the leaf.
    pub fn certificates(&self, recorder: RecorderId) -> impl Iterator<Item = Result<CertificateRecord>> + '_ {
        let shown = self.scan(Family::Certificates, keys::all_under(&recorder.0), Direction::Forward);
        shown.map(|entry| records::decode(&entry?.1, "certificates"))
    }

    /// Keeps a revocation list, DER, unless it is there already. Durable on return.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn keep_revocation_list(&self, der: &[u8], now: Micros) -> Result<()> {
        let key = keys::revocation_list(Digest::of(der));
        if self.engine().get(Family::RevocationLists, &key)?.is_some() {
            return Ok(());
        }
        let record = RevocationListRecord { first_at: now, der: der.to_vec() };
        let mut batch = Batch::default();
        batch.put(Family::RevocationLists, key, records::encode(&record)?);
        self.engine().commit(&[], &batch)
    }

    /// Every revocation list that was ever in use, by digest.
    pub fn revocation_lists(&self) -> impl Iterator<Item = Result<RevocationListRecord>> + '_ {
        let lists = self.scan(Family::RevocationLists, keys::everything(), Direction::Forward);
        lists.map(|entry| records::decode(&entry?.1, "revocation lists"))
    }
}
