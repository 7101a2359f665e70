//! Where an incident may go from where it stands. Pure: the one table, and nothing else.
//!
//! ```text
//!            confirm            resolve
//!    open ───────────► confirmed ───────► resolved
//!     │ ▲                 │                  │
//!     │ │ reopen          │ dismiss          │ close
//!     │ └───────────┐     ▼                  ▼
//!     └─────────────┼─► false ───────────► closed
//!        dismiss    │           close
//!                   └── from false, resolved and closed
//! ```

use crate::store::records::{IncidentState, Transition};

/// Where a transition leads; `None` if it cannot be taken from here.
#[must_use]
pub const fn next(state: IncidentState, transition: Transition) -> Option<IncidentState> {
    use IncidentState::{Closed, Confirmed, False, Open, Resolved};
    match (state, transition) {
        (Open, Transition::Confirm) => Some(Confirmed),
        (Open | Confirmed, Transition::Dismiss) => Some(False),
        (Confirmed, Transition::Resolve) => Some(Resolved),
        (False | Resolved, Transition::Close) => Some(Closed),
        (False | Resolved | Closed, Transition::Reopen) => Some(Open),
        _ => None,
    }
}

/// The transitions that can be taken from here.
pub fn allowed(state: IncidentState) -> impl Iterator<Item = Transition> {
    Transition::ALL.into_iter().filter(move |transition| next(state, *transition).is_some())
}

/// Whether recorders are looked for because of an incident that stands here.
#[must_use]
pub const fn is_active(state: IncidentState) -> bool {
    !matches!(state, IncidentState::False | IncidentState::Closed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const STATES: [IncidentState; 5] = [
        IncidentState::Open,
        IncidentState::Confirmed,
        IncidentState::False,
        IncidentState::Resolved,
        IncidentState::Closed,
    ];

    #[test]
    fn every_state_can_be_reached_and_left() {
        let mut reached = BTreeSet::from([IncidentState::Open.name()]);
        let mut from = vec![IncidentState::Open];
        while let Some(state) = from.pop() {
            assert!(allowed(state).count() > 0, "{state:?}");
            for transition in allowed(state) {
                let to = next(state, transition).unwrap();
                if reached.insert(to.name()) {
                    from.push(to);
                }
            }
        }
        assert_eq!(reached, STATES.iter().map(|state| state.name()).collect());
    }

    #[test]
    fn nothing_is_closed_that_nobody_has_dealt_with_and_nothing_resolved_that_was_not_confirmed() {
        assert_eq!(next(IncidentState::Open, Transition::Close), None);
        assert_eq!(next(IncidentState::Confirmed, Transition::Close), None);
        assert_eq!(next(IncidentState::Open, Transition::Resolve), None);
        assert_eq!(STATES.into_iter().filter(|state| !is_active(*state)).count(), 2);
    }

    #[test]
    fn no_transition_stays_where_it_is() {
        for state in STATES {
            assert!(allowed(state).all(|transition| next(state, transition) != Some(state)));
        }
    }
}
