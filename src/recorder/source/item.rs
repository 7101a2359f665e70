//! What a source gives: the pieces of recordings, in order, and questions about what became of them.

use std::ops::Range;

use bytes::Bytes;
use tokio::sync::mpsc;

use aigaq_proto::link::StopCause;
use aigaq_proto::{Micros, Sequence};

use crate::media::Segment;

/// What a source gives.
#[derive(Debug, Clone)]
pub enum Item {
    /// A recording begins.
    Init {
        /// The initialisation segment.
        bytes: Bytes,
        /// RFC 6381 codecs.
        codecs: String,
    },
    /// The first sample of the next segment was captured at this time, device clock. A source that does not say so is
    /// recorded now, or from the start that was given, one recording after the other.
    At(Micros),
    /// One link's worth of media of the recording that began last.
    Segment(Segment),
    /// The recording ends here, and this is why. Without it a recording ends where the next begins or the source ends.
    End(StopCause),
    /// Something that a person may want to read.
    Note(String),
    /// Where does the chain stand now that everything before this item is in the spool?
    Ask(Ask),
}

/// A question to the recorder: where does the chain stand, and what became of some links?
#[derive(Debug, Clone)]
pub struct Ask {
    about: Range<Sequence>,
    reply: mpsc::Sender<Standing>,
}

/// Where the chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Sequence of the next link.
    pub sequence: Sequence,
    /// Number of the next segment: one is added for each, and for nothing else.
    pub ordinal: u64,
    /// What became of the links that were asked about.
    pub fate: Fate,
}

/// What became of links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Some are in the spool.
    Waiting,
    /// The receipt of each was verified.
    Received,
    /// None is in the spool, but the server will not have each: it refused some, or they were lost.
    Missing,
}

impl Ask {
    /// A question about these links, and where its answer comes: nothing if the recorder ends before.
    #[must_use]
    pub fn about(links: Range<Sequence>) -> (Self, mpsc::Receiver<Standing>) {
        let (reply, answer) = mpsc::channel(1);
        (Self { about: links, reply }, answer)
    }

    /// Answers with the place of the next link and the fate of those that were asked about.
    pub(in crate::recorder) fn answer(
        &self,
        sequence: Sequence,
        ordinal: u64,
        fate: impl FnOnce(Range<Sequence>) -> Fate,
    ) {
        let fate = fate(self.about.clone());
        let _ = self.reply.try_send(Standing { sequence, ordinal, fate });
    }
}
