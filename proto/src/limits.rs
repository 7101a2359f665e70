//! Every limit of the protocol, with its unit in its name. SPEC.md section 9 has the same table with the reasons; a test
//! compares the two.

/// Greatest size of an encoded link header, bytes.
pub const HEADER_BYTES_MAX: usize = 8_192;
/// Greatest size of a link's payload, bytes.
pub const PAYLOAD_BYTES_MAX: u32 = 32 * 1024 * 1024;
/// Greatest size of the payload of a `Start`, an initialisation segment, bytes: it is kept for ever, in the ledger.
pub const INIT_BYTES_MAX: u32 = 1024 * 1024;
/// Greatest size of the body of a control frame, bytes.
pub const CONTROL_BYTES_MAX: usize = 65_536;
/// Greatest number of position fixes in one link.
pub const FIXES_MAX: usize = 128;
/// Longest duration of one link, microseconds (five minutes).
pub const DURATION_US_MAX: u32 = 300_000_000;
/// Latest fix after a link's captured-at, milliseconds: the longest duration.
pub const FIX_OFFSET_MS_MAX: u32 = 300_000;
/// Greatest latitude either side of the equator, ten-millionths of a degree.
pub const LATITUDE_E7_MAX: u32 = 900_000_000;
/// Greatest longitude either side of Greenwich, ten-millionths of a degree.
pub const LONGITUDE_E7_MAX: u32 = 1_800_000_000;
/// Greatest course, hundredths of a degree; 65535 stands for "not known".
pub const COURSE_CDEG_MAX: u16 = 35_999;
/// Greatest battery charge, percent.
pub const BATTERY_PERCENT_MAX: u8 = 100;
/// Longest codec string (RFC 6381), bytes.
pub const CODECS_BYTES_MAX: usize = 128;
/// Longest mark category, bytes.
pub const CATEGORY_BYTES_MAX: usize = 64;
/// Longest free text (mark note, software version, firmware, refusal detail), bytes.
pub const TEXT_BYTES_MAX: usize = 512;
/// Greatest number of sequence ranges in one message.
pub const RANGES_MAX: usize = 1_024;
/// Greatest number of requests that a recorder follows at once.
pub const REQUESTS_MAX: usize = 64;
/// Greatest sequence: every one is exact in a JSON number, and one more never overflows.
pub const SEQUENCE_MAX: u64 = (1 << 53) - 1;
/// Latest time, microseconds since the Unix epoch (in the year 2255): exact in a JSON number, and a duration more never
/// overflows.
pub const TIME_US_MAX: u64 = (1 << 53) - 1;
/// How far beyond the greatest known sequence a link may be.
pub const SEQUENCE_AHEAD_MAX: u64 = 1_000_000;
/// Greatest number of separate runs of one chain that a server keeps track of.
pub const RUNS_MAX: usize = 1_024;
/// Greatest length of an inclusion proof, hashes.
pub const PROOF_HASHES_MAX: usize = 64;
/// Greatest length of a signed checkpoint, bytes.
pub const CHECKPOINT_BYTES_MAX: usize = 4_096;

/// Greatest length of the statements by which a log names its successors, bytes.
pub const SUCCESSION_BYTES_MAX: usize = 32_768;

/// The name and the value of every limit above, for the comparison with the document.
pub const ALL: &[(&str, u64)] = &[
    ("HEADER_BYTES_MAX", HEADER_BYTES_MAX as u64),
    ("PAYLOAD_BYTES_MAX", PAYLOAD_BYTES_MAX as u64),
    ("INIT_BYTES_MAX", INIT_BYTES_MAX as u64),
    ("CONTROL_BYTES_MAX", CONTROL_BYTES_MAX as u64),
    ("FIXES_MAX", FIXES_MAX as u64),
    ("DURATION_US_MAX", DURATION_US_MAX as u64),
    ("FIX_OFFSET_MS_MAX", FIX_OFFSET_MS_MAX as u64),
    ("LATITUDE_E7_MAX", LATITUDE_E7_MAX as u64),
    ("LONGITUDE_E7_MAX", LONGITUDE_E7_MAX as u64),
    ("COURSE_CDEG_MAX", COURSE_CDEG_MAX as u64),
    ("BATTERY_PERCENT_MAX", BATTERY_PERCENT_MAX as u64),
    ("CODECS_BYTES_MAX", CODECS_BYTES_MAX as u64),
    ("CATEGORY_BYTES_MAX", CATEGORY_BYTES_MAX as u64),
    ("TEXT_BYTES_MAX", TEXT_BYTES_MAX as u64),
    ("RANGES_MAX", RANGES_MAX as u64),
    ("REQUESTS_MAX", REQUESTS_MAX as u64),
    ("SEQUENCE_MAX", SEQUENCE_MAX),
    ("TIME_US_MAX", TIME_US_MAX),
    ("SEQUENCE_AHEAD_MAX", SEQUENCE_AHEAD_MAX),
    ("RUNS_MAX", RUNS_MAX as u64),
    ("PROOF_HASHES_MAX", PROOF_HASHES_MAX as u64),
    ("CHECKPOINT_BYTES_MAX", CHECKPOINT_BYTES_MAX as u64),
    ("SUCCESSION_BYTES_MAX", SUCCESSION_BYTES_MAX as u64),
];
