//! A situational case: what happens, how somebody may respond, and by which weighted criteria that is judged.
//!
//! A version is its canonical JSON (RFC 8785, the JSON Canonicalization Scheme) and is named by the SHA-256 of that: changed by one letter it
//! is another one. Numbers in it are integers, so that the canonical form needs no rule for fractions.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use aigaq_proto::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::{Context as _, Error, Kind, Result};

/// Most response options and criteria of a case.
const OPTIONS_MAX: usize = 20;
const CRITERIA_MAX: usize = 30;
/// Longest text, characters, and longest name of a part.
const TEXT_CHARS_MAX: usize = 2_000;
const NAME_CHARS_MAX: usize = 64;
/// Greatest weight, most points, longest time in seconds.
const WEIGHT_MAX: u32 = 100;
const POINTS_MAX: u32 = 100;
const SECONDS_MAX: u32 = 86_400;

/// The same in three languages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Kazakh.
    pub kk: String,
    /// Russian.
    pub ru: String,
    /// English.
    pub en: String,
}

/// A way to respond.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResponseOption {
    /// Its name within the case: lower-case letters, digits and hyphens.
    pub id: String,
    /// What it is.
    pub text: Text,
}

/// By what is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Measure {
    /// By points.
    Points {
        /// The most there are, 1 to 100.
        max: u32,
        /// Two assessors agree if they differ by no more than this.
        bound: u32,
    },
    /// By the time in which a citizen's appeal was answered: the span of footage begins with the appeal and ends with the answer.
    ResponseTime {
        /// Fulfilled if it took no longer, seconds.
        target_s: u32,
        /// Two assessors agree if they differ by no more than this, seconds.
        bound_s: u32,
    },
}

/// A criterion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    /// Its name within the case: lower-case letters, digits and hyphens.
    pub id: String,
    /// What it is.
    pub text: Text,
    /// How much it weighs among the others, 1 to 100.
    pub weight: u32,
    /// By what it is judged.
    pub measure: Measure,
}

/// A case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What people call it; the versions of a case share it.
    pub name: String,
    /// What happens.
    pub text: Text,
    /// How somebody may respond; 2 to 20.
    #[schema(min_items = 2)]
    pub options: Vec<ResponseOption>,
    /// By what that is judged; 1 to 30.
    #[schema(min_items = 1)]
    pub criteria: Vec<Criterion>,
}

impl Measure {
    /// Whether two values are the same, as far as it matters.
    #[must_use]
    pub fn agree(self, one: u32, other: u32) -> bool {
        let (Self::Points { bound, .. } | Self::ResponseTime { bound_s: bound, .. }) = self;
        one.abs_diff(other) <= bound
    }

    /// What a value is worth, from 0 to 1: points of those there are; a time that is within its target 1, and 0 else.
    #[must_use]
    pub fn share(self, value: f64) -> f64 {
        match self {
            Self::Points { max, .. } => (value / f64::from(max.max(1))).clamp(0.0, 1.0),
            Self::ResponseTime { target_s, .. } => f64::from(u8::from(value <= f64::from(target_s))),
        }
    }

    /// What agreement by chance is reckoned over: the points, or whether the time was within its target.
    #[must_use]
    pub fn class(self, value: u32) -> u32 {
        match self {
            Self::Points { .. } => value,
            Self::ResponseTime { target_s, .. } => u32::from(value <= target_s),
        }
    }
}

impl Case {
    /// Checks that it is whole.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for what is missing, too much, or twice there.
    pub fn validate(&self) -> Result<()> {
        let invalid = |text: String| Err(Error::new(Kind::Invalid, text));
        let text = |text: &str, max: usize| {
            let controls = |c: char| {
                (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            };
            !text.trim().is_empty() && text.chars().count() <= max && !text.contains(controls)
        };
        let texts = self.options.iter().map(|option| &option.text).chain(self.criteria.iter().map(|one| &one.text));
        let all = texts.chain([&self.text]).flat_map(|one| [&one.kk, &one.ru, &one.en]);
        if !text(&self.name, NAME_CHARS_MAX) || !all.into_iter().all(|one| text(one, TEXT_CHARS_MAX)) {
            let limits =
                format!("1 to {TEXT_CHARS_MAX} characters in each language, and the name 1 to {NAME_CHARS_MAX}");
            return invalid(format!("texts have {limits}, none of which controls how a text is shown"));
        }
        if !(2..=OPTIONS_MAX).contains(&self.options.len()) || !(1..=CRITERIA_MAX).contains(&self.criteria.len()) {
            return invalid(format!("a case has 2 to {OPTIONS_MAX} options and 1 to {CRITERIA_MAX} criteria"));
        }
        let is_name = |id: &str| {
            let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            (1..=NAME_CHARS_MAX).contains(&id.len()) && id.bytes().all(fits)
        };
        let distinct =
            |ids: Vec<&str>| ids.iter().all(|id| is_name(id)) && ids.iter().collect::<BTreeSet<_>>().len() == ids.len();
        let options = self.options.iter().map(|option| option.id.as_str()).collect();
        let criteria = self.criteria.iter().map(|criterion| criterion.id.as_str()).collect();
        if !distinct(options) || !distinct(criteria) {
            return invalid(
                "each option and each criterion has an id of its own: lower-case letters, digits, -".to_owned(),
            );
        }
        for Criterion { id, weight, measure, .. } in &self.criteria {
            let fits = match *measure {
                Measure::Points { max, bound } => (1..=POINTS_MAX).contains(&max) && bound < max,
                Measure::ResponseTime { target_s, bound_s } => {
                    (1..=SECONDS_MAX).contains(&target_s) && bound_s <= SECONDS_MAX
                }
            };
            if !fits || !(1..=WEIGHT_MAX).contains(weight) {
                return invalid(format!("criterion {id}: its weight, its most or its bound is out of range"));
            }
        }
        Ok(())
    }

    /// The canonical JSON of it.
    ///
    /// # Errors
    /// [`Kind::Internal`] if it has no JSON form, which every case has.
    pub fn canonical(&self) -> Result<String> {
        canonical(self)
    }

    /// Reads what [`Case::canonical`] made.
    ///
    /// # Errors
    /// [`Kind::Damaged`] for anything else.
    pub fn read(text: &str) -> Result<Self> {
        serde_json::from_str(text).context(Kind::Damaged, "a case does not read")
    }

    /// The criterion with this name.
    #[must_use]
    pub fn criterion(&self, id: &str) -> Option<&Criterion> {
        self.criteria.iter().find(|criterion| criterion.id == id)
    }
}

/// The canonical JSON (RFC 8785) of a value whose numbers are integers and whose names are ASCII.
///
/// # Errors
/// [`Kind::Internal`] if it has no JSON form.
pub fn canonical<T: Serialize>(value: &T) -> Result<String> {
    let value = serde_json::to_value(value).context(Kind::Internal, "a value has no JSON form")?;
    let mut text = String::new();
    write_canonical(&mut text, &value);
    Ok(text)
}

/// The digest by which canonical JSON is named.
#[must_use]
pub fn digest(canonical: &str) -> Digest {
    Digest::of(canonical.as_bytes())
}

fn write_canonical(text: &mut String, value: &Value) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<_> = fields.iter().collect();
            names.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            text.push('{');
            for (index, (name, value)) in names.into_iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                let _ = write!(text, "{}:", Value::from(name.as_str()));
                write_canonical(text, value);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write_canonical(text, item);
            }
            text.push(']');
        }
        // As RFC 8785 section 3.2.2 writes them.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = write!(text, "{value}");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn text(en: &str) -> Text {
        Text { kk: format!("{en} (қаз)"), ru: format!("{en} (рус)"), en: en.to_owned() }
    }

    pub(crate) fn case() -> Case {
        let option = |id: &str| ResponseOption { id: id.to_owned(), text: text(id) };
        let criterion = |id: &str, weight, measure| Criterion { id: id.to_owned(), text: text(id), weight, measure };
        Case {
            name: "money in the papers".to_owned(),
            text: text("A driver hands over his papers with money in them."),
            options: vec![option("refused-and-reported"), option("took")],
            criteria: vec![
                criterion("courtesy", 1, Measure::Points { max: 5, bound: 1 }),
                criterion("appeal", 3, Measure::ResponseTime { target_s: 300, bound_s: 10 }),
            ],
        }
    }

    #[test]
    fn a_case_is_its_canonical_json_and_reads_back() {
        let case = case();
        let text = case.canonical().unwrap();
        assert!(text.starts_with(
            r#"{"criteria":[{"id":"courtesy","measure":{"points":{"bound":1,"max":5}},"text":{"en":"courtesy""#
        ));
        assert_eq!(Case::read(&text).unwrap(), case);
        let other = Case { name: "money in the paper".to_owned(), ..case.clone() };
        assert_ne!(digest(&text), digest(&other.canonical().unwrap()), "changed by one letter it is another one");
        let spaced: Case = serde_json::from_str(&serde_json::to_string_pretty(&case).unwrap()).unwrap();
        assert_eq!(spaced.canonical().unwrap(), text, "however it was written");
    }

    #[test]
    fn canonical_json_is_that_of_rfc_8785() {
        let value: Value =
            serde_json::from_str(r#"{"b":[1,"\u20ac\u000f\n'\"\\","A\u0000"],"a":null,"B":{"z":true,"y":-2}}"#)
                .unwrap();
        assert_eq!(
            canonical(&value).unwrap(),
            "{\"B\":{\"y\":-2,\"z\":true},\"a\":null,\"b\":[1,\"€\\u000f\\n'\\\"\\\\\",\"A\\u0000\"]}"
        );
    }

    #[test]
    fn a_case_that_is_not_whole_is_refused() {
        assert!(case().validate().is_ok());
        let broken: [fn(&mut Case); 9] = [
            |case| case.name.clear(),
            |case| case.text.kk = " ".to_owned(),
            |case| case.text.en = "\u{202e}".to_owned(),
            |case| case.options.truncate(1),
            |case| case.criteria.clear(),
            |case| case.options[1].id = case.options[0].id.clone(),
            |case| case.criteria[0].id = "Courtesy".to_owned(),
            |case| case.criteria[0].weight = 0,
            |case| case.criteria[0].measure = Measure::Points { max: 5, bound: 5 },
        ];
        for (index, break_it) in broken.into_iter().enumerate() {
            let mut case = case();
            break_it(&mut case);
            assert_eq!(case.validate().unwrap_err().kind(), Kind::Invalid, "{index}");
        }
    }
}
