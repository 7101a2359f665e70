//! Answers that may be asked for again. They are no evidence and are forgotten when their time is over.

use aigaq_proto::{Digest, Micros};

use super::engine::{Batch, Direction, Family};
use super::records::{self, AnswerRecord};
use super::{Store, keys};
use crate::error::Result;

impl Store {
    /// Keeps an answer, durably.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn put_answer(&self, answer: &AnswerRecord) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(Family::Answers, keys::answer(answer.name), records::encode(answer)?);
        self.engine().commit(&[], &batch)
    }

    /// The answer under a name.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged).
    pub fn answer(&self, name: Digest) -> Result<Option<AnswerRecord>> {
        let value = self.engine().get(Family::Answers, &keys::answer(name))?;
        value.map(|value| records::decode(&value, "answers")).transpose()
    }

    /// When each answer was kept.
    pub fn answers(&self) -> impl Iterator<Item = Result<(Micros, Digest)>> + '_ {
        self.scan(Family::Answers, keys::everything(), Direction::Forward).map(|entry| {
            let (key, value) = entry?;
            // One that does not read is as old as can be.
            let at = records::decode::<AnswerRecord>(&value, "answers").map_or(0, |answer| answer.at);
            Ok((at, keys::read_answer(&key)?))
        })
    }

    /// Forgets answers.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn forget_answers(&self, names: &[Digest]) -> Result<()> {
        let keys: Vec<Vec<u8>> = names.iter().map(|name| keys::answer(*name).into()).collect();
        if keys.is_empty() { Ok(()) } else { self.engine().forget(Family::Answers, &keys) }
    }
}
