use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn kind(text: &str) -> JsonErrorKind {
    Json::parse(text).unwrap_err().kind()
}

/// Nested `levels` deep.
fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn numbers_keep_their_text() {
    let text = r#"{"role":"user","content":"hi","id":12345678901234567890123,"x":0.1000000000000000055511151231257827,"y":1.0,"z":-0.0,"w":1e2,"v":-0,"u":1e400,"t":18446744073709551615,"s":-9223372036854775808,"r":-9223372036854775809,"q":1E+2,"p":292042121000001}"#;
    let json = Json::parse(text).unwrap();
    assert_eq!(json.to_string(), text);
    assert_eq!(serde_json::to_string(&json).unwrap(), text);
    let raw: Box<serde_json::value::RawValue> = serde_json::value::to_raw_value(&json).unwrap();
    assert_eq!(raw.get(), text);
}

#[test]
fn numbers_are_equal_by_text() {
    let json = |text| Json::parse(text).unwrap();
    assert_ne!(json("1"), json("1.0"));
    assert_ne!(json("0"), json("-0"));
    assert_eq!(json(r#"{"a":1,"b":[2]}"#), json(r#"{"b":[2],"a":1}"#));
    assert_ne!(json(r#"{"a":1,"b":2}"#), json(r#"{"a":1,"c":2}"#));
    assert_ne!(json(r#"{"a":1}"#), json(r#"{"a":1,"b":2}"#));
}

#[test]
fn number_views_are_exact_or_none() {
    let number = |text| JsonNumber::from_text(text).unwrap();
    assert_eq!(number("18446744073709551615").as_u64(), Some(u64::MAX));
    assert_eq!(number("18446744073709551615").as_i64(), None);
    assert_eq!(number("-9223372036854775808").as_i64(), Some(i64::MIN));
    assert_eq!(number("-1").as_u64(), None);
    assert_eq!(number("1.0").as_u64(), None);
    assert_eq!(number("1.5").as_f64(), Some(1.5));
    assert_eq!(number("1e400").as_f64(), None);
    for text in ["", "-", "01", "1.", ".5", "1e", "1e+", "+1", "1 ", "0x1", "1.e2", "--1"] {
        assert_eq!(JsonNumber::from_text(text), None, "{text}");
    }
    assert_eq!(JsonNumber::from_f64(f64::NAN), None);
    assert_eq!(JsonNumber::from_f64(0.5).unwrap().to_string(), "0.5");
}

#[test]
fn value_conversion_loses_as_documented() {
    let json = Json::parse(r#"[1e400,-1e400,12345678901234567890123,1.50,-0,7]"#).unwrap();
    let value = json.to_value();
    assert_eq!(value[0], f64::MAX);
    assert_eq!(value[1], f64::MIN);
    assert_eq!(value[2], 12_345_678_901_234_567_890_123_f64);
    assert_eq!(value[3], 1.5);
    assert_eq!(value[4].to_string(), "-0.0");
    assert_eq!(value[5], 7);
}

#[test]
fn errors_have_kind_and_place() {
    let cases = [
        ("", JsonErrorKind::Empty, 1, 1),
        (" \n ", JsonErrorKind::Empty, 2, 2),
        (r#"{"role":"user","con"#, JsonErrorKind::Truncated, 1, 20),
        (r#"{"role":"user","content":"a\"#, JsonErrorKind::Truncated, 1, 29),
        (r#"{"a":tr"#, JsonErrorKind::Truncated, 1, 8),
        (r#"{"a":-"#, JsonErrorKind::Truncated, 1, 7),
        (r#"{"a":1"#, JsonErrorKind::Truncated, 1, 7),
        (r#"{"a":"\ud8"#, JsonErrorKind::Truncated, 1, 11),
        (r#"{"a":1}{"a":1}"#, JsonErrorKind::SecondValue, 1, 8),
        ("{\"a\":1}\n{}", JsonErrorKind::SecondValue, 2, 1),
        (r#"{"a":1} x"#, JsonErrorKind::TrailingCharacters, 1, 9),
        ("{}\0\0", JsonErrorKind::NulBytes, 1, 3),
        (r#"{"role":"user","content":"hi",}"#, JsonErrorKind::TrailingComma, 1, 30),
        ("[1,]", JsonErrorKind::TrailingComma, 1, 3),
        (r#"{"a":"äö\ud83d"}"#, JsonErrorKind::LoneSurrogate, 1, 9),
        (r#"{"a":"\ud83d\u0041"}"#, JsonErrorKind::LoneSurrogate, 1, 7),
        (r#"{"a":"\ude00"}"#, JsonErrorKind::LoneSurrogate, 1, 7),
        (r#"{"a":"\ud83d\ue000"}"#, JsonErrorKind::LoneSurrogate, 1, 7),
        (r#"{"a":"\ud83d\ud83d"}"#, JsonErrorKind::LoneSurrogate, 1, 7),
        ("{\"a\":\"b\0c\"}", JsonErrorKind::ControlCharacter, 1, 8),
        ("{\"a\":\"b\nc\"}", JsonErrorKind::ControlCharacter, 1, 8),
        ("\0\0\0", JsonErrorKind::NulBytes, 1, 1),
        (r#"{"score":NaN}"#, JsonErrorKind::NotFinite, 1, 10),
        (r#"{"score":-Infinity}"#, JsonErrorKind::NotFinite, 1, 11),
        (r#"{"a":01}"#, JsonErrorKind::Syntax, 1, 7),
        (r#"{"a" 1}"#, JsonErrorKind::Syntax, 1, 6),
        (r#"{a:1}"#, JsonErrorKind::Syntax, 1, 2),
        (r#"{"a":nul1}"#, JsonErrorKind::Syntax, 1, 9),
        (r#"["\x"]"#, JsonErrorKind::Syntax, 1, 4),
        ("[1 2]", JsonErrorKind::Syntax, 1, 4),
        ("'a'", JsonErrorKind::Syntax, 1, 1),
    ];
    for (text, kind, line, column) in cases {
        let error = Json::parse(text).unwrap_err();
        assert_eq!((error.kind(), error.line(), error.column()), (kind, line, column), "{text}");
        assert!(error.to_string().contains(": "), "no remedy: {error}");
    }
}

#[test]
fn repeated_key_is_refused_with_its_path() {
    let error = Json::parse(r#"{"role":"user","content":"safe","content":"other"}"#).unwrap_err();
    assert_eq!((error.kind(), error.path()), (JsonErrorKind::DuplicateKey, "content"));
    let text = r#"{"content":[{"a":1},{"input":{"secret words":{"x":[[{"y":1,"y":2}]]}}}]}"#;
    let error = Json::parse(text).unwrap_err();
    assert_eq!(error.path(), "content[1].input.{1}.x[0][0].y");
    assert!(!error.to_string().contains("secret"));
    // Escapes do not hide it, nor does the size of the object.
    assert_eq!(kind(r#"{"a":1,"\u0061":2}"#), JsonErrorKind::DuplicateKey);
    for count in [23, 24, 25, 100] {
        let members: Vec<_> = (0..count).map(|at| format!("\"k{at}\":{at}")).collect();
        let members = members.join(",");
        assert!(Json::parse(&format!("{{{members}}}")).is_ok());
        for at in [0, count - 1] {
            assert_eq!(kind(&format!("{{{members},\"k{at}\":0}}")), JsonErrorKind::DuplicateKey);
        }
    }
    assert!(serde_json::from_str::<Json>(r#"{"a":{"b":1,"b":2}}"#).is_err());
}

#[test]
fn depth_is_limited() {
    assert!(Json::parse(&nested(MAX_JSON_DEPTH)).is_ok());
    assert!(serde_json::from_str::<Value>(&nested(MAX_JSON_DEPTH)).is_ok());
    assert_eq!(kind(&nested(MAX_JSON_DEPTH + 1)), JsonErrorKind::TooDeep);
    assert!(serde_json::from_str::<Value>(&nested(MAX_JSON_DEPTH + 1)).is_err());
    assert_eq!(kind(&nested(1_000_000)), JsonErrorKind::TooDeep);
    // The limit counts levels, not arrays.
    assert!(Json::parse(&format!("[{}]", vec!["[]"; 500].join(","))).is_ok());
}

#[test]
fn surrogates_are_replaced_on_request() {
    let (json, replaced) =
        Json::parse_replacing_surrogates(r#"["a\ud83d","\ude00\ud83d\u0041","\ud83d\ude00"]"#)
            .unwrap();
    assert_eq!(replaced, 3);
    assert_eq!(json.to_string(), "[\"a\u{fffd}\",\"\u{fffd}\u{fffd}A\",\"😀\"]");
}

#[test]
fn glued_values_are_read_one_by_one() {
    let (first, rest) = Json::parse_prefix(r#"{"a":1}{"b":2}"#).unwrap();
    assert_eq!((first.to_string().as_str(), rest), (r#"{"a":1}"#, r#"{"b":2}"#));
}

#[test]
fn other_encodings_are_named() {
    let utf16: Vec<u8> = "\u{feff}{\"a\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(Json::parse_bytes(&utf16).unwrap_err().kind(), JsonErrorKind::Utf16);
    assert_eq!(Json::parse_bytes(&utf16[2..]).unwrap_err().kind(), JsonErrorKind::Utf16);
    let error = Json::parse_bytes(b"{\"a\":\"gr\xfc\xdfe\"}").unwrap_err();
    assert_eq!((error.kind(), error.column()), (JsonErrorKind::NotUtf8, 9));
    assert!(Json::parse("\u{feff}{}").is_ok());
    assert!(Json::parse_bytes(b"{}").is_ok());
}

#[test]
fn separators_and_nul_escapes_are_kept() {
    for text in ["{\"a\":\"x\u{2028}y\"}", r#"{"a":"a\u0000b"}"#] {
        assert_eq!(Json::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn object_edits_keep_the_order() {
    let mut object = JsonObject::new().with("b", 1_u64).with("a", true).with("c", "x");
    assert_eq!(object.insert("a", false), Some(Json::Bool(true)));
    assert_eq!(object.remove("b"), Some(Json::Number(1_u64.into())));
    assert_eq!(object.insert("b", Json::Null), None);
    assert_eq!(Json::from(object).to_string(), r#"{"a":false,"c":"x","b":null}"#);
}

/// Any JSON, floats and large integers included.
fn any_json() -> impl Strategy<Value = Json> {
    let number = prop_oneof![
        any::<u64>().prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
    ];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number.prop_map(|text| Json::Number(JsonNumber::from_text(&text).unwrap())),
        any::<String>().prop_map(Json::String),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Json::Array),
            proptest::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn text_round_trips(json in any_json()) {
        let text = json.to_string();
        let back = Json::parse(&text).unwrap();
        prop_assert_eq!(&back, &json);
        prop_assert_eq!(back.to_string(), text.clone());
        prop_assert_eq!(serde_json::to_string(&json).unwrap(), text);
        let pretty = serde_json::to_string_pretty(&json).unwrap();
        prop_assert_eq!(Json::parse(&pretty).unwrap(), json);
    }

    #[test]
    fn agrees_with_serde_json(text in "[\\[\\]{}\",:0-9eE.+\\-a-fnrtu\\\\ ]{0,24}") {
        // `serde_json` accepts repeated keys and refuses numbers beyond a float.
        match (Json::parse(&text), serde_json::from_str::<Value>(&text)) {
            (Ok(json), Ok(value)) => prop_assert_eq!(json.to_value(), value),
            (Err(error), Ok(_)) => prop_assert_eq!(error.kind(), JsonErrorKind::DuplicateKey),
            (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("out of range"), "{}", error),
            (Err(_), Err(_)) => {}
        }
    }

    #[test]
    fn damaged_text_never_panics(json in any_json(), at in any::<prop::sample::Index>(), to in any::<char>()) {
        let mut characters: Vec<char> = json.to_string().chars().collect();
        let at = at.index(characters.len());
        characters[at] = to;
        let text: String = characters.iter().collect();
        let _ = Json::parse(&text);
        let cut: String = characters[..at].iter().collect();
        let _ = Json::parse(&cut);
        let _ = Json::parse_replacing_surrogates(&text);
    }

    #[test]
    fn values_convert(json in any_json()) {
        // A float has one text here, so that nothing is lost.
        let value = json.to_value();
        let back = Json::from(value.clone());
        prop_assert_eq!(back.to_value(), value.clone());
        let read: Json = serde_json::from_value(value.clone()).unwrap();
        prop_assert_eq!(&read, &back);
        let text = value.to_string();
        let read: Json = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read.to_string(), back.to_string());
    }
}
