//! The key of `[marks]`: which categories a mark may have, how each is called, what belongs to it and for how long it is kept.

use std::collections::BTreeSet;

use aigaq_proto::limits::CATEGORY_BYTES_MAX;
use toml::{Table, Value};

use super::raw::Raw;

/// Most categories.
const CATEGORIES_MAX: usize = 200;
/// Longest name in a language, characters.
const NAME_CHARS_MAX: usize = 100;
/// Longest retention, days.
const DAYS_MAX: u32 = 36_500;

/// The section `[marks]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// In the order in which they are shown.
    pub categories: Vec<MarkCategory>,
}

/// A category of marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkCategory {
    /// As recorders and the API name it.
    pub name: String,
    /// What people call it, in Kazakh.
    pub kk: String,
    /// In Russian.
    pub ru: String,
    /// In English.
    pub en: String,
    /// What belongs to it before the moment of the mark, seconds.
    pub before_s: u16,
    /// And after it, seconds.
    pub after_s: u16,
    /// Days for which its footage is kept after the mark arrived; 0 for no longer than other footage.
    pub days: u32,
    /// Whether somebody has to look at once.
    pub urgent: bool,
}

/// Name, Kazakh, Russian, English, seconds before and after, days, urgent.
type Line = (&'static str, &'static str, &'static str, &'static str, u16, u16, u32, bool);

/// The set for a department of Kazakhstan.
#[rustfmt::skip]
const DEFAULTS: [Line; 13] = [
    ("bribe-attempt", "Пара беруге оқталу", "Попытка дачи взятки", "Attempt to bribe", 300, 900, 1_825, true),
    ("emergency", "Төтенше жағдай", "Чрезвычайная ситуация", "Emergency", 300, 1_800, 1_095, true),
    ("watch-me", "Мені бақылап тұрыңыз", "Наблюдайте за мной", "Watch me", 60, 1_800, 0, false),
    ("disobedience", "Бағынбау немесе қарсылық көрсету", "Неповиновение или сопротивление", "Disobedience or resistance", 300, 900, 1_095, false),
    ("insult", "Билік өкілін қорлау", "Оскорбление представителя власти", "Insult of an official", 300, 600, 1_095, false),
    ("drunk-driving", "Көлікті масаң күйде басқару", "Управление в состоянии опьянения", "Driving drunk", 120, 900, 365, false),
    ("no-documents", "Көлікті құжатсыз немесе жүргізуші куәлігінсіз басқару", "Управление без документов или водительского удостоверения", "Driving without documents or licence", 60, 300, 0, false),
    ("failing-to-yield", "Жол бермеу", "Непредоставление преимущества в движении", "Failing to yield", 60, 300, 0, false),
    ("insurance", "Міндетті сақтандыру полисінің болмауы", "Отсутствие полиса обязательного страхования", "No insurance", 60, 300, 0, false),
    ("speeding", "Белгіленген жылдамдықты асыру", "Превышение установленной скорости", "Speeding", 60, 300, 0, false),
    ("passenger-carriage", "Жолаушыларды тасымалдау қағидаларын бұзу", "Нарушение правил перевозки пассажиров", "Breach of the rules for carrying passengers", 60, 300, 0, false),
    ("phone", "Көлік жүргізу кезінде телефонды пайдалану", "Пользование телефоном за рулём", "Using a phone while driving", 60, 300, 0, false),
    ("false-alarm", "Жалған дабыл", "Ложная тревога", "False alarm", 0, 0, 0, false),
];

impl Default for Marks {
    fn default() -> Self {
        let category = |(name, kk, ru, en, before_s, after_s, days, urgent): Line| {
            let [name, kk, ru, en] = [name, kk, ru, en].map(str::to_owned);
            MarkCategory { name, kk, ru, en, before_s, after_s, days, urgent }
        };
        Self { categories: DEFAULTS.map(category).to_vec() }
    }
}

pub(super) fn read(raw: &mut Raw) -> Marks {
    raw.section("marks");
    let wanted = "a list of at most 200 different { name, kk, ru, en, before_s, after_s, days, urgent }, the name of at most 64 bytes \
                  without control characters, before_s and after_s from 0 to 65535, days from 0 to 36500";
    let categories = raw.tables("categories", Marks::default().categories, wanted, category);
    let names: BTreeSet<&str> = categories.iter().map(|category| category.name.as_str()).collect();
    if names.len() != categories.len() || categories.len() > CATEGORIES_MAX {
        raw.note(format!("marks.categories: must be {wanted}"));
    }
    Marks { categories }
}

fn category(table: &Table) -> Option<MarkCategory> {
    const KEYS: [&str; 8] = ["name", "kk", "ru", "en", "before_s", "after_s", "days", "urgent"];
    if !table.keys().all(|key| KEYS.contains(&key.as_str())) {
        return None;
    }
    let plain = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
    let name = table.get("name")?.as_str().filter(|name| plain(name) && name.len() <= CATEGORY_BYTES_MAX)?;
    let called = |key: &str| match table.get(key) {
        None => Some(name.to_owned()),
        Some(value) => {
            let fine = |text: &&str| plain(text) && text.chars().count() <= NAME_CHARS_MAX;
            value.as_str().filter(fine).map(str::to_owned)
        }
    };
    let seconds = |key: &str| table.get(key).map_or(Some(0), |value| u16::try_from(value.as_integer()?).ok());
    let days = table.get("days").map_or(Some(0), |value| u32::try_from(value.as_integer()?).ok())?;
    Some(MarkCategory {
        name: name.to_owned(),
        kk: called("kk")?,
        ru: called("ru")?,
        en: called("en")?,
        before_s: seconds("before_s")?,
        after_s: seconds("after_s")?,
        days: (days <= DAYS_MAX).then_some(days)?,
        urgent: table.get("urgent").map_or(Some(false), Value::as_bool)?,
    })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_category_needs_a_name_alone() {
        let config = Config::parse("[marks]\ncategories = [{ name = \"dog\" }]").unwrap();
        let [dog] = config.marks.categories.as_slice() else { panic!("{:?}", config.marks) };
        assert_eq!((dog.en.as_str(), dog.before_s, dog.days, dog.urgent), ("dog", 0, 0, false));
    }

    #[test]
    fn two_of_a_name_and_what_is_no_category_are_refused() {
        for wrong in [
            "[{ name = \"dog\" }, { name = \"dog\" }]",
            "[{ name = \"\" }]",
            "[{ kk = \"ит\" }]",
            "[{ name = \"dog\", days = -1 }]",
            "[{ name = \"dog\", before_s = 65536 }]",
            "[{ name = \"dog\", colour = 1 }]",
            "\"dog\"",
            "[1]",
        ] {
            let refused = Config::parse(&format!("[marks]\ncategories = {wrong}")).unwrap_err();
            assert!(refused.to_string().contains("marks.categories"), "{refused}");
        }
    }
}
