//! Every frame and record as it stands on the wire and on disk, byte by byte.
//!
//! `tests/golden/*.hex` hold what version 1 writes. A file that changes means
//! that agents of two versions no longer understand each other, or that a store
//! can no longer be read: it needs a new version of the format, which reads the
//! old one too (`docs/protocol.md`, "Versions").

#[path = "golden/fixed.rs"]
mod fixed;

use std::fmt::Debug;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use coppice_replication::{
    DecodeError, FieldRecord, HeadRecord, LogRecord, Message, ObjectRecord, RepairRecord,
    decode_entry, encode_entry,
};

/// Set to 1 to write the files instead of comparing them.
const BLESS: &str = "COPPICE_BLESS";

fn path(name: &str) -> PathBuf {
    let member = env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this test");
    PathBuf::from(member).join("tests/golden").join(name).with_extension("hex")
}

/// A line that says what it is, then 32 bytes a line.
fn hex(what: &str, bytes: &[u8]) -> String {
    let mut text = format!("# {what}\n");
    for line in bytes.chunks(32) {
        for byte in line {
            write!(text, "{byte:02x}").expect("a string takes all");
        }
        text.push('\n');
    }
    text
}

fn bytes_of(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.lines().filter(|line| !line.starts_with('#')).flat_map(str::bytes).collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("hex is ASCII");
        u8::from_str_radix(pair, 16).expect("two hex digits a byte")
    };
    digits.chunks(2).map(byte).collect()
}

/// Compares `value`'s bytes with the file, and the file's value with `value`.
fn check<T: Debug + PartialEq>(
    (name, what): (&str, &str),
    value: &T,
    encode: impl Fn(&T) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
) {
    let written = hex(what, &encode(value));
    let path = path(name);
    if env::var_os(BLESS).is_some_and(|set| set == "1") {
        fs::write(&path, &written).expect("the golden file can be written");
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        stored,
        written,
        "{} is missing or differs from what this program writes. A changed golden file means \
         a new format version: see docs/protocol.md, \"Versions\". If that is what you want, \
         or the file is a new one, run this test again with {BLESS}=1 and commit the file.",
        path.display()
    );
    assert_eq!(decode(&bytes_of(&stored)).as_ref(), Ok(value), "{name} reads as another value");
}

#[test]
fn frames_are_written_and_read_as_ever() {
    for (name, what, message) in fixed::frames() {
        check((name, what), &message, Message::encode, Message::decode);
    }
}

#[test]
fn object_records_are_written_and_read_as_ever() {
    for (name, what, record) in fixed::object_records() {
        check((name, what), &record, ObjectRecord::encode, ObjectRecord::decode);
    }
}

#[test]
fn entry_and_field_records_are_written_and_read_as_ever() {
    for (name, what, entry) in fixed::entries() {
        check((name, what), &entry, encode_entry, decode_entry);
    }
    let what = "a map field's record: likes, as a PNCounter of 7 and as an ORSet of 2";
    check(("record_field", what), &fixed::field(), FieldRecord::encode, FieldRecord::decode);
}

#[test]
fn log_head_and_repair_records_are_written_and_read_as_ever() {
    let what = "a log record: a unit over two objects, then a repair";
    check(("record_log", what), &fixed::log_record(), LogRecord::encode, LogRecord::decode);
    let what = "the head record of an ORSet group that wrote under two openings";
    check(("record_head", what), &fixed::head_record(), HeadRecord::encode, HeadRecord::decode);
    let what = "the repair record of a repair that reached two ranges";
    check(
        ("record_repair", what),
        &fixed::repair_record(),
        RepairRecord::encode,
        RepairRecord::decode,
    );
}

#[test]
fn no_golden_file_is_left_over() {
    let folder = path("any").parent().expect("it is in a folder").to_owned();
    let mut stored: Vec<String> = fs::read_dir(folder)
        .expect("the golden files are there")
        .filter_map(|file| file.ok()?.file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_suffix(".hex")?.to_owned()))
        .collect();
    stored.sort();
    let mut expected: Vec<&str> = fixed::frames()
        .iter()
        .map(|(name, ..)| *name)
        .chain(fixed::object_records().iter().map(|(name, ..)| *name))
        .chain(fixed::entries().iter().map(|(name, ..)| *name))
        .chain(["record_field", "record_log", "record_head", "record_repair"])
        .collect();
    expected.sort_unstable();
    assert_eq!(stored, expected, "each file is checked, and each value has a file");
}
