//! Codec strings (RFC 6381) from sample entries: `avc1.64001F`, `hvc1.1.6.L93.B0`, `av01.0.04M.08`, `mp4a.40.2`, `opus`.
//!
//! A codec that is not known here is named by its four characters alone: a recording is never refused for its codec.

use mp4_atom::{Av1c, Avcc, Esds, Hvcc, VpcC};

use super::boxes::{Error, Kind, find, leaf};

/// Bytes of a visual sample entry before its boxes (ISO/IEC 14496-12 section 12.1.3).
const VISUAL_BYTES: usize = 78;
/// Bytes of an audio sample entry before its boxes (section 12.2.3); QuickTime's versions 1 and 2 have more.
const AUDIO_BYTES: usize = 28;
/// Descriptors nest to any depth in the decoder of `mp4-atom`; this bounds them. Real ones have about 40 bytes.
const ESDS_BYTES_MAX: usize = 1_024;

/// The codec string of the sample entry `kind` with this body.
///
/// # Errors
/// [`Error::Malformed`] if a box that belongs to the codec cannot be read.
pub(super) fn codec(kind: Kind, entry: &[u8]) -> Result<String, Error> {
    match &kind {
        b"avc1" | b"avc3" => avc(kind, visual(entry)),
        b"hvc1" | b"hev1" => hevc(kind, visual(entry)),
        b"av01" => av1(visual(entry)),
        b"vp09" => vp9(visual(entry)),
        b"mp4a" => mp4a(audio(entry)),
        b"Opus" => Ok("opus".to_owned()),
        b"fLaC" => Ok("flac".to_owned()),
        _ => Ok(name(kind)),
    }
}

fn name(kind: Kind) -> String {
    kind.iter()
        .map(|byte| if byte.is_ascii_graphic() && !b",\"".contains(byte) { char::from(*byte) } else { '_' })
        .collect()
}

fn visual(entry: &[u8]) -> &[u8] {
    entry.get(VISUAL_BYTES..).unwrap_or_default()
}

fn audio(entry: &[u8]) -> &[u8] {
    let more = match entry.get(8..10) {
        Some([0, 1]) => 16,
        Some([0, 2]) => 36,
        _ => 0,
    };
    entry.get(AUDIO_BYTES + more..).unwrap_or_default()
}

fn avc(kind: Kind, boxes: &[u8]) -> Result<String, Error> {
    let Some(config) = find(boxes, *b"avcC")? else { return Ok(name(kind)) };
    let config: Avcc = leaf(config.body, "avcC")?;
    let (profile, compatibility, level) =
        (config.avc_profile_indication, config.profile_compatibility, config.avc_level_indication);
    Ok(format!("{}.{profile:02X}{compatibility:02X}{level:02X}", name(kind)))
}

/// ISO/IEC 14496-15 annex E.3.
fn hevc(kind: Kind, boxes: &[u8]) -> Result<String, Error> {
    let Some(config) = find(boxes, *b"hvcC")? else { return Ok(name(kind)) };
    let config: Hvcc = leaf(config.body, "hvcC")?;
    let space = ["", "A", "B", "C"].get(usize::from(config.general_profile_space)).copied().unwrap_or_default();
    let compatibility = u32::from_be_bytes(config.general_profile_compatibility_flags).reverse_bits();
    let tier = if config.general_tier_flag { 'H' } else { 'L' };
    let mut text = format!(
        "{}.{space}{}.{compatibility:X}.{tier}{}",
        name(kind),
        config.general_profile_idc,
        config.general_level_idc
    );
    let constraints = config.general_constraint_indicator_flags;
    let used = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for byte in constraints.iter().take(used) {
        text.push_str(&format!(".{byte:X}"));
    }
    Ok(text)
}

/// AV1 codec ISO media file format binding, section 5.
fn av1(boxes: &[u8]) -> Result<String, Error> {
    let Some(config) = find(boxes, *b"av1C")? else { return Ok("av01".to_owned()) };
    let config: Av1c = leaf(config.body, "av1C")?;
    let tier = if config.seq_tier_0 { 'H' } else { 'M' };
    let depth = match (config.high_bitdepth, config.twelve_bit) {
        (true, true) => 12,
        (true, false) => 10,
        (false, _) => 8,
    };
    Ok(format!("av01.{}.{:02}{tier}.{depth:02}", config.seq_profile, config.seq_level_idx_0))
}

/// VP codec ISO media file format binding, "Codecs Parameter String".
fn vp9(boxes: &[u8]) -> Result<String, Error> {
    let Some(config) = find(boxes, *b"vpcC")? else { return Ok("vp09".to_owned()) };
    let config: VpcC = leaf(config.body, "vpcC")?;
    Ok(format!("vp09.{:02}.{:02}.{:02}", config.profile, config.level, config.bit_depth))
}

/// RFC 6381 section 3.3; object type 0x40 is followed by the audio object type of MPEG-4.
fn mp4a(boxes: &[u8]) -> Result<String, Error> {
    // QuickTime wraps it in a `wave`.
    let wave = find(boxes, *b"wave")?.map_or(boxes, |wave| wave.body);
    let Some(config) = find(wave, *b"esds")? else { return Ok("mp4a".to_owned()) };
    if config.body.len() > ESDS_BYTES_MAX {
        return Err(Error::Malformed("esds"));
    }
    let config = leaf::<Esds>(config.body, "esds")?.es_desc.dec_config;
    Ok(match (config.object_type_indication, config.dec_specific) {
        (0x40, Some(specific)) if specific.profile > 0 => format!("mp4a.40.{}", specific.profile),
        (kind, _) => format!("mp4a.{kind:02x}"),
    })
}
