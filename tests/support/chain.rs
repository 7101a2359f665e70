//! Makes the links of a chain.

use aigaq_proto::link::{StopCause, digest};
use aigaq_proto::message::ChainEnd;
use aigaq_proto::signature::SigningKey;
use aigaq_proto::{Content, Digest, LinkHeader, Micros, RecorderId, Sequence, SignatureBytes};
use bytes::Bytes;

/// A link, ready to send.
#[derive(Clone, Debug)]
pub struct Link {
    pub header: LinkHeader,
    pub header_bytes: Vec<u8>,
    pub digest: Digest,
    pub signature: SignatureBytes,
    pub payload: Bytes,
}

/// The end of a chain, to which links are added.
#[derive(Clone, Debug)]
pub struct Chain {
    recorder: RecorderId,
    next: Sequence,
    previous: Digest,
    ordinal: u64,
    recording: Sequence,
    pub captured_at: Micros,
}

impl Chain {
    pub fn new(recorder: RecorderId, captured_at: Micros) -> Self {
        Self { recorder, next: 0, previous: Digest::ZERO, ordinal: 0, recording: 0, captured_at }
    }

    /// A chain that goes on after the newest link that the server has.
    pub fn after(recorder: RecorderId, newest: ChainEnd, captured_at: Micros) -> Self {
        let (next, previous) = (newest.sequence + 1, newest.digest);
        Self { recorder, next, previous, ordinal: next, recording: newest.sequence, captured_at }
    }

    /// Makes `link`, changed since it was added, the end of the chain.
    pub fn goes_on_from(&mut self, link: &Link) {
        self.previous = link.digest;
    }

    pub fn next_sequence(&self) -> Sequence {
        self.next
    }

    /// Adds a link with this content.
    pub fn add(&mut self, key: &SigningKey, content: Content, duration_us: u32, payload: Bytes) -> Link {
        let payload_digest = Digest::of(&payload);
        self.add_hashed(key, content, duration_us, payload, payload_digest)
    }

    /// The same when the digest of the payload is known.
    pub fn add_hashed(
        &mut self,
        key: &SigningKey,
        content: Content,
        duration_us: u32,
        payload: Bytes,
        payload_digest: Digest,
    ) -> Link {
        let header = LinkHeader {
            recorder: self.recorder,
            sequence: self.next,
            previous: self.previous,
            captured_at: self.captured_at,
            duration_us,
            payload_length: u32::try_from(payload.len()).unwrap(),
            payload_digest,
            content,
            fixes: Vec::new(),
        };
        let link = sign(key, header, payload);
        self.next += 1;
        self.previous = link.digest;
        self.captured_at += u64::from(duration_us);
        link
    }

    pub fn start(&mut self, key: &SigningKey) -> Link {
        self.start_with(key, Bytes::from_static(b"initialisation"))
    }

    /// Begins a recording with this initialisation segment.
    pub fn start_with(&mut self, key: &SigningKey, init: Bytes) -> Link {
        self.recording = self.next;
        self.add(key, Content::Start { codecs: "avc1.64001f".to_owned() }, 0, init)
    }

    /// A media link of 2 s.
    pub fn media(&mut self, key: &SigningKey, payload: Bytes) -> Link {
        let payload_digest = Digest::of(&payload);
        self.media_hashed(key, payload, payload_digest)
    }

    /// A media link of this length, microseconds.
    pub fn media_of(&mut self, key: &SigningKey, payload: Bytes, duration_us: u32) -> Link {
        let content = Content::Media { recording: self.recording, ordinal: self.ordinal, independent: true };
        self.ordinal += 1;
        self.add(key, content, duration_us, payload)
    }

    pub fn media_hashed(&mut self, key: &SigningKey, payload: Bytes, payload_digest: Digest) -> Link {
        let content = Content::Media { recording: self.recording, ordinal: self.ordinal, independent: true };
        self.ordinal += 1;
        self.add_hashed(key, content, 2_000_000, payload, payload_digest)
    }

    pub fn mark(&mut self, key: &SigningKey, category: &str) -> Link {
        let content = Content::Mark { category: category.to_owned(), note: String::new(), before_s: 30, after_s: 30 };
        self.add(key, content, 0, Bytes::new())
    }

    pub fn stop(&mut self, key: &SigningKey) -> Link {
        self.add(key, Content::Stop { recording: self.recording, cause: StopCause::Wearer }, 0, Bytes::new())
    }
}

/// Signs a header as it is, whatever it says.
pub fn sign(key: &SigningKey, header: LinkHeader, payload: Bytes) -> Link {
    let header_bytes = header.encode().unwrap();
    let digest = digest(&header_bytes);
    let signature = key.sign(&digest).unwrap();
    Link { header, header_bytes, digest, signature, payload }
}
