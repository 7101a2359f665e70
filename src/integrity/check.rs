//! A check: two score it, neither knowing of the other; where they disagree beyond the bound of a criterion, a third decides.
//!
//! Pure. What may be seen of a check before it is closed depends on who looks: an assessor sees what is to be judged and what they scored
//! themselves, and neither the other nor whether there is one.

use aigaq_proto::Micros;

use super::case::Case;
use crate::store::records::{CheckRecord, JudgedRecord, SheetRecord};

/// Where a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not both have scored.
    Open,
    /// They disagree, and nobody has decided.
    Disputed,
    /// Nothing is left to decide.
    Closed,
}

/// What somebody is to a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// One of the two who score.
    Assessor,
    /// Who decides.
    Third,
    /// Neither.
    Other,
}

/// Why nothing is scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is not theirs to score.
    NotTheirs,
    /// They have scored already, and not the same.
    Already,
    /// They have scored the same already.
    Same,
    /// Who decides decides exactly what is disputed.
    OtherCriteria,
    /// There is nothing to decide, or this person cannot.
    NotToDecide(&'static str),
}

/// What the two disagree about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dispute {
    /// Which response was chosen.
    pub option: bool,
    /// These criteria, in the order of the case.
    pub criteria: Vec<String>,
}

impl Dispute {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.option && self.criteria.is_empty()
    }
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Which response the checked person chose.
    pub option: String,
    /// Of each criterion that holds, its value: where the two agree their mean, else what the third says.
    pub values: Vec<(String, f64)>,
    /// What all criteria are worth together, 0 to 1, by their weights.
    pub share: f64,
}

/// What somebody is to a check.
#[must_use]
pub fn part(check: &CheckRecord, actor: &str) -> Part {
    match () {
        () if check.assessors.iter().any(|one| one == actor) => Part::Assessor,
        () if check.third.as_deref() == Some(actor) => Part::Third,
        () => Part::Other,
    }
}

/// What they scored.
#[must_use]
pub fn sheet_of<'a>(check: &'a CheckRecord, actor: &str) -> Option<&'a SheetRecord> {
    check.sheets.iter().find(|sheet| sheet.by == actor)
}

/// The two sheets of those who score, if both are there.
fn both(check: &CheckRecord) -> Option<(&SheetRecord, &SheetRecord)> {
    let [one, other] = &check.assessors;
    sheet_of(check, one).zip(sheet_of(check, other))
}

fn value(sheet: &SheetRecord, criterion: &str) -> Option<u32> {
    sheet.judged.iter().find(|judged| judged.criterion == criterion).map(|judged| judged.value)
}

/// What the two disagree about; nothing as long as not both have scored.
#[must_use]
pub fn dispute(case: &Case, check: &CheckRecord) -> Dispute {
    let Some((one, other)) = both(check) else { return Dispute::default() };
    let disputed = case.criteria.iter().filter(|criterion| {
        let values = value(one, &criterion.id).zip(value(other, &criterion.id));
        values.is_none_or(|(one, other)| !criterion.measure.agree(one, other))
    });
    let criteria = disputed.map(|criterion| criterion.id.clone()).collect();
    Dispute { option: one.option != other.option, criteria }
}

/// Where it stands.
#[must_use]
pub fn state(case: &Case, check: &CheckRecord) -> State {
    match () {
        () if both(check).is_none() => State::Open,
        () if dispute(case, check).is_empty() => State::Closed,
        () if check.third.as_deref().is_some_and(|third| sheet_of(check, third).is_some()) => State::Closed,
        () => State::Disputed,
    }
}

/// Which criteria somebody has to judge.
#[must_use]
pub fn to_judge(case: &Case, check: &CheckRecord, actor: &str) -> Vec<String> {
    match part(check, actor) {
        Part::Third => dispute(case, check).criteria,
        Part::Assessor | Part::Other => case.criteria.iter().map(|criterion| criterion.id.clone()).collect(),
    }
}

/// Takes a sheet in; nothing is changed when it is refused.
///
/// # Errors
/// Why it is refused.
pub fn score(case: &Case, check: &mut CheckRecord, sheet: SheetRecord) -> Result<(), Refusal> {
    if part(check, &sheet.by) == Part::Other {
        return Err(Refusal::NotTheirs);
    }
    if let Some(before) = sheet_of(check, &sheet.by) {
        let same = before.option == sheet.option && before.judged == sheet.judged;
        return Err(if same { Refusal::Same } else { Refusal::Already });
    }
    let judged: Vec<&String> = sheet.judged.iter().map(|judged| &judged.criterion).collect();
    if judged != to_judge(case, check, &sheet.by).iter().collect::<Vec<_>>() {
        return Err(Refusal::OtherCriteria);
    }
    let at = sheet.at;
    check.sheets.push(sheet);
    close(case, check, at);
    Ok(())
}

/// Names who decides: in place of who was to decide and has not yet, too.
///
/// # Errors
/// Why not.
pub fn name_third(case: &Case, check: &mut CheckRecord, by: &str, third: &str) -> Result<(), Refusal> {
    if part(check, by) != Part::Other {
        return Err(Refusal::NotToDecide("whoever scores a check does not choose who decides it"));
    }
    if check.third.as_deref() == Some(third) {
        return Err(Refusal::Same);
    }
    if state(case, check) != State::Disputed {
        return Err(Refusal::NotToDecide("there is nothing to decide, or somebody has decided it already"));
    }
    if part(check, third) != Part::Other || check.made.by == third {
        return Err(Refusal::NotToDecide("who decides is nobody who scored the check or made it"));
    }
    check.third = Some(third.to_owned());
    Ok(())
}

fn close(case: &Case, check: &mut CheckRecord, at: Micros) {
    if check.closed_at.is_none() && state(case, check) == State::Closed {
        check.closed_at = Some(at);
    }
}

/// What came of a check that is closed.
#[must_use]
pub fn outcome(case: &Case, check: &CheckRecord) -> Option<Outcome> {
    if state(case, check) != State::Closed {
        return None;
    }
    let (one, other) = both(check)?;
    let dispute = dispute(case, check);
    let third = check.third.as_deref().and_then(|third| sheet_of(check, third));
    let option = if dispute.option { &third?.option } else { &one.option };
    let mut values = Vec::with_capacity(case.criteria.len());
    let (mut sum, mut weights) = (0.0, 0.0);
    for criterion in &case.criteria {
        let value = if dispute.criteria.contains(&criterion.id) {
            f64::from(value(third?, &criterion.id)?)
        } else {
            f64::midpoint(f64::from(value(one, &criterion.id)?), f64::from(value(other, &criterion.id)?))
        };
        let weight = f64::from(criterion.weight);
        sum += weight * criterion.measure.share(value);
        weights += weight;
        values.push((criterion.id.clone(), value));
    }
    Some(Outcome { option: option.clone(), values, share: sum / weights })
}

/// What the two said of each criterion, before anybody decided: pairs of values.
#[must_use]
pub fn pairs(case: &Case, check: &CheckRecord) -> Vec<(String, u32, u32)> {
    let Some((one, other)) = both(check) else { return Vec::new() };
    let pair = |id: &String| Some((id.clone(), value(one, id)?, value(other, id)?));
    case.criteria.iter().filter_map(|criterion| pair(&criterion.id)).collect()
}

/// Makes the sheet of an assessor from what was judged, in the order of the case.
#[must_use]
pub fn in_order(case: &Case, mut judged: Vec<JudgedRecord>) -> Vec<JudgedRecord> {
    let place = |id: &str| case.criteria.iter().position(|criterion| criterion.id == id);
    judged.sort_by_key(|judged| place(&judged.criterion));
    judged
}

#[cfg(test)]
pub(crate) mod tests {
    use aigaq_proto::{Digest, RecorderId};

    use super::super::case::tests::case;
    use super::*;
    use crate::store::records::{Act, CheckId, SpanRecord};

    pub(crate) fn check() -> CheckRecord {
        CheckRecord {
            id: CheckId([1; 16]),
            department: "Astana".to_owned(),
            recorder: RecorderId([7; 16]),
            case: Digest::ZERO,
            draw: None,
            person: "badge 17".to_owned(),
            from: 0,
            to: 1_000,
            made: Act { at: 1, by: "account:lead".to_owned(), reason: String::new() },
            assessors: ["account:a".to_owned(), "account:b".to_owned()],
            third: None,
            sheets: Vec::new(),
            closed_at: None,
        }
    }

    pub(crate) fn sheet(by: &str, at: u64, option: &str, values: &[(&str, u32)]) -> SheetRecord {
        let span = SpanRecord { from: 0, to: 1, first: 1, last: 1, digest: Digest::ZERO };
        let judged =
            |(criterion, value): &(&str, u32)| JudgedRecord { criterion: (*criterion).to_owned(), value: *value, span };
        SheetRecord {
            by: format!("account:{by}"),
            at,
            option: option.to_owned(),
            judged: values.iter().map(judged).collect(),
        }
    }

    #[test]
    fn two_who_agree_within_the_bound_close_a_check_with_their_mean() {
        let (case, mut check) = (case(), check());
        score(&case, &mut check, sheet("b", 5, "took", &[("courtesy", 4), ("appeal", 290)])).unwrap();
        assert_eq!((state(&case, &check), check.closed_at), (State::Open, None));
        assert_eq!(outcome(&case, &check), None);
        score(&case, &mut check, sheet("a", 6, "took", &[("courtesy", 5), ("appeal", 296)])).unwrap();
        assert_eq!((state(&case, &check), check.closed_at), (State::Closed, Some(6)));
        let outcome = outcome(&case, &check).unwrap();
        assert_eq!(outcome.values, [("courtesy".to_owned(), 4.5), ("appeal".to_owned(), 293.0)]);
        // (1 × 4.5/5 + 3 × 1) / 4
        assert!((outcome.share - 0.975).abs() < 1e-9, "{outcome:?}");
    }

    #[test]
    fn where_two_disagree_a_third_decides_what_is_disputed_and_nothing_else() {
        let (case, mut check) = (case(), check());
        score(&case, &mut check, sheet("a", 5, "took", &[("courtesy", 1), ("appeal", 290)])).unwrap();
        let named = name_third(&case, &mut check, "account:lead", "account:c");
        assert!(matches!(named, Err(Refusal::NotToDecide(_))), "nothing is disputed yet");
        score(&case, &mut check, sheet("b", 6, "refused-and-reported", &[("courtesy", 5), ("appeal", 296)])).unwrap();
        assert_eq!(state(&case, &check), State::Disputed);
        assert_eq!(dispute(&case, &check), Dispute { option: true, criteria: vec!["courtesy".to_owned()] });
        for (by, third) in [("account:a", "account:c"), ("account:lead", "account:b"), ("account:lead", "account:lead")]
        {
            assert!(matches!(name_third(&case, &mut check, by, third), Err(Refusal::NotToDecide(_))), "{by} {third}");
        }
        name_third(&case, &mut check, "account:lead", "account:nobody").unwrap();
        name_third(&case, &mut check, "account:lead", "account:c").unwrap();
        let late = sheet("nobody", 7, "took", &[("courtesy", 2)]);
        assert_eq!(score(&case, &mut check, late), Err(Refusal::NotTheirs), "somebody else decides now");
        let all = sheet("c", 7, "took", &[("courtesy", 2), ("appeal", 1)]);
        assert_eq!(score(&case, &mut check, all), Err(Refusal::OtherCriteria));
        score(&case, &mut check, sheet("c", 8, "took", &[("courtesy", 2)])).unwrap();
        assert_eq!((state(&case, &check), check.closed_at), (State::Closed, Some(8)));
        let after = name_third(&case, &mut check, "account:lead", "account:nobody");
        assert!(matches!(after, Err(Refusal::NotToDecide(_))), "it is decided");
        let outcome = outcome(&case, &check).unwrap();
        assert_eq!(outcome.option, "took");
        assert_eq!(outcome.values, [("courtesy".to_owned(), 2.0), ("appeal".to_owned(), 293.0)]);
    }

    #[test]
    fn nobody_scores_twice_or_what_is_not_theirs() {
        let (case, mut check) = (case(), check());
        let good = sheet("a", 5, "took", &[("courtesy", 1), ("appeal", 290)]);
        score(&case, &mut check, good.clone()).unwrap();
        assert_eq!(score(&case, &mut check, SheetRecord { at: 9, ..good }), Err(Refusal::Same));
        let other = sheet("a", 5, "took", &[("courtesy", 2), ("appeal", 290)]);
        assert_eq!(score(&case, &mut check, other), Err(Refusal::Already));
        let stranger = sheet("lead", 5, "took", &[("courtesy", 2), ("appeal", 290)]);
        assert_eq!(score(&case, &mut check, stranger), Err(Refusal::NotTheirs));
        assert_eq!(score(&case, &mut check, sheet("b", 5, "took", &[("courtesy", 2)])), Err(Refusal::OtherCriteria));
        assert_eq!(check.sheets.len(), 1);
    }
}
