//! What is taken as JSON, and its canonical form.

use coppice_crdt::{Element, ElementError, Json, JsonError};
use proptest::prelude::*;

fn canonical(text: &str) -> Result<String, JsonError> {
    Json::parse(text.as_bytes())?.canonical()
}

#[test]
fn equal_values_have_one_text() {
    let cases = [
        ("1e3", "1000"),
        ("1000", "1000"),
        ("1000.0", "1000"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0e99999", "0"),
        ("-1e-999", "0"),
        (" [ 1 , 2 ] ", "[1,2]"),
        (r#"{"b":1,"a":2}"#, r#"{"a":2,"b":1}"#),
        (r#""\u0041\/\u00e9""#, "\"A/é\""),
        (r#""\u000a\u0001\u007f""#, "\"\\n\\u0001\u{7f}\""),
        (r#""\ud83d\ude00""#, "\"😀\""),
        ("9007199254740992", "9007199254740992"),
        ("-9007199254740992", "-9007199254740992"),
        ("1e21", "1e+21"),
        ("1e-7", "1e-7"),
        ("0.000001", "0.000001"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("5e-324", "5e-324"),
        ("0.1", "0.1"),
        // A value that a parser of less care reads one bit wrong.
        ("122.416294033786585", "122.41629403378658"),
    ];
    for (text, expected) in cases {
        assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        assert_eq!(canonical(expected).as_deref(), Ok(expected), "a fixed point: {expected}");
    }
}

/// The example of RFC 8785, section 3.2.2, and the order of section 3.2.3.
#[test]
fn examples_of_the_rfc() {
    let text = r#"{
        "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
        "literals": [null, true, false]
    }"#;
    let expected = concat!(
        r#"{"literals":[null,true,false],"#,
        r#""numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#,
        r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#
    );
    assert_eq!(canonical(text).as_deref(), Ok(expected));

    let text = r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#;
    let expected = "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}";
    assert_eq!(canonical(text).as_deref(), Ok(expected), "members sort by UTF-16 code units");
}

#[test]
fn integers_beyond_two_to_the_53_are_refused() {
    let cases = [
        "9007199254740993",
        "-9007199254740993",
        "12345678901234567890",
        "123456789012345678901234567890",
        "[1,{\"a\":9007199254740993}]",
        // Its canonical form would be an integer that is refused.
        "1e20",
        "9007199254740994.0",
        "999999999999999999999",
        "[\"a\",123456789012345678901234567890]",
        // Doubles would be 2^53, which is another number.
        "9007199254740993.0",
        "9007199254740993e0",
        "-900719925474099.3e1",
        "900719925474099300E-2",
        "0.0009007199254740993e19",
        "9007199254740992.5",
        // And these 10^21, which is taken.
        "1000000000000000000000",
        "1000000000000000000000.0",
        "1000000000000000000001e0",
        "9.9999999999999999e20",
    ];
    for text in cases {
        assert_eq!(canonical(text), Err(JsonError::HugeInteger), "{text}");
    }
}

#[test]
fn doubles_are_taken_where_canonical_forms_have_an_exponent() {
    for (text, expected) in [
        ("1e300", "1e+300"),
        ("-1E+300", "-1e+300"),
        ("1.0000000000000001e300", "1e+300"),
        ("123456789012345.67e290", "1.2345678901234567e+304"),
        ("1000e18", "1e+21"),
    ] {
        assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
    }
    for text in ["1.00000000000000001e300", "1e22,9007199254740993", "-1e-22,9007199254740993e0"] {
        assert_eq!(canonical(&format!("[{text}]")), Err(JsonError::HugeInteger), "{text}");
    }
    let digits = format!("1{}", "0".repeat(400));
    assert_eq!(canonical(&digits), Err(JsonError::HugeInteger), "no double, but an integer");
}

#[test]
fn a_huge_integer_keeps_its_sign() {
    for (text, is_negative) in [
        ("1e20", false),
        ("-1e20", true),
        ("9007199254740993", false),
        ("-12345678901234567890", true),
        ("-9007199254740993.0", true),
        ("123456789012345678901234567890", false),
    ] {
        assert_eq!(Json::parse(text.as_bytes()), Ok(Json::HugeInteger { is_negative }), "{text}");
    }
    assert_eq!(canonical("9007199254740992.0").as_deref(), Ok("9007199254740992"));
    assert_eq!(canonical("-9007199254740992.0").as_deref(), Ok("-9007199254740992"));
}

#[test]
fn of_several_numbers_the_huge_ones_are_told_apart() {
    let huge = Json::HugeInteger { is_negative: false };
    let (one, two) = (Json::Number(1.0), Json::Number(2.0));
    assert_eq!(
        Json::parse(b"[1,9007199254740993,2,9007199254740995]"),
        Ok(Json::Array(vec![one, huge.clone(), two, huge]))
    );
}

#[test]
fn what_has_no_unambiguous_form_is_refused() {
    assert_eq!(canonical("1e309"), Err(JsonError::NumberOutOfRange));
    assert_eq!(canonical("[-1e999]"), Err(JsonError::NumberOutOfRange));
    assert_eq!(canonical(r#"["a\"",1e999]"#), Err(JsonError::NumberOutOfRange));
    let name = || "a".to_owned();
    assert_eq!(canonical(r#"{"a":1,"a":1}"#), Err(JsonError::DuplicateMember { name: name() }));
    let nested = r#"[{"x":{"a":1,"b":2,"\u0061":3}}]"#;
    assert_eq!(canonical(nested), Err(JsonError::DuplicateMember { name: name() }));
    assert_eq!(Json::parse(b"\"\xff\""), Err(JsonError::NotUtf8));
    let texts = [
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\"}",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "nul",
        "NaN",
        "Infinity",
        "'a'",
        "\"a",
        "\"\t\"",
        "1 2",
        "{} x",
        "[1]]",
        "// 1",
        "\u{feff}1",
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\u0041""#,
        r#"{"\ud800":1}"#,
        r#""\x""#,
    ];
    for text in texts {
        let refused = canonical(text);
        assert!(matches!(refused, Err(JsonError::Syntax { .. })), "{text:?}: {refused:?}");
    }
}

#[test]
fn syntax_is_told_in_the_words_of_json() {
    for (text, said) in [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("[1", "it ends within an array at line 1 column 2"),
        ("{\"a\":", "it ends within a value at line 1 column 5"),
        ("{\"a\":1", "it ends within an object at line 1 column 6"),
        ("nul ", "expected true, false or null at line 1 column 4"),
    ] {
        let error = canonical(text).unwrap_err().to_string();
        assert_eq!(error, format!("not a JSON text: {said}"), "{text:?}");
    }
}

#[test]
fn digits_inside_strings_are_not_numbers() {
    let text = r#"{"9007199254740993":"1e999 \" 123456789012345678901234567890"}"#;
    assert_eq!(canonical(text).as_deref(), Ok(text));
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(canonical(&nested(64)).is_ok());
    assert_eq!(canonical(&nested(65)), Err(JsonError::TooDeep));
    assert_eq!(canonical(&nested(100_000)), Err(JsonError::TooDeep));
    let objects = "{\"a\":".repeat(65) + "1" + &"}".repeat(65);
    assert_eq!(canonical(&objects), Err(JsonError::TooDeep));
}

#[test]
fn elements_are_bounded_by_their_canonical_form() {
    let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    assert!(Element::parse(text(4096).as_bytes()).is_ok());
    let refused = Element::parse(text(4097).as_bytes());
    assert_eq!(refused, Err(ElementError::TooLarge { bytes: 4097 }));
    assert_eq!(refused.map_err(|error| error.status()), Err(413));
    assert!(Element::parse(format!("{}1", " ".repeat(5000)).as_bytes()).is_ok(), "blanks are free");
    let refused = Element::parse(b"12345678901234567890");
    assert_eq!(refused.map_err(|error| error.status()), Err(400));
}

#[test]
fn members_are_found_and_taken() {
    let mut json = Json::parse(br#"{"key":"k","op":"add"}"#).unwrap();
    assert_eq!(json.member("op").and_then(Json::as_str), Some("add"));
    assert_eq!(json.take_member("key"), Some(Json::String("k".to_owned())));
    assert_eq!(json.take_member("key"), None);
    assert_eq!(json.canonical().as_deref(), Ok(r#"{"op":"add"}"#));
    assert_eq!(Json::Null.member("op"), None);
}

fn values() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i32>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::hash_map(any::<String>(), inner, 0..6)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Json::parse(&bytes);
    }

    #[test]
    fn almost_json_is_taken_or_refused(text in r#"[\[\]{}",:0-9eE.+\-\\utrfnals ]{0,40}"#) {
        if let Ok(json) = Json::parse(text.as_bytes()) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            if let Ok(canonical) = json.canonical() {
                prop_assert_eq!(Json::parse(canonical.as_bytes()), Ok(json));
            }
        }
    }

    #[test]
    fn an_integer_is_itself_or_refused_in_any_spelling(
        near in -3_i64..=3,
        far in -999_999_999_999_999_999_999_i128..1_000_000_000_000_000_000_000,
        is_near in any::<bool>(),
        moved in 0_usize..30,
    ) {
        let number = if is_near { i128::from(near) + (1 << 53) } else { far };
        let digits = format!("{:0>30}", number.unsigned_abs());
        let (whole, fraction) = digits.split_at(digits.len() - moved);
        let (whole, sign) = (whole.trim_start_matches('0'), if number < 0 { "-" } else { "" });
        let whole = if whole.is_empty() { "0" } else { whole };
        let fraction = if fraction.is_empty() { "0" } else { fraction };
        let spelt = format!("{sign}{whole}.{fraction}e{moved}");
        let is_exact = number.unsigned_abs() <= 1 << 53;
        let expected = if is_exact { Ok(number.to_string()) } else { Err(JsonError::HugeInteger) };
        prop_assert_eq!(canonical(&spelt), expected, "{} is {}", spelt, number);
    }

    #[test]
    fn canonical_text_means_the_same(value in values()) {
        let text = serde_json::to_string_pretty(&value).unwrap();
        match Json::parse(text.as_bytes()).and_then(|json| json.canonical()) {
            Ok(canonical) => {
                let read: serde_json::Value = serde_json::from_str(&canonical).unwrap();
                let again = serde_json::to_string(&read).unwrap();
                let once = Json::parse(again.as_bytes()).unwrap().canonical();
                prop_assert_eq!(once.as_deref(), Ok(&*canonical));
            }
            Err(error) => prop_assert_eq!(error, JsonError::HugeInteger),
        }
    }
}
