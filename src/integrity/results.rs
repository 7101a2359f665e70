//! What came of checks, added up by department and criterion; how far assessors agree; and what of it others than inspectors may know.
//!
//! Agreement is the share of pairs that are within the bound of their criterion, and Cohen's kappa (1960) over the exact classes, which takes away
//! what chance alone would give. Others than inspectors see what at least [`PERSONS_MIN`] different people add up to, of a quarter that is
//! over, and no sums of it: what is left out cannot be reckoned from what is not.

use std::collections::{BTreeMap, BTreeSet};

use aigaq_proto::Digest;

use super::case::{Case, Measure};
use super::check::{outcome, pairs};
use crate::store::records::CheckRecord;

/// Fewer people than these are in no figure that others than inspectors see.
pub const PERSONS_MIN: usize = 5;

/// What is told apart: a department, a case and one of its criteria.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The department.
    pub department: String,
    /// The case.
    pub case: Digest,
    /// The criterion.
    pub criterion: String,
}

/// What a group adds up to.
#[derive(Debug, Clone, PartialEq)]
pub struct Sum {
    /// What the case is called.
    pub case_name: String,
    /// By what it is judged.
    pub measure: Measure,
    /// Who was checked, with what the criterion came to.
    pub values: Vec<(String, f64)>,
    /// What the two assessors said.
    pub pairs: Vec<(u32, u32)>,
}

impl Sum {
    /// How many different people.
    #[must_use]
    pub fn persons(&self) -> usize {
        self.values.iter().map(|(person, _)| person).collect::<BTreeSet<_>>().len()
    }

    /// What the criterion is worth on the mean, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer checks than 2^53")]
    pub fn share(&self) -> f64 {
        let sum: f64 = self.values.iter().map(|(_, value)| self.measure.share(*value)).sum();
        sum / self.values.len().max(1) as f64
    }

    /// The median time in which an appeal was answered, seconds; `None` where points are given.
    #[must_use]
    pub fn median_s(&self) -> Option<f64> {
        if matches!(self.measure, Measure::Points { .. }) {
            return None;
        }
        let mut times: Vec<f64> = self.values.iter().map(|(_, value)| *value).collect();
        times.sort_by(f64::total_cmp);
        let middle = times.len() / 2;
        let upper = times.get(middle)?;
        let lower = if times.len().is_multiple_of(2) { times.get(middle.checked_sub(1)?)? } else { upper };
        Some(f64::midpoint(*lower, *upper))
    }

    /// The share of pairs that are within the bound; `None` without any.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer checks than 2^53")]
    pub fn agreement(&self) -> Option<f64> {
        let agreed = self.pairs.iter().filter(|(one, other)| self.measure.agree(*one, *other)).count();
        (!self.pairs.is_empty()).then(|| agreed as f64 / self.pairs.len() as f64)
    }

    /// Cohen's kappa of the pairs; `None` without any, or where chance alone would agree always.
    #[must_use]
    pub fn kappa(&self) -> Option<f64> {
        let class = |value| self.measure.class(value);
        kappa(self.pairs.iter().map(|(one, other)| (class(*one), class(*other))))
    }
}

/// Cohen's kappa: (observed - expected) / (1 - expected).
#[expect(clippy::cast_precision_loss, reason = "there are far fewer checks than 2^53")]
fn kappa(pairs: impl Iterator<Item = (u32, u32)>) -> Option<f64> {
    let (mut ones, mut others): (BTreeMap<u32, u64>, BTreeMap<u32, u64>) = Default::default();
    let (mut agreed, mut all) = (0_u64, 0_u64);
    for (one, other) in pairs {
        *ones.entry(one).or_default() += 1;
        *others.entry(other).or_default() += 1;
        agreed += u64::from(one == other);
        all += 1;
    }
    let by_chance: f64 =
        ones.iter().filter_map(|(class, count)| Some(*count as f64 * *others.get(class)? as f64)).sum();
    let (observed, expected) = (agreed as f64 / all as f64, by_chance / (all as f64 * all as f64));
    (all > 0 && expected < 1.0).then(|| (observed - expected) / (1.0 - expected))
}

/// Adds up what came of checks that are closed, each with its case.
#[must_use]
pub fn add_up<'a>(checks: impl IntoIterator<Item = (&'a Case, &'a CheckRecord)>) -> BTreeMap<Group, Sum> {
    let mut sums = BTreeMap::new();
    for (case, check) in checks {
        let Some(outcome) = outcome(case, check) else { continue };
        let said = pairs(case, check);
        for (criterion, value) in outcome.values {
            let Some(measure) = case.criterion(&criterion).map(|criterion| criterion.measure) else { continue };
            let pair = said.iter().find(|(id, ..)| *id == criterion).map(|(_, one, other)| (*one, *other));
            let group = Group { department: check.department.clone(), case: check.case, criterion };
            let empty = || Sum { case_name: case.name.clone(), measure, values: Vec::new(), pairs: Vec::new() };
            let sum: &mut Sum = sums.entry(group).or_insert_with(empty);
            sum.values.push((check.person.clone(), value));
            sum.pairs.extend(pair);
        }
    }
    sums
}

/// What others than inspectors may know of it.
#[must_use]
pub fn for_others(sums: BTreeMap<Group, Sum>) -> BTreeMap<Group, Sum> {
    sums.into_iter().filter(|(_, sum)| sum.persons() >= PERSONS_MIN).collect()
}

#[cfg(test)]
mod tests {
    use super::super::case::tests::case;
    use super::super::check::score;
    use super::super::check::tests::{check, sheet};
    use super::*;

    /// A check of somebody that is closed.
    fn closed(person: &str, courtesy: u32, seconds: (u32, u32)) -> CheckRecord {
        let (case, mut check) = (case(), check());
        check.person = person.to_owned();
        score(&case, &mut check, sheet("a", 5, "took", &[("courtesy", courtesy), ("appeal", seconds.0)])).unwrap();
        score(&case, &mut check, sheet("b", 6, "took", &[("courtesy", courtesy), ("appeal", seconds.1)])).unwrap();
        check
    }

    #[test]
    fn checks_add_up_by_department_and_criterion() {
        let case = case();
        let checks = [closed("1", 5, (200, 200)), closed("2", 3, (300, 304)), closed("3", 1, (400, 400))];
        let sums = add_up(checks.iter().map(|check| (&case, check)));
        assert_eq!(sums.len(), 2);
        let of = |criterion: &str| sums.iter().find(|(group, _)| group.criterion == criterion).unwrap().1;
        assert_eq!((of("courtesy").persons(), of("courtesy").median_s()), (3, None));
        assert!((of("courtesy").share() - 0.6).abs() < 1e-9);
        assert_eq!(of("appeal").median_s(), Some(302.0));
        assert!((of("appeal").share() - 1.0 / 3.0).abs() < 1e-9, "one of three was within 300 seconds");
        assert_eq!(of("appeal").agreement(), Some(1.0), "4 seconds are within the bound");
        // Whether it was within 300: yes/yes, yes/no, no/no. Observed 2/3, by chance (2/3 × 1/3 + 1/3 × 2/3) = 4/9.
        assert!((of("appeal").kappa().unwrap() - 0.4).abs() < 1e-9);
        assert!(for_others(sums).is_empty(), "three people are too few");
    }

    #[test]
    fn one_person_who_is_checked_five_times_is_one_person() {
        let case = case();
        let of = |persons: &[&str]| {
            let checks: Vec<_> = persons.iter().map(|person| closed(person, 5, (1, 1))).collect();
            for_others(add_up(checks.iter().map(|check| (&case, check)))).len()
        };
        assert_eq!(of(&["1", "1", "1", "1", "1"]), 0);
        assert_eq!(of(&["1", "2", "3", "4"]), 0);
        assert_eq!(of(&["1", "2", "3", "4", "5"]), 2);
    }

    #[test]
    fn kappa_is_that_of_the_textbook() {
        // 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, by chance 0.5.
        let table = [((1, 1), 20), ((1, 0), 5), ((0, 1), 10), ((0, 0), 15)];
        let pairs = table.into_iter().flat_map(|(pair, count)| std::iter::repeat_n(pair, count));
        assert!((kappa(pairs).unwrap() - 0.4).abs() < 1e-9);
        assert_eq!(kappa(std::iter::empty()), None);
        assert_eq!(kappa([(1, 1), (1, 1)].into_iter()), None, "chance alone would agree");
    }
}
