//! Figures: how many marks there were, of what, where and when, against the same time of the year before.
//!
//! Pure: what is asked ([`Question`]), which days that is ([`calendar`]) and how it adds up ([`Tally`]). A question has one canonical
//! form; with it and a size of the log the same figure comes out again, whatever has arrived since, because each row that is counted
//! says where the log has it. Who may see which rows, whoever reads them decides.

pub mod calendar;
mod question;
mod tally;

pub use calendar::{Bucket, Days};
pub use question::{By, Dimension, Question, Source, Wanted};
pub use tally::{Figure, Group, Latest, Row, Tally, ratio};
