//! What a recorder, the server and a verifier must agree on.
//!
//! The normative text is `SPEC.md` beside this crate; every type here names its section. The crate does no I/O, starts
//! no task and reads no clock: it takes bytes and values and returns bytes and values. Without the feature `std` it
//! has the wire types alone (`id`, `limits`, `frame`, `message`, `link`, `chain`, `close`, `wire`); signatures and receipts'
//! verification need `std`.
//!
//! Peer input is parsed, never asserted: every decoder returns [`Error`] and allocates in proportion to the bytes it was
//! given, never to a length that these bytes claim.
#![cfg_attr(not(feature = "std"), no_std)]
#![warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

extern crate alloc;

pub mod chain;
pub mod close;
#[cfg(feature = "std")]
pub mod cosignature;
pub mod error;
pub mod frame;
pub mod id;
pub mod limits;
pub mod link;
pub mod message;
#[cfg(feature = "std")]
pub mod receipt;
#[cfg(feature = "std")]
pub mod signature;
pub mod statement;
#[cfg(feature = "std")]
pub mod succession;
#[cfg(feature = "std")]
pub mod verdict;
pub mod wire;

pub use error::Error;
pub use id::{Digest, Micros, RecorderId, Sequence, SequenceRange, SignatureBytes};
pub use link::{Content, LinkHeader};
