//! Adding up: rows go in one by one, figures come out by group, each with that of the year before.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::calendar::{Bucket, year_after};
use super::question::{Dimension, Question, Source};

/// What a row is counted under; a part that is not told apart is `None`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Its category.
    pub category: Option<String>,
    /// Its department.
    pub department: Option<String>,
    /// Its kind of recorder; empty where it was not said.
    pub kind: Option<String>,
    /// Where it comes from.
    pub source: Option<Source>,
    /// First day of its period.
    pub period: Option<u32>,
}

/// A figure and that of the year before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figure {
    /// In the days that were asked about.
    pub count: u64,
    /// In those of the year before.
    pub before: u64,
}

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its category.
    pub category: &'a str,
    /// Its department.
    pub department: &'a str,
    /// Its kind of recorder; empty where it was not said.
    pub kind: &'a str,
    /// Where it comes from.
    pub source: Source,
    /// Its first and its last day.
    pub days: (u32, u32),
    /// How many it stands for.
    pub count: u64,
}

/// How many times as many as the year before, to three decimals; `None` if there were none then.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a ratio of three decimals needs no more")]
pub fn ratio(figure: Figure) -> Option<f64> {
    (figure.before > 0).then(|| (figure.count as f64 / figure.before as f64 * 1_000.0).round() / 1_000.0)
}

/// Figures that grow.
#[derive(Debug)]
pub struct Tally<'a> {
    question: &'a Question,
    groups: BTreeMap<Group, Figure>,
    total: Figure,
    /// Counts of a period that is not within the days or within one period of them.
    left_out: u64,
}

impl<'a> Tally<'a> {
    /// Nothing so far.
    #[must_use]
    pub fn new(question: &'a Question) -> Self {
        Self { question, groups: BTreeMap::new(), total: Figure::default(), left_out: 0 }
    }

    /// Whether a row is one of those that are asked for, whatever its days.
    #[must_use]
    pub fn takes(question: &Question, row: &Row<'_>) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        is(&question.category, row.category)
            && is(&question.department, row.department)
            && is(&question.kind, row.kind)
            && question.sources.contains(&row.source)
    }

    /// Counts a row if it is asked for: in the days, or in those of the year before.
    pub fn add(&mut self, row: &Row<'_>) {
        if !Self::takes(self.question, row) {
            return;
        }
        self.add_as(row, row.days, |figure, count| figure.count = figure.count.saturating_add(count));
        let shifted = (year_after(row.days.0), year_after(row.days.1));
        self.add_as(row, shifted, |figure, count| figure.before = figure.before.saturating_add(count));
    }

    fn add_as(&mut self, row: &Row<'_>, (first, last): (u32, u32), grow: impl Fn(&mut Figure, u64)) {
        let days = self.question.days;
        let period = |bucket: Bucket| (bucket.first(first), bucket.first(last));
        let periods = self.question.by.bucket.map(period);
        match (days.has(first), days.has(last)) {
            (true, true) if periods.is_none_or(|(first, last)| first == last) => {}
            // It reaches over a bound: what of it lies on this side nobody knows.
            (true, _) | (_, true) => return self.left_out += 1,
            _ if first < days.from && last >= days.to => return self.left_out += 1,
            _ => return,
        }
        let has = |dimension| self.question.by.dimensions.contains(&dimension);
        let group = Group {
            category: has(Dimension::Category).then(|| row.category.to_owned()),
            department: has(Dimension::Department).then(|| row.department.to_owned()),
            kind: has(Dimension::Kind).then(|| row.kind.to_owned()),
            source: has(Dimension::Source).then_some(row.source),
            period: periods.map(|(first, _)| first),
        };
        grow(self.groups.entry(group).or_default(), row.count);
        grow(&mut self.total, row.count);
    }

    /// How many groups there are.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The figures by group, their sum, and how many counts reach over a bound and are in none.
    #[must_use]
    pub fn finish(self) -> (BTreeMap<Group, Figure>, Figure, u64) {
        (self.groups, self.total, self.left_out)
    }
}

/// Of things that are said again and again, the last of each.
#[derive(Debug)]
pub struct Latest<K, V> {
    all: HashMap<K, (u64, V)>,
}

impl<K: Eq + Hash, V> Default for Latest<K, V> {
    fn default() -> Self {
        Self { all: HashMap::new() }
    }
}

impl<K: Eq + Hash + Ord, V> Latest<K, V> {
    /// Something was said, as the thing with this number.
    pub fn say(&mut self, key: K, number: u64, value: V) {
        let fresh = self.all.get(&key).is_none_or(|(before, _)| *before <= number);
        if fresh {
            self.all.insert(key, (number, value));
        }
    }

    /// What holds, in the order of what it is about.
    #[must_use]
    pub fn finish(self) -> Vec<(K, V)> {
        let mut all: Vec<_> = self.all.into_iter().map(|(key, (_, value))| (key, value)).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{Wanted, calendar};
    use proptest::prelude::*;

    fn question(days: (u32, u32), by: &str, bucket: Option<Bucket>) -> Question {
        Question::read(&Wanted { days, zone: "UTC", by: Some(by), source: None }, bucket).unwrap()
    }

    fn row(category: &str, days: (u32, u32), count: u64) -> Row<'_> {
        Row { category, department: "Astana", kind: "officer", source: Source::Recorder, days, count }
    }

    #[test]
    fn thirty_four_after_thirteen_is_two_point_six_times_as_many() {
        assert_eq!(ratio(Figure { count: 34, before: 13 }), Some(2.615));
        assert_eq!(ratio(Figure { count: 3, before: 0 }), None);
    }

    #[test]
    fn a_count_that_reaches_over_a_bound_is_in_no_figure_and_said_to_be_left_out() {
        let question = question((20_454, 20_485), "category", Some(Bucket::Week));
        let mut tally = Tally::new(&question);
        tally.add(&row("in one week", (20_458, 20_460), 2));
        tally.add(&row("over the bound of a week", (20_454, 20_470), 3));
        tally.add(&row("over the end", (20_480, 20_490), 5));
        tally.add(&row("over all", (20_400, 20_500), 7));
        tally.add(&row("elsewhere", (20_500, 20_510), 11));
        let (groups, total, left_out) = tally.finish();
        assert_eq!((groups.len(), total.count, left_out), (1, 2, 3));
    }

    #[test]
    fn what_was_said_last_holds() {
        let mut latest = Latest::default();
        for (key, number, value) in [("b", 1, 10), ("a", 5, 50), ("b", 3, 30), ("b", 2, 20)] {
            latest.say(key, number, value);
        }
        assert_eq!(latest.finish(), [("a", 50), ("b", 30)]);
    }

    proptest! {
        #[test]
        fn figures_are_those_of_a_count_by_hand(
            rows in prop::collection::vec((0_usize..3, 19_000_u32..20_500, 1_u64..5), 0..200),
            from in 19_300_u32..20_300, length in 1_u32..500,
        ) {
            let names = ["a", "b", "c"];
            let question = question((from, from + length), "category", None);
            let mut tally = Tally::new(&question);
            rows.iter().for_each(|(name, day, count)| tally.add(&row(names[*name], (*day, *day), *count)));
            let (groups, total, left_out) = tally.finish();
            prop_assert_eq!(left_out, 0);
            let by_hand = |name: Option<usize>, shift: fn(u32) -> u32| -> u64 {
                rows.iter()
                    .filter(|(of, day, _)| name.is_none_or(|name| name == *of) && question.days.has(shift(*day)))
                    .map(|(.., count)| count)
                    .sum()
            };
            for (index, name) in names.iter().enumerate() {
                let found = groups.iter().find(|(group, _)| group.category.as_deref() == Some(name));
                let found = found.map_or(Figure::default(), |(_, figure)| *figure);
                let before = by_hand(Some(index), calendar::year_after);
                prop_assert_eq!(found, Figure { count: by_hand(Some(index), |day| day), before });
            }
            prop_assert_eq!(total.count, by_hand(None, |day| day));
        }
    }
}
