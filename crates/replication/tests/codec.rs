//! Frames and records survive their encoding, and bytes that are none are
//! refused: never a panic, never more room taken than the bytes can fill.

#[path = "codec/values.rs"]
mod values;

use coppice_crdt::VersionVector;
use coppice_replication::{
    DecodeError, FieldRecord, HeadRecord, Intervals, LogRecord, MAX_FRAME_BYTES, MAX_INTERVALS,
    Message, ObjectRecord, PROTOCOL_VERSION, Position, RepairRecord, decode_entry, encode_entry,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// Writes the right checksum behind `content`.
fn sealed(mut content: Vec<u8>) -> Vec<u8> {
    let checksum = crc32c::crc32c(&content);
    content.extend(checksum.to_be_bytes());
    content
}

/// Changes some bytes of a sealed frame or record and seals it again.
fn damaged(bytes: &[u8], damage: &[(Index, u8)], cut: Option<Index>) -> Vec<u8> {
    let mut content = bytes[..bytes.len() - 4].to_vec();
    for (at, byte) in damage {
        let at = at.index(content.len());
        content[at] = *byte;
    }
    if let Some(cut) = cut {
        content.truncate(cut.index(content.len() + 1));
    }
    sealed(content)
}

/// Decodes as everything. What is accepted has to be written back to something
/// that says the same.
fn decode_as_everything(bytes: &[u8]) {
    if let Ok(message) = Message::decode(bytes) {
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }
    if let Ok(record) = ObjectRecord::decode(bytes) {
        assert_eq!(ObjectRecord::decode(&record.encode()), Ok(record));
    }
    if let Ok(record) = LogRecord::decode(bytes) {
        assert_eq!(LogRecord::decode(&record.encode()), Ok(record));
    }
    if let Ok(record) = HeadRecord::decode(bytes) {
        assert_eq!(HeadRecord::decode(&record.encode()), Ok(record));
    }
    if let Ok(record) = RepairRecord::decode(bytes) {
        assert_eq!(RepairRecord::decode(&record.encode()), Ok(record));
    }
    if let Ok(entry) = decode_entry(bytes) {
        assert_eq!(decode_entry(&encode_entry(&entry)), Ok(entry));
    }
    if let Ok(field) = FieldRecord::decode(bytes) {
        assert_eq!(FieldRecord::decode(&field.encode()), Ok(field));
    }
}

/// The bytes of any frame or record.
fn encoded() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => values::message().prop_map(|message| message.encode()),
        2 => values::object_record().prop_map(|record| record.encode()),
        2 => values::log_record().prop_map(|record| record.encode()),
        1 => values::head_record().prop_map(|record| record.encode()),
        1 => values::repair_record().prop_map(|record| record.encode()),
        1 => values::entry().prop_map(|entry| encode_entry(&entry)),
        1 => values::field().prop_map(|field| field.encode()),
    ]
}

proptest! {
    #[test]
    fn frames_survive_their_encoding(message in values::message()) {
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn object_records_survive_their_encoding(record in values::object_record()) {
        prop_assert_eq!(ObjectRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn log_records_survive_their_encoding(record in values::log_record()) {
        prop_assert_eq!(LogRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn head_records_survive_their_encoding(record in values::head_record()) {
        prop_assert_eq!(HeadRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn repair_records_survive_their_encoding(record in values::repair_record()) {
        prop_assert_eq!(RepairRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn entries_and_fields_survive_their_encoding(
        entry in values::entry(),
        field in values::field(),
    ) {
        prop_assert_eq!(decode_entry(&encode_entry(&entry)), Ok(entry));
        prop_assert_eq!(FieldRecord::decode(&field.encode()), Ok(field));
    }

    #[test]
    fn a_cut_frame_is_refused(message in values::message(), cut: Index) {
        let frame = message.encode();
        prop_assert!(Message::decode(&frame[..cut.index(frame.len())]).is_err());
    }

    #[test]
    fn a_cut_record_is_refused(record in values::log_record(), cut: Index) {
        let bytes = record.encode();
        prop_assert!(LogRecord::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn a_flipped_bit_is_noticed(
        message in values::message(),
        record in values::object_record(),
        (at, bit) in (any::<Index>(), 0..8_u32),
    ) {
        let (mut frame, mut bytes) = (message.encode(), record.encode());
        for sealed in [&mut frame, &mut bytes] {
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
        }
        prop_assert!(Message::decode(&frame).is_err());
        prop_assert!(ObjectRecord::decode(&bytes).is_err());
    }

    #[test]
    fn bytes_behind_the_body_are_refused(message in values::message(), more in vec(any::<u8>(), 1..9)) {
        let frame = message.encode();
        let mut content = frame[..frame.len() - 4].to_vec();
        content.extend(&more);
        prop_assert_eq!(
            Message::decode(&sealed(content)),
            Err(DecodeError::TrailingBytes(more.len()))
        );
    }

    #[test]
    fn another_version_is_refused_whatever_follows(message in values::message(), version: u8) {
        prop_assume!(version != PROTOCOL_VERSION);
        let mut frame = message.encode();
        frame[1] = version;
        let damaged = frame.clone();
        frame.truncate(frame.len() - 4);
        let resealed = sealed(frame.clone());
        if matches!(message, Message::Hello(_)) && version > PROTOCOL_VERSION {
            // It says what the peer speaks, and is read as far as it is known.
            frame.extend(b"more");
            prop_assert_eq!(&Message::decode(&resealed), &Ok(message.clone()));
            prop_assert_eq!(Message::decode(&sealed(frame)), Ok(message));
        } else {
            let refused = Err(DecodeError::UnsupportedVersion(version));
            prop_assert_eq!(&Message::decode(&damaged), &refused);
            prop_assert_eq!(Message::decode(&resealed), refused);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn damage_under_a_right_checksum_never_panics(
        bytes in encoded(),
        damage in vec(any::<(Index, u8)>(), 0..6),
        cut in proptest::option::of(any::<Index>()),
    ) {
        decode_as_everything(&damaged(&bytes, &damage, cut));
    }

    #[test]
    fn garbage_under_a_right_checksum_never_panics(
        kind in 0..10_u8,
        rest in vec(prop_oneof![Just(1_u8), 0..8_u8, any::<u8>()], 0..120),
    ) {
        // The version byte is second in a frame and first in a record.
        decode_as_everything(&sealed([&[kind, PROTOCOL_VERSION], &*rest].concat()));
        decode_as_everything(&sealed([&[1], &*rest].concat()));
        decode_as_everything(&rest);
    }
}

/// A varint of ten bytes: the largest 64-bit number.
const HUGE: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];

#[test]
fn a_count_that_the_frame_cannot_hold_is_refused_wherever_it_stands() {
    // A delta with a table of one actor, every count in it replaced in turn.
    let before_counts: [&[u8]; 4] = [
        b"",                     // the table of actors
        b"\x00\x05\x01",         // the base's vector
        b"\x00\x05\x01\x00",     // the unit's runs
        b"\x00\x05\x01\x00\x00", // the unit's objects
    ];
    for before in before_counts {
        for count in [&HUGE[..], &[0xff, 0xff, 0xff, 0x7f]] {
            let frame = sealed([&[2, PROTOCOL_VERSION], before, count, &[0; 40]].concat());
            let refused = Message::decode(&frame);
            assert!(matches!(refused, Err(DecodeError::Oversized(_))), "{before:?}: {refused:?}");
        }
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_before_it_is_read() {
    let frame = vec![0; MAX_FRAME_BYTES + 1];
    assert_eq!(Message::decode(&frame), Err(DecodeError::Oversized("a frame")));
}

#[test]
fn frames_without_a_body_are_refused() {
    assert_eq!(Message::decode(b""), Err(DecodeError::Truncated));
    assert_eq!(Message::decode(&sealed(vec![])), Err(DecodeError::Truncated));
    assert_eq!(Message::decode(&sealed(vec![1])), Err(DecodeError::Truncated));
    assert_eq!(
        Message::decode(&sealed(vec![99, PROTOCOL_VERSION, 0])),
        Err(DecodeError::Malformed("a frame's kind"))
    );
}

#[test]
fn intervals_that_do_not_fill_their_range_are_refused() {
    let place = |n: usize| Position { key: format!("{n:03}").into(), entry: Box::default() };
    let until = |ends: &[usize]| -> Intervals {
        let ends = ends.iter().map(|&end| (Some(place(end)), VersionVector::new()));
        ends.chain([(None, VersionVector::new())]).collect()
    };
    let decoded = |ranges: Vec<(u8, Intervals)>| {
        RepairRecord::decode(&RepairRecord { ranges, ..RepairRecord::default() }.encode())
    };
    let most: Vec<usize> = (1..MAX_INTERVALS).collect();
    let more: Vec<usize> = (0..MAX_INTERVALS).collect();
    assert!(decoded(vec![(3, until(&most)), (63, until(&[]))]).is_ok());
    let refused = [
        (vec![(3, until(&more))], DecodeError::Oversized("intervals")),
        (vec![(3, until(&[2, 1]))], DecodeError::Malformed("intervals")),
        (vec![(3, vec![])], DecodeError::Malformed("intervals")),
        (vec![(3, [until(&[]), until(&[])].concat())], DecodeError::Malformed("intervals")),
        (vec![(3, until(&[])), (3, until(&[]))], DecodeError::Malformed("ranges")),
        (vec![(64, until(&[]))], DecodeError::Malformed("ranges")),
    ];
    for (ranges, error) in refused {
        assert_eq!(decoded(ranges), Err(error));
    }
}
