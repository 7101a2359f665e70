//! SPEC.md says what the code does: its tables against the constants, its example against the vectors.

#![allow(clippy::unwrap_used)]

mod golden;

use aigaq_proto::message::{Advice, RefusalReason};
use aigaq_proto::{close, frame, limits, receipt, wire};
use golden::{hex, keys, links, receipts};

const SPEC: &str = include_str!("../SPEC.md");

/// The rows of the first table after `heading` whose first column has this title, cells trimmed.
fn table(heading: &str, first_column: &str) -> Vec<Vec<String>> {
    let section = SPEC.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}")).1;
    let mut rows = section
        .lines()
        .skip_while(|line| !line.starts_with(&format!("| {first_column} |")))
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect());
    assert!(rows.next().is_some() && rows.next().is_some(), "no table {first_column} in {heading}");
    rows.collect()
}

fn hexadecimal(cell: &str) -> u32 {
    u32::from_str_radix(cell.strip_prefix("0x").unwrap(), 16).unwrap()
}

#[test]
fn the_limits_are_those_of_the_document_and_each_has_a_reason() {
    let rows = table("## 9 Limits", "Name");
    let stated: Vec<(String, u64)> =
        rows.iter().map(|row| (row[0].clone(), row[1].replace(',', "").parse().unwrap())).collect();
    let mut constants: Vec<(String, u64)> = limits::ALL.iter().map(|(name, value)| ((*name).into(), *value)).collect();
    let mut sorted = stated.clone();
    sorted.sort();
    constants.sort();
    assert_eq!(sorted, constants);
    assert!(rows.iter().all(|row| !row[3].is_empty()));
}

#[test]
fn every_limit_is_in_the_list_of_limits() {
    let source = include_str!("../src/limits.rs");
    let declared = source.matches("pub const ").count() - 1;
    assert_eq!(limits::ALL.len(), declared);
}

#[test]
fn the_close_codes_are_those_of_the_document() {
    let stated: Vec<(u32, String)> =
        table("## 8 Close codes", "Code").iter().map(|row| (hexadecimal(&row[0]), row[1].clone())).collect();
    let codes: Vec<(u32, String)> = close::Code::ALL.map(|code| (code.value(), format!("{code:?}"))).to_vec();
    assert_eq!(stated, codes);
    for code in close::Code::ALL {
        assert_eq!(close::Code::from_value(code.value().into()), Some(code));
    }
}

#[test]
fn the_frame_types_are_those_of_the_document() {
    let stated: Vec<(u32, String)> =
        table("### 5.2 Control stream", "Type").iter().map(|row| (hexadecimal(&row[0]), row[1].clone())).collect();
    let types: Vec<(u32, String)> = frame::TYPES.iter().map(|(kind, name)| ((*kind).into(), (*name).into())).collect();
    assert_eq!(stated, types);
}

#[test]
fn the_refusal_reasons_and_advice_are_those_of_the_document() {
    let stated = table("## 7 Refusals", "Number");
    assert_eq!(stated.len(), RefusalReason::ALL.len());
    for (row, reason) in stated.iter().zip(RefusalReason::ALL) {
        assert_eq!(row[1], format!("{reason:?}"));
        assert_eq!(wire::encode(&reason, "reason").unwrap(), [row[0].parse::<u8>().unwrap()], "{reason:?}");
    }
    let advice =
        [Advice::RetryAfter { delay_ms: 0 }, Advice::ResendFrom { sequence: 0 }, Advice::Never, Advice::Reenrol];
    let after = SPEC.split_once("| Number | Advice |").unwrap().1;
    for (advice, row) in advice.into_iter().zip(after.lines().skip(2)) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(wire::encode(&advice, "advice").unwrap()[0], cells[0].parse::<u8>().unwrap());
        assert!(format!("{advice:?}").starts_with(cells[1]));
    }
}

#[test]
fn the_kinds_of_content_are_those_of_the_document() {
    let rows = table("### 4.1 Header", "Number");
    for (_, header, _) in links::links() {
        let encoded = wire::encode(&header.content, "content").unwrap();
        let name = format!("{:?}", header.content);
        let row = rows.iter().find(|row| name.starts_with(row[1].trim_matches('`'))).unwrap();
        assert_eq!(encoded[0], row[0].parse::<u8>().unwrap(), "{name}");
    }
    assert_eq!(rows.len(), 7);
}

#[test]
fn the_worked_example_is_the_vector() {
    let example = SPEC.split_once("## 14 Worked example").unwrap().1;
    let run_on: String = example.split_whitespace().collect();
    let (_, header, _) = links::links().swap_remove(1);
    let bytes = header.encode().unwrap();
    let first_column: String =
        example.lines().filter_map(|line| line.split_once("  ").map(|(first, _)| first)).collect();
    assert!(first_column.contains(&hex(&bytes)), "the header's bytes");
    let digest = aigaq_proto::link::digest(&bytes);
    let signature = keys::signing_key().sign(&digest).unwrap();
    let good = receipts::receipts().swap_remove(1);
    for (what, text) in [
        ("key", hex(&keys::signing_key().public_key().unwrap().to_spki())),
        ("recorder", keys::recorder().to_string()),
        ("digest", digest.to_string()),
        ("signature", hex(&signature)),
        ("entry", hex(&receipt::entry(&good.digest, good.received_at))),
        ("proof", good.proof.iter().map(ToString::to_string).collect()),
        ("log key", receipts::log_key().as_str().to_owned()),
    ] {
        assert!(run_on.contains(&text), "{what} is {text}");
    }
    assert!(SPEC.contains(&good.checkpoint), "checkpoint");
}
