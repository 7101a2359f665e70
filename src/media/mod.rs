//! Media, pure: bytes in, values out. Fragmented MP4 is read ([`boxes`], [`fragment`]), cut into the payloads of links
//! ([`cutter`]), made from ordinary files ([`remux`]) and from what a camera sends ([`live`]), listed for players ([`playlist`]), put together again ([`clip`]), shown to the very frame ([`exact`]) and shifted in time so that a clip can
//! loop ([`retime`]).
//!
//! Whatever passes through here keeps its bytes: payloads are whole boxes of the source, in their order, unchanged. The only
//! exception is [`retime`], which is for the bundled clip and for load, never for evidence.
//!
//! Nothing here may do I/O, read a clock, panic on what a file says, or allocate by what a length field promises.

pub mod boxes;
pub mod clip;
mod codecs;
pub mod cutter;
pub mod exact;
pub mod fragment;
pub mod live;
pub mod movie;
pub mod playlist;
pub mod remux;
pub mod retime;
mod samples;

pub use boxes::Error;
pub use cutter::{Cutter, Segment};
pub use fragment::{Event, Fragment, Fragmenter, Init};
