//! What clients can send, what is refused, and what the refusal says.

use coppice_crdt::{CrdtType, Operation, parse_ttl};

use super::parse;

#[test]
fn amounts_are_read_exactly() {
    let by = |text: &str| match parse(CrdtType::PNCounter, text) {
        Ok(Operation::Increment { by }) => Ok(by),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.status()),
    };
    let cases = [
        (r#"{"op":"increment"}"#, Ok(1)),
        (r#"{"op":"increment","by":0}"#, Ok(0)),
        (r#"{"op":"increment","by":-0}"#, Ok(0)),
        (r#"{"op":"increment","by":1e3}"#, Ok(1_000)),
        (r#"{"op":"increment","by":9007199254740992}"#, Ok(1 << 53)),
        (r#"{"op":"increment","by":9007199254740993}"#, Err(422)),
        (r#"{"op":"increment","by":9007199254740993.0}"#, Err(422)),
        (r#"{"op":"increment","by":9007199254740993e0}"#, Err(422)),
        (r#"{"op":"increment","by":123456789012345678901234567890}"#, Err(422)),
        (r#"{"op":"increment","by":1e300}"#, Err(422)),
        (r#"{"op":"increment","by":"9223372036854775807"}"#, Ok((1 << 63) - 1)),
        (r#"{"op":"increment","by":"9223372036854775808"}"#, Err(422)),
        (r#"{"op":"increment","by":"99999999999999999999999"}"#, Err(422)),
        (r#"{"op":"increment","by":1.5}"#, Err(400)),
        (r#"{"op":"increment","by":-1.5}"#, Err(400)),
        (r#"{"op":"increment","by":-1}"#, Err(422)),
        (r#"{"op":"increment","by":-12345678901234567890}"#, Err(422)),
        (r#"{"op":"increment","by":"-1"}"#, Err(422)),
        (r#"{"op":"increment","by":"1.5"}"#, Err(400)),
        (r#"{"op":"increment","by":"+1"}"#, Err(400)),
        (r#"{"op":"increment","by":""}"#, Err(400)),
        (r#"{"op":"increment","by":"-"}"#, Err(400)),
        (r#"{"op":"increment","by":null}"#, Err(400)),
    ];
    for (text, expected) in cases {
        assert_eq!(by(text), expected, "{text}");
    }
}

#[test]
fn negative_amounts_name_the_operation_that_was_meant() {
    let message = |crdt_type, text| parse(crdt_type, text).unwrap_err().to_string();
    let text = r#"{"op":"increment","by":-1}"#;
    assert!(message(CrdtType::PNCounter, text).contains("\"decrement\""));
    assert!(message(CrdtType::GCounter, text).contains("only grows"));
    let text = r#"{"op":"decrement","by":-1}"#;
    assert!(message(CrdtType::PNCounter, text).contains("\"increment\""));
}

#[test]
fn malformed_operations_are_refused() {
    use CrdtType::{EWFlag, GCounter, GSet, LWWRegister, ORMap, ORSet};
    let long = format!(r#"{{"op":"add","element":"{}"}}"#, "x".repeat(5_000));
    let field = format!(r#"{{"op":"remove","field":"{}"}}"#, "x".repeat(513));
    let cases = [
        (GCounter, "[]", 400),
        (GCounter, "{}", 400),
        (GCounter, r#"{"op":1}"#, 400),
        (GCounter, r#"{"op":"increment","bye":5}"#, 400),
        (GCounter, r#"{"op":"decrement"}"#, 422),
        (GCounter, r#"{"op":"explode"}"#, 422),
        (GCounter, r#"{"op":"purge"}"#, 422),
        (GSet, r#"{"op":"add"}"#, 400),
        (GSet, r#"{"op":"add","elements":[]}"#, 400),
        (GSet, r#"{"op":"add","elements":"x"}"#, 400),
        (GSet, r#"{"op":"add","element":1,"elements":[2]}"#, 400),
        (GSet, r#"{"op":"add","element":12345678901234567890}"#, 400),
        (GSet, &long, 413),
        (GSet, r#"{"op":"remove","element":"x"}"#, 422),
        (GSet, r#"{"op":"clear"}"#, 422),
        (ORSet, r#"{"op":"clear","element":"x"}"#, 400),
        (EWFlag, r#"{"op":"enable","by":1}"#, 400),
        (LWWRegister, r#"{"op":"set"}"#, 400),
        (LWWRegister, r#"{"op":"set","value":9007199254740993}"#, 400),
        (LWWRegister, r#"{"op":"set","value":1,"ttl":30}"#, 400),
        (LWWRegister, r#"{"op":"set","value":1,"ttl":"30"}"#, 400),
        (LWWRegister, r#"{"op":"set","value":1,"ttl":"0s"}"#, 400),
        (ORMap, r#"{"op":"update","field":"f","type":"PNCounter"}"#, 400),
        (
            ORMap,
            r#"{"op":"update","field":1,"type":"PNCounter","operation":{"op":"increment"}}"#,
            400,
        ),
        (
            ORMap,
            r#"{"op":"update","field":"f","type":"Counter","operation":{"op":"increment"}}"#,
            400,
        ),
        (ORMap, r#"{"op":"update","field":"f","type":"ORMap","operation":{"op":"clear"}}"#, 422),
        (
            ORMap,
            r#"{"op":"update","field":"f","type":"EWFlag","operation":{"op":"increment"}}"#,
            422,
        ),
        (ORMap, r#"{"op":"update","field":"f","type":"EWFlag","operation":{"op":"delete"}}"#, 422),
        (ORMap, r#"{"op":"remove"}"#, 400),
        (ORMap, &field, 400),
    ];
    for (crdt_type, text, status) in cases {
        let refused = parse(crdt_type, text);
        let error = refused.expect_err(text);
        assert_eq!(error.status(), status, "{text}: {error}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn durations_have_units_from_the_largest_on() {
    let cases = [
        ("500ms", Some(500)),
        ("30s", Some(30_000)),
        ("5m", Some(300_000)),
        ("1h", Some(3_600_000)),
        ("0s", None),
        ("", None),
        ("s", None),
        ("1", None),
        ("1d", None),
        ("1.5s", None),
        ("-1s", None),
        ("1h30m", Some(5_400_000)),
        ("1h2m3s4ms", Some(3_723_004)),
        ("0h1ms", Some(1)),
        ("30m1h", None),
        ("1s1s", None),
        ("1h30", None),
        ("h30m", None),
        ("18446744073709551615ms", Some(u64::MAX)),
        ("1s18446744073709551615ms", None),
        ("1 s", None),
        ("99999999999999999999s", None),
        ("18446744073709551615h", None),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_ttl(text), expected, "{text:?}");
    }
}

#[test]
fn operations_are_called_as_clients_call_them() {
    use CrdtType::{EWFlag, LWWRegister, ORMap, ORSet, PNCounter};
    let cases = [
        (PNCounter, "increment", ""),
        (PNCounter, "decrement", ""),
        (ORSet, "add", r#","element":1"#),
        (ORSet, "remove", r#","element":1"#),
        (ORMap, "remove", r#","field":"f""#),
        (ORSet, "clear", ""),
        (EWFlag, "enable", ""),
        (EWFlag, "disable", ""),
        (LWWRegister, "set", r#","value":1"#),
        (ORMap, "update", r#","field":"f","type":"ORSet","operation":{"op":"clear"}"#),
    ];
    for (crdt_type, name, rest) in cases {
        let operation = parse(crdt_type, &format!(r#"{{"op":"{name}"{rest}}}"#)).unwrap();
        assert_eq!(operation.name(), name);
    }
    assert_eq!((Operation::Delete.name(), Operation::Purge.name()), ("delete", "purge"));
}

#[test]
fn an_unknown_operation_is_told_the_known_ones() {
    use CrdtType::{EWFlag, GCounter, GSet, LWWRegister, ORMap, ORSet, PNCounter};
    for (crdt_type, known) in [
        (GCounter, "increment"),
        (PNCounter, "increment, decrement"),
        (GSet, "add"),
        (ORSet, "add, remove, clear"),
        (EWFlag, "enable, disable"),
        (LWWRegister, "set"),
        (ORMap, "update, remove, clear"),
    ] {
        let error = parse(crdt_type, r#"{"op":"explode"}"#).unwrap_err().to_string();
        assert!(error.contains("explode") && error.ends_with(known), "{error}");
        for vague in ["{}", r#"{"op":1}"#, r#"{"element":"x"}"#, "[]", "null"] {
            let error = parse(crdt_type, vague).unwrap_err().to_string();
            assert!(error.contains(crdt_type.name()) && error.ends_with(known), "{vague}: {error}");
        }
    }
}

#[test]
fn a_wrong_member_is_told_the_right_ones() {
    use CrdtType::{EWFlag, LWWRegister, ORMap, ORSet, PNCounter};
    for (crdt_type, text, said) in [
        (PNCounter, r#"{"op":"increment","bye":5}"#, r#""bye": it has by"#),
        (ORSet, r#"{"op":"add","elem":5}"#, r#""elem": it has element, elements"#),
        (ORSet, r#"{"op":"clear","element":"x"}"#, r#""element": it has none beside "op""#),
        (EWFlag, r#"{"op":"enable","by":1}"#, r#""by": it has none beside "op""#),
        (LWWRegister, r#"{"op":"set","valeu":1}"#, r#""valeu": it has value, ttl"#),
        (ORMap, r#"{"op":"remove","element":1}"#, r#""element": it has field"#),
        (
            ORMap,
            r#"{"op":"update","field":"f","op2":1}"#,
            r#""op2": it has field, type, operation"#,
        ),
        (
            ORSet,
            r#"{"op":"add"}"#,
            r#""add" needs the member "element", or "elements" with an array"#,
        ),
        (
            ORMap,
            r#"{"op":"update","field":"f","type":"EWFlag"}"#,
            r#""update" needs the member "operation""#,
        ),
    ] {
        let error = parse(crdt_type, text).unwrap_err().to_string();
        assert!(error.ends_with(said), "{text}: {error}");
    }
}

#[test]
fn a_field_may_be_as_long_as_it_is_said() {
    let remove = |bytes: usize| {
        let text = format!(r#"{{"op":"remove","field":"{}"}}"#, "x".repeat(bytes));
        parse(CrdtType::ORMap, &text).map_err(|error| error.status())
    };
    assert_eq!(remove(512), Ok(Operation::RemoveField { field: "x".repeat(512).into() }));
    assert_eq!(remove(513), Err(400));
}
