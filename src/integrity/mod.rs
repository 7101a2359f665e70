//! Integrity checks: whether people do what they should when somebody offers them what they must not take.
//!
//! Pure, but for [`span`], which reads which footage shows a thing. A [`case`] is a situation with response options and weighted criteria, and
//! is its digest; a [`draw`] says who is checked, so that nobody chose it; a [`check`] is scored by two who do not know of one another, and a third
//! where they disagree; [`results`] add up what came of it, and [`said`] is what the log has of it all.
//!
//! A check is sealed: whoever is no inspector of its department must not be able to tell that there is one. This room decides nothing about
//! that; it must never write to the feed, and never count in a metric.

pub mod case;
pub mod check;
pub mod draw;
pub mod results;
pub mod said;
pub mod span;
