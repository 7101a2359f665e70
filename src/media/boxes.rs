//! The box layer of ISO/IEC 14496-12: headers, children, and what can be wrong with a file.
//!
//! Containers are walked here, one level at a time and without recursion; only leaf boxes are handed to the crate
//! `mp4-atom`. Its container types decode whatever box they meet inside, to any depth, so a small crafted file could
//! exhaust the stack; and they refuse a recording for an odd box that nobody needs.

use mp4_atom::Atom;

/// A four-character box type.
pub type Kind = [u8; 4];

/// How to make a file that a recorder can read; part of the messages for people.
const ADVICE: &str =
    "make one with: ffmpeg -i INPUT -c copy -f mp4 -movflags +frag_keyframe+empty_moov+default_base_moof OUTPUT";

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is nothing.
    #[error("the input is empty")]
    Empty,
    /// It does not begin like an MP4 file.
    #[error("not an MP4 file; {ADVICE}")]
    NotMp4,
    /// Its samples are not in fragments.
    #[error("the MP4 is not fragmented; {ADVICE}")]
    NotFragmented,
    /// Its fragments say where their samples are counted from the beginning of the file, so none can stand alone.
    #[error("the MP4's fragments have absolute data offsets; {ADVICE}")]
    AbsoluteOffsets,
    /// It has samples but nothing that says where.
    #[error("the MP4 has no index (moov): the camera did not finish it, or its end is missing")]
    NoIndex,
    /// It has fragments and plain samples.
    #[error("the MP4 mixes fragments and plain samples; {ADVICE}")]
    Mixed,
    /// Its samples are protected.
    #[error("the MP4 is encrypted")]
    Encrypted,
    /// It has no track that a recording carries.
    #[error("the MP4 has neither pictures nor sound")]
    NothingToCarry,
    /// It has a header and no fragment.
    #[error("the MP4 has no fragments after its header")]
    NoFragments,
    /// It ends inside a box.
    #[error("the MP4 ends in the middle of a box or fragment")]
    Truncated,
    /// A box or a fragment is larger than is taken.
    #[error("the MP4's {what} has {actual} bytes, the limit is {limit}; use shorter fragments (ffmpeg -frag_duration)")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The greatest size taken, bytes.
        limit: u64,
        /// The size found, bytes.
        actual: u64,
    },
    /// `ftyp` and `moov` together are larger than is taken.
    #[error("the MP4's initialisation segment (ftyp, moov) has {actual} bytes, the limit is {limit}; {ADVICE}")]
    InitTooLarge {
        /// The greatest size taken, bytes.
        limit: u64,
        /// The size found, bytes.
        actual: u64,
    },
    /// A fragment lasts longer than one link may.
    #[error(
        "the MP4 has a fragment of {actual_s} s, the limit is {limit_s} s; use shorter fragments (ffmpeg -frag_duration)"
    )]
    TooLong {
        /// The longest duration taken, seconds.
        limit_s: u64,
        /// The duration found, seconds.
        actual_s: u64,
    },
    /// A box does not say what it must.
    #[error("the MP4 is broken: {0}")]
    Malformed(&'static str),
}

/// How far a box reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// So many bytes, header included.
    Bytes(u64),
    /// To the end of the file.
    ToEnd,
}

/// The header of a box (section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Type of the box.
    pub kind: Kind,
    /// Length of the header itself, bytes: 8 or 16.
    pub header_bytes: usize,
    /// How far the box reaches.
    pub size: Size,
}

impl Header {
    /// Reads the header at the beginning of `bytes`; `None` while it is not all there.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a size that does not even hold the header.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let Some((prefix, rest)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
        let [a, b, c, d, kind @ ..] = *prefix;
        let (header_bytes, size) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (8, Size::ToEnd),
            1 => match rest.split_first_chunk::<8>() {
                Some((large, _)) => (16, Size::Bytes(u64::from_be_bytes(*large))),
                None => return Ok(None),
            },
            size => (8, Size::Bytes(u64::from(size))),
        };
        if matches!(size, Size::Bytes(size) if size < header_bytes as u64) {
            return Err(Error::Malformed("box size below its header"));
        }
        Ok(Some(Self { kind, header_bytes, size }))
    }
}

/// A box inside another.
#[derive(Debug, Clone, Copy)]
pub struct Child<'a> {
    /// Type of the box.
    pub kind: Kind,
    /// What follows its header.
    pub body: &'a [u8],
    /// Where `body` begins in the parent's body, bytes.
    pub body_at: usize,
}

/// The boxes inside a container. Fewer than eight bytes at the end are padding (QuickTime writes four zeros).
pub fn children(body: &[u8]) -> impl Iterator<Item = Result<Child<'_>, Error>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = body.get(at..)?;
        if rest.len() < 8 {
            return None;
        }
        let child = read_child(rest, at);
        at = child.as_ref().map_or(body.len(), |child| child.body_at + child.body.len());
        Some(child)
    })
}

fn read_child(rest: &[u8], at: usize) -> Result<Child<'_>, Error> {
    let overrun = Error::Malformed("a box reaches beyond the one around it");
    let header = Header::read(rest)?.ok_or(overrun)?;
    let end = match header.size {
        Size::Bytes(size) => usize::try_from(size).map_err(|_| overrun)?,
        Size::ToEnd => rest.len(),
    };
    let body = rest.get(header.header_bytes..end).ok_or(overrun)?;
    Ok(Child { kind: header.kind, body, body_at: at + header.header_bytes })
}

/// The first child of this type.
///
/// # Errors
/// What [`children`] finds before it.
pub fn find(body: &[u8], kind: Kind) -> Result<Option<Child<'_>>, Error> {
    for child in children(body) {
        let child = child?;
        if child.kind == kind {
            return Ok(Some(child));
        }
    }
    Ok(None)
}

/// Decodes the body of a leaf box.
///
/// # Errors
/// [`Error::Malformed`] with `what` if it is not one.
pub fn leaf<T: Atom>(mut body: &[u8], what: &'static str) -> Result<T, Error> {
    T::decode_body(&mut body).map_err(|_| Error::Malformed(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_in_its_three_forms() {
        let read = |bytes: &[u8]| Header::read(bytes).unwrap();
        assert_eq!(read(b"\0\0\0\x10moof").unwrap(), Header { kind: *b"moof", header_bytes: 8, size: Size::Bytes(16) });
        assert_eq!(read(b"\0\0\0\0mdat").unwrap().size, Size::ToEnd);
        assert_eq!(read(b"\0\0\0\x01mdat\0\0\0\x01\0\0\0\0").unwrap().size, Size::Bytes(1 << 32));
        assert_eq!(read(b"\0\0\0\x01mdat\0\0\0\x01"), None, "the large size is not all there");
        assert_eq!(read(b"\0\0\0\x10moo"), None);
    }

    #[test]
    fn a_size_below_the_header_is_refused() {
        assert!(Header::read(b"\0\0\0\x07moof").is_err());
        assert!(Header::read(b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x0f").is_err());
    }

    #[test]
    fn children_stay_inside_their_parent() {
        let body = b"\0\0\0\x09abcd!\0\0\0\x08efgh\0\0\0\0";
        let found: Vec<_> = children(body).map(|child| child.unwrap()).collect();
        assert_eq!(
            found.iter().map(|child| (child.kind, child.body, child.body_at)).collect::<Vec<_>>(),
            [(*b"abcd", &b"!"[..], 8), (*b"efgh", &b""[..], 17)]
        );
        assert!(children(b"\0\0\0\x0aabcd!").any(|child| child.is_err()));
        assert_eq!(children(b"\xff\xff\xff\xffabcd\0\0\0\x08efgh").count(), 1, "nothing is read after an overrun");
    }
}
