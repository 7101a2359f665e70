//! Who may sign in and who has: small records that are written whole, each durable when its verb returns.
//!
//! An account is written with the audit entry that says so, both or neither. Nothing is ever removed: an account that is gone says
//! so, a session that is over leaves its slot to another one.

use aigaq_proto::RecorderId;

use super::engine::{Batch, Direction, Family};
use super::records::{self, AccountRecord, AuditRecord, ClassRecord, SessionRecord};
use super::{Store, keys};
use crate::error::Result;

impl Store {
    /// Writes an account down, and that it was changed.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn put_account(&self, account: &AccountRecord, entry: &AuditRecord) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(Family::Accounts, keys::account(&account.actor), records::encode(account)?);
        self.audit_with(std::slice::from_ref(entry), batch)
    }

    /// Every account, removed ones among them, by actor.
    pub fn accounts(&self) -> impl Iterator<Item = Result<AccountRecord>> + '_ {
        self.scan(Family::Accounts, keys::everything(), Direction::Forward)
            .map(|entry| records::decode(&entry?.1, "accounts"))
    }

    /// Writes a session into a slot, over the one that was there.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn put_session(&self, slot: u32, session: &SessionRecord) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(Family::Sessions, keys::session(slot), records::encode(session)?);
        self.engine().commit(&[], &batch)
    }

    /// Writes down how much the footage of a recorder is kept from eyes.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn put_class(&self, class: &ClassRecord) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(Family::Classes, keys::recorder(class.recorder), records::encode(class)?);
        self.engine().commit(&[], &batch)
    }

    /// What was said of that, by recorder; `None` where it does not read.
    pub fn classes(&self) -> impl Iterator<Item = Result<(RecorderId, Option<ClassRecord>)>> + '_ {
        self.scan(Family::Classes, keys::everything(), Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            Ok((keys::read_recorder(&key)?, records::decode(&value, "classes").ok()))
        })
    }

    /// What is in the slots, those that are over among them.
    pub fn sessions(&self) -> impl Iterator<Item = Result<(u32, SessionRecord)>> + '_ {
        self.scan(Family::Sessions, keys::everything(), Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            Ok((keys::read_session(&key)?, records::decode(&value, "sessions")?))
        })
    }
}
