//! The file as it is written: a TOML table whose keys are taken out one by one, each with its default and its range.
//!
//! Whatever is wrong is noted and the reading goes on, so that all problems are reported together; what nobody took out is an
//! unknown key. The one place that knows how a value is spelled; what the keys mean is the business of `check`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use toml::{Table, Value};

/// A TOML file that is being read.
pub(super) struct Raw {
    sections: Table,
    section: &'static str,
    current: Table,
    taken: Vec<String>,
    problems: Vec<String>,
}

impl Raw {
    /// Reads the syntax.
    ///
    /// # Errors
    /// One line with the place and what was expected there.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let sections = text.parse::<Table>().map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            format!("line {line}: {}", error.message().replace('\n', ", "))
        })?;
        Ok(Self { sections, ..Self::empty() })
    }

    /// A file in which nothing is set.
    pub(super) fn empty() -> Self {
        Self { sections: Table::new(), section: "", current: Table::new(), taken: Vec::new(), problems: Vec::new() }
    }

    /// Goes on to the section `name`; what is left of the one before is unknown.
    pub(super) fn section(&mut self, name: &'static str) {
        self.leave();
        self.section = name;
        match self.sections.remove(name) {
            None => {}
            Some(Value::Table(table)) => self.current = table,
            Some(other) => self.note(format!("{name} = {other}: must be a section, written [{name}]")),
        }
    }

    /// A whole number within `range`.
    pub(super) fn integer<T>(&mut self, key: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: Copy + Display + PartialOrd + TryFrom<i64>,
    {
        let value = match self.take(key) {
            None => return default,
            Some(value) => value,
        };
        match value.as_integer().and_then(|number| T::try_from(number).ok()).filter(|number| range.contains(number)) {
            Some(number) => number,
            None => {
                let wanted = format!("must be a whole number from {} to {}", range.start(), range.end());
                self.refuse(key, &value, &wanted);
                default
            }
        }
    }

    /// Whole numbers within `range`, each under a name; none if nothing is set.
    pub(super) fn integers(&mut self, key: &'static str, range: RangeInclusive<u32>) -> BTreeMap<String, u32> {
        let value = match self.take(key) {
            None => return BTreeMap::new(),
            Some(value) => value,
        };
        let number = |value: &Value| u32::try_from(value.as_integer()?).ok().filter(|number| range.contains(number));
        let read = value.as_table().and_then(|table| {
            table.iter().map(|(name, value)| Some((name.clone(), number(value)?))).collect::<Option<BTreeMap<_, _>>>()
        });
        read.unwrap_or_else(|| {
            let (start, end) = (range.start(), range.end());
            let wanted =
                format!("must be names with whole numbers from {start} to {end}, such as {{ \"Name\" = {start} }}");
            self.refuse(key, &value, &wanted);
            BTreeMap::new()
        })
    }

    /// Texts that `parse` accepts, each under a name; none if nothing is set.
    pub(super) fn texts<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> BTreeMap<String, T> {
        let value = match self.take(key) {
            None => return BTreeMap::new(),
            Some(value) => value,
        };
        let read = value.as_table().and_then(|table| {
            table.iter().map(|(name, value)| Some((name.clone(), parse(value.as_str()?)?))).collect::<Option<_>>()
        });
        read.unwrap_or_else(|| {
            self.refuse(key, &value, &format!("must be {wanted}"));
            BTreeMap::new()
        })
    }

    /// A list of tables, each of which `parse` accepts.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        wanted: &str,
        parse: impl Fn(&Table) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = self.take(key) else { return default };
        let one = |value: &Value| parse(value.as_table()?);
        value.as_array().and_then(|list| list.iter().map(one).collect()).unwrap_or_else(|| {
            self.refuse(key, &value, &format!("must be {wanted}"));
            default
        })
    }

    /// True or false.
    pub(super) fn switch(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.take(key) else { return default };
        value.as_bool().unwrap_or_else(|| {
            self.refuse(key, &value, "must be true or false");
            default
        })
    }

    /// Texts that are not empty, in a list; none if nothing is set.
    pub(super) fn list(&mut self, key: &'static str) -> Vec<String> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let read = value.as_array().and_then(|list| list.iter().map(text).collect());
        read.unwrap_or_else(|| {
            self.refuse(key, &value, "must be a program and its arguments, such as [\"/usr/local/bin/kms\", \"wrap\"]");
            Vec::new()
        })
    }

    /// A socket address: IP address and port, the port 0 for any free one.
    pub(super) fn address(&mut self, key: &'static str, default: SocketAddr) -> SocketAddr {
        self.text(key, default, "an IP address and a port, such as \"127.0.0.1:8080\"", |text| text.parse().ok())
    }

    /// A text that `parse` accepts; `wanted` says what it accepts.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        default: T,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        let value = match self.take(key) {
            None => return default,
            Some(value) => value,
        };
        match value.as_str().and_then(parse) {
            Some(parsed) => parsed,
            None => {
                self.refuse(key, &value, &format!("must be {wanted}"));
                default
            }
        }
    }

    /// Notes a problem that no single key has.
    pub(super) fn note(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// The keys that were taken out and the problems that were met.
    pub(super) fn finish(mut self) -> (Vec<String>, Vec<String>) {
        self.leave();
        let unknown = std::mem::take(&mut self.sections);
        self.problems.extend(unknown.keys().map(|name| format!("[{name}]: unknown section")));
        (self.taken, self.problems)
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.taken.push(format!("{}.{key}", self.section));
        self.current.remove(key)
    }

    fn refuse(&mut self, key: &str, value: &Value, wanted: &str) {
        self.problems.push(format!("{}.{key} = {value}: {wanted}", self.section));
    }

    fn leave(&mut self) {
        let left = std::mem::take(&mut self.current);
        let section = self.section;
        self.problems.extend(left.iter().map(|(key, value)| format!("{section}.{key} = {value}: unknown key")));
    }
}
