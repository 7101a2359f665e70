//! One truth per recorder: what a link that arrived means for what is known, and the writer's cache of it.
//!
//! [`Heads`] answers from memory where it can and from the store where it must. A batch is judged on a [`Staged`]
//! copy, which becomes the truth only when the commit is durable; if it is not, it is dropped and nothing has
//! changed.
//!
//! The state depends only on which links were taken, never on the order of their arrival; which side of a fork came
//! first is the one exception. This room never writes to the store and never answers a recorder.

mod heads;
mod staged;
#[cfg(test)]
mod tests;

pub use heads::{Heads, Quotas};
pub use staged::{Decision, Offer, Staged};
