//! What a role allows: the one table of role × verb × class, and where somebody has which role.
//!
//! Pure. Whatever the table does not name is not allowed. Somebody with several roles may do what any one of them allows where it
//! holds; a role in one department says nothing about another.

use std::collections::BTreeSet;

use crate::store::records::{Class, Grant, Role};

/// What is done to a recorder and what is known of it. Every route of the API is one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Learn that it is there, what its chain is worth, who had it, what is missing; no footage.
    Find,
    /// See its footage.
    Watch,
    /// Have it send a range now.
    Pull,
    /// Hold its footage.
    Hold,
    /// Mark its footage.
    Mark,
    /// Take an incident in, step it on, note something with it.
    Incident,
    /// Ask for the release of a hold or for the destruction of a key, or confirm it.
    Release,
    /// Order, list and give up exports of it.
    Export,
    /// Take an export away.
    Fetch,
    /// Bring back what was deleted.
    Undo,
    /// Say who has it.
    Assign,
    /// Sums over many recorders, and what is kept for how long.
    Report,
    /// See what was done, by whom and why.
    Audit,
    /// Take its identity back.
    Revoke,
    /// Say how much its footage is kept from eyes.
    Classify,
    /// See and end the sessions of others, and see who has which roles.
    Administer,
    /// Bring in counts that were not made here.
    Count,
    /// Make integrity checks, score them, see what came of them.
    Check,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 18] = [
        Self::Find,
        Self::Watch,
        Self::Pull,
        Self::Hold,
        Self::Mark,
        Self::Incident,
        Self::Release,
        Self::Export,
        Self::Fetch,
        Self::Undo,
        Self::Assign,
        Self::Report,
        Self::Audit,
        Self::Revoke,
        Self::Classify,
        Self::Administer,
        Self::Count,
        Self::Check,
    ];

    /// Whether footage goes out: then what is not open needs a reason.
    #[must_use]
    pub const fn shows(self) -> bool {
        matches!(self, Self::Watch | Self::Fetch)
    }
}

/// Up to which class a role may do a thing; `None` for not at all.
#[must_use]
pub const fn ceiling(role: Role, verb: Verb) -> Option<Class> {
    use Class::{Open, Restricted, Sealed};
    match role {
        Role::Operator => match verb {
            Verb::Find | Verb::Pull | Verb::Hold | Verb::Mark | Verb::Incident => Some(Restricted),
            Verb::Watch => Some(Open),
            _ => None,
        },
        Role::Supervisor => match verb {
            Verb::Audit | Verb::Revoke | Verb::Administer | Verb::Check => None,
            _ => Some(Restricted),
        },
        Role::Inspector => match verb {
            Verb::Find
            | Verb::Watch
            | Verb::Pull
            | Verb::Hold
            | Verb::Mark
            | Verb::Incident
            | Verb::Release
            | Verb::Export
            | Verb::Fetch
            | Verb::Report
            | Verb::Audit
            | Verb::Classify
            | Verb::Check => Some(Sealed),
            _ => None,
        },
        Role::Auditor => match verb {
            Verb::Find | Verb::Report | Verb::Audit => Some(Restricted),
            _ => None,
        },
        Role::Administrator => match verb {
            Verb::Find | Verb::Assign | Verb::Report | Verb::Revoke | Verb::Administer | Verb::Count => {
                Some(Restricted)
            }
            _ => None,
        },
    }
}

/// Everything that somebody was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants(Vec<Grant>);

impl Grants {
    /// These roles, each where it holds.
    #[must_use]
    pub fn new(grants: Vec<Grant>) -> Self {
        Self(grants)
    }

    /// Every role everywhere.
    #[must_use]
    pub fn everything() -> Self {
        Self(Role::ALL.map(|role| Grant { role, departments: None }).to_vec())
    }

    /// The roles, each where it holds.
    #[must_use]
    pub fn list(&self) -> &[Grant] {
        &self.0
    }

    /// Whether this may be done to what a department owns.
    #[must_use]
    pub fn allow(&self, verb: Verb, department: &str, class: Class) -> bool {
        let holds = |grant: &Grant| match &grant.departments {
            None => true,
            Some(departments) => departments.iter().any(|named| named == department),
        };
        self.0.iter().any(|grant| holds(grant) && ceiling(grant.role, verb).is_some_and(|most| class <= most))
    }

    /// Whether this may be done anywhere.
    #[must_use]
    pub fn allow_somewhere(&self, verb: Verb) -> bool {
        self.0.iter().any(|grant| {
            ceiling(grant.role, verb).is_some() && grant.departments.as_ref().is_none_or(|named| !named.is_empty())
        })
    }

    /// In which departments this may be done; `None` for all, also those that come.
    #[must_use]
    pub fn departments(&self, verb: Verb) -> Option<BTreeSet<String>> {
        let able = self.0.iter().filter(|grant| ceiling(grant.role, verb).is_some());
        let named: Option<Vec<&Vec<String>>> = able.map(|grant| grant.departments.as_ref()).collect();
        named.map(|named| named.into_iter().flatten().cloned().collect())
    }

    /// Whether this may be done to the site as a whole.
    #[must_use]
    pub fn allow_everywhere(&self, verb: Verb) -> bool {
        self.0.iter().any(|grant| ceiling(grant.role, verb).is_some() && grant.departments.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(role: Role, departments: &[&str]) -> Grant {
        Grant { role, departments: Some(departments.iter().map(|&name| name.to_owned()).collect()) }
    }

    #[test]
    fn whoever_may_do_anything_to_a_recorder_may_find_it() {
        for (role, verb) in Role::ALL.into_iter().flat_map(|role| Verb::ALL.map(|verb| (role, verb))) {
            assert!(ceiling(role, verb) <= ceiling(role, Verb::Find), "{role:?} {verb:?}");
        }
    }

    #[test]
    fn a_role_in_one_department_says_nothing_about_another() {
        let grants = Grants::new(vec![grant(Role::Supervisor, &["Astana"]), grant(Role::Operator, &["Pavlodar"])]);
        assert!(grants.allow(Verb::Export, "Astana", Class::Restricted));
        assert!(!grants.allow(Verb::Export, "Pavlodar", Class::Open));
        assert!(grants.allow(Verb::Watch, "Pavlodar", Class::Open));
        assert!(!grants.allow(Verb::Watch, "Pavlodar", Class::Restricted));
        assert!(!grants.allow(Verb::Find, "Karaganda", Class::Open));
        assert!(grants.allow_somewhere(Verb::Export) && !grants.allow_everywhere(Verb::Export));
        assert_eq!(grants.departments(Verb::Export), Some(BTreeSet::from(["Astana".to_owned()])));
        assert_eq!(Grants::everything().departments(Verb::Export), None);
    }

    #[test]
    fn only_inspectors_reach_what_is_sealed_and_auditors_and_administrators_see_no_footage() {
        for role in Role::ALL {
            let grants = Grants::new(vec![Grant { role, departments: None }]);
            let sealed = Verb::ALL.into_iter().any(|verb| grants.allow(verb, "Astana", Class::Sealed));
            assert_eq!(sealed, role == Role::Inspector, "{role:?}");
            let watches = Verb::ALL.into_iter().any(|verb| verb.shows() && grants.allow_somewhere(verb));
            assert_eq!(watches, !matches!(role, Role::Auditor | Role::Administrator), "{role:?}");
        }
    }

    #[test]
    fn nobody_without_a_role_may_do_anything() {
        for grants in [Grants::default(), Grants::new(vec![grant(Role::Supervisor, &[])])] {
            for verb in Verb::ALL {
                assert!(!grants.allow_somewhere(verb) && !grants.allow_everywhere(verb));
                assert!(!grants.allow(verb, "", Class::Open));
            }
        }
    }
}
