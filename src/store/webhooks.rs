//! Webhooks: small records that are written whole. One that is taken away is forgotten, since it is no evidence: that it was there
//! the trail says.

use super::engine::{Batch, Direction, Family};
use super::records::{self, AuditRecord, WebhookRecord};
use super::{Store, keys};
use crate::error::Result;

impl Store {
    /// Every webhook, by name.
    pub fn webhooks(&self) -> impl Iterator<Item = Result<WebhookRecord>> + '_ {
        self.scan(Family::Webhooks, keys::everything(), Direction::Forward)
            .map(|entry| records::decode(&entry?.1, "webhooks"))
    }

    /// Writes a webhook down, with the entry that says so, if there is one.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn put_webhook(&self, webhook: &WebhookRecord, entry: Option<&AuditRecord>) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(Family::Webhooks, keys::webhook(&webhook.name), records::encode(webhook)?);
        match entry {
            Some(entry) => self.audit_with(std::slice::from_ref(entry), batch),
            None => self.engine().commit(&[], &batch),
        }
    }

    /// Forgets a webhook, once the entry that says so is durable.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn forget_webhook(&self, name: &str, entry: &AuditRecord) -> Result<()> {
        self.audit(entry)?;
        self.engine().forget(Family::Webhooks, &[keys::webhook(name)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::{Act, Event};

    #[test]
    fn a_webhook_is_kept_until_it_is_taken_away_and_the_trail_says_both() {
        let store = Store::memory();
        let made = Act { at: 1, by: "account:anna".to_owned(), reason: String::new() };
        let webhook = WebhookRecord {
            name: "dispatch".to_owned(),
            url: "https://dispatch.example/hook".to_owned(),
            secret: vec![7; 32],
            kinds: Vec::new(),
            department: None,
            configured: false,
            made,
            cursor: 3,
        };
        let entry = AuditRecord::new(1, Event::Configuration, "account:anna", "::1", "webhook");
        store.put_webhook(&webhook, Some(&entry)).unwrap();
        store.put_webhook(&WebhookRecord { cursor: 4, ..webhook }, None).unwrap();
        assert_eq!(store.webhooks().map(|one| one.unwrap().cursor).collect::<Vec<_>>(), [4]);
        store.forget_webhook("dispatch", &entry).unwrap();
        assert_eq!((store.webhooks().count(), store.last_audit()), (0, 2));
    }
}
