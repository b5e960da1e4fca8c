use super::*;
use crate::message::Message;
use crate::redact::Redactor;

/// The text with `*` for each secret of this kind.
fn hidden(preset: RedactPreset, text: &str) -> String {
    let redactor = Redactor::new::<&str>(&[], "*").unwrap().with_presets(&[preset]);
    redactor.redact(Message::user(text)).text().into_owned()
}

fn check(preset: RedactPreset, hits: &[(&str, &str)], misses: &[&str]) {
    for (text, expected) in hits {
        assert_eq!(hidden(preset, text), *expected, "{text}");
        // With adjacent punctuation, and in any script.
        assert_eq!(hidden(preset, &format!("({text}),")), format!("({expected}),"));
        assert_eq!(hidden(preset, &format!("号码{text}。")), format!("号码{expected}。"));
    }
    for text in misses {
        assert_eq!(hidden(preset, text), *text);
    }
}

#[test]
fn social_security_numbers() {
    check(
        RedactPreset::UsSsn,
        &[
            ("123-45-6789", "*"),
            ("123 45 6789", "*"),
            ("123\u{2011}45\u{2011}6789", "*"),
            ("ssn:001-01-0001", "ssn:*"),
            ("SSN-899-99-9999.", "SSN-*."),
            ("123-45-6789 234-56-7890", "* *"),
            ("123-45-6789,\n234-56-7890", "*,\n*"),
            ("665-12-3456 and 667-12-3456", "* and *"),
        ],
        &[
            // Never issued.
            "000-45-6789",
            "666-45-6789",
            "900-45-6789",
            "987-65-4321",
            "123-00-6789",
            "123-45-0000",
            // Another form.
            "123456789",
            "123-456-789",
            "12-345-6789",
            "123-45-678",
            "123-45-67890",
            "1234-45-6789",
            "123-45 6789",
            "123.45.6789",
            "123--45-6789",
            // A part of something longer.
            "1-123-45-6789",
            "123-45-6789-1",
            "5.123-45-6789",
            "10 123 45 6789",
            "a123-45-6789",
            "123-45-6789b",
        ],
    );
}

#[test]
fn card_numbers() {
    check(
        RedactPreset::CardNumber,
        &[
            // The numbers that payment services give for tests.
            ("4111111111111111", "*"),
            ("4111 1111 1111 1111", "*"),
            ("4111-1111-1111-1111", "*"),
            ("4111\u{a0}1111\u{a0}1111\u{a0}1111", "*"),
            ("4222222222222", "*"),
            ("5555555555554444", "*"),
            ("2223003122003222", "*"),
            ("378282246310005", "*"),
            ("3782 822463 10005", "*"),
            ("30569309025904", "*"),
            ("3056 930902 5904", "*"),
            ("6011111111111117", "*"),
            ("3530111333300000", "*"),
            ("6200000000000005", "*"),
            ("6304000000000000", "*"),
            // 19 digits.
            ("6304000000000000000", "*"),
            ("4111 1111 1111 1111 12/27", "* 12/27"),
            ("2024 4111 1111 1111 1111", "2024 *"),
            ("4111111111111111 5555555555554444", "* *"),
            ("pan=4111111111111111;", "pan=*;"),
        ],
        &[
            // The check digit is wrong.
            "4111111111111112",
            "4111 1111 1111 1112",
            "378282246310006",
            // Too short, too long, not begun as a card.
            "411111111116",
            "41111111111111111111",
            "0000000000000000",
            "1111111111111117",
            "9111111111111111",
            // Times since 1970 in milliseconds and microseconds.
            "1700000000000",
            "1700000000000005",
            // Other groups, other separators.
            "411-111-111-111-1111",
            "4111.1111.1111.1111",
            "4111 1111-1111 1111",
            "4111  1111  1111  1111",
            // A fraction, a hash.
            "0.4111111111111111",
            "a4111111111111111",
            "4111111111111111f",
        ],
    );
}

#[test]
fn email_addresses() {
    check(
        RedactPreset::Email,
        &[
            ("ann@example.com", "*"),
            ("Ann.Lee+news@mail.example.co.uk", "*"),
            ("ann_lee%x@ex-ample.org", "*"),
            ("<ann@example.com>", "<*>"),
            ("mailto:ann@example.com?subject=x", "mailto:*?subject=x"),
            ("to=ann@example.com&x", "to=*&x"),
            ("'ann@example.com'", "'*'"),
            ("o'brien@example.com", "*"),
            ("Write to ann@example.com.", "Write to *."),
            ("a@b.io,c@d.io", "*,*"),
            ("müller@bücher.example", "*"),
            ("анна@пример.рф", "*"),
            ("ann@xn--bcher-kva.example", "*"),
            ("ann@example.xn--p1ai", "*"),
            ("ann@example.com是", "*是"),
            ("ann@example.com입니다", "*입니다"),
            ("...ann@example.com...", "...*..."),
            ("ann@example.com2024", "*2024"),
            ("postgres://u:pass@db.example.com/x", "postgres://u:*/x"),
        ],
        &[
            "@ann",
            "ann@",
            "ann@example",
            "ann@localhost",
            "ann @example.com",
            "ann@ example.com",
            "ann@example.c",
            "ann@.com",
            "ann@example..com",
            "ann@-example.com",
            "types/node@18.0.1",
            "react@18.2.0-rc.1",
            "icon@2x.png",
            "@media screen",
            "a@b",
        ],
    );
}

#[test]
fn phone_numbers() {
    check(
        RedactPreset::Phone,
        &[
            ("+14155552671", "*"),
            ("+1 415 555 2671", "*"),
            ("+1 (415) 555-2671", "*"),
            ("+1-415-555-2671", "*"),
            ("+1.415.555.2671", "*"),
            ("+44 20 7946 0958", "*"),
            ("+44 (0)20 7946 0958", "*"),
            ("+49/30/1234567", "*"),
            ("+49 (30) 123-4567", "*"),
            ("+4930123456", "*"),
            ("+86 138 0013 8000", "*"),
            ("+1 415 555 2671 2 pm", "* 2 pm"),
            ("tel:+33123456789", "tel:*"),
            ("415-555-2671", "*"),
            ("415.555.2671", "*"),
            ("415 555 2671", "*"),
            ("(415) 555-2671", "*"),
            ("(415)555-2671", "*"),
            ("1-800-555-0199", "*"),
            ("1 (800) 555-0199", "*"),
            ("1(800) 555-0199", "1*"),
            ("415\u{2011}555\u{2011}2671", "*"),
            ("415-555-2671x23", "*x23"),
            ("call 415-555-2671.", "call *."),
            ("415-555-2671, 415-555-2672", "*, *"),
        ],
        &[
            // No mark of a telephone number.
            "4155552671",
            "1732815265",
            "555-2671",
            // Numbers with a sign or a zone.
            "+1",
            "+1234567",
            "+1234.5678901",
            "x+49301234567",
            "3+49301234567",
            "+0123456789",
            "+ 49301234567",
            "2024-11-28T10:00:00+0100",
            // Too long, too short.
            "+4930123456789012",
            "+1 415 555 267",
            "415-555-26711",
            "4155-555-2671",
            // Something else.
            "2024-11-28",
            "123-45-6789",
            "4111-1111-1111-1111",
            "192.168.100.1",
            "12-415-555-2671",
            "415-555-2671-89",
            "1.415.555.2671.8",
            "415.555-2671",
            "415) 555-2671",
            "T415-555-2671",
            "415-555-2671b",
        ],
    );
}

#[test]
fn ipv4_addresses() {
    check(
        RedactPreset::Ipv4,
        &[
            ("192.168.0.1", "*"),
            ("0.0.0.0", "*"),
            ("255.255.255.255", "*"),
            ("8.8.8.8:53", "*:53"),
            ("10.0.0.0/8", "*/8"),
            ("10.0.0.1-10.0.0.9", "*-*"),
            ("http://127.0.0.1/x", "http://*/x"),
            ("::ffff:192.0.2.1", "::ffff:*"),
            ("From 10.1.2.3.", "From *."),
            ("10.0.0.1, 10.0.0.2", "*, *"),
        ],
        &[
            "256.1.1.1",
            "1.256.1.1",
            "1.1.1.256",
            "1.1.1.1000",
            "1.2.3",
            "1.2.3.4.5",
            "1.3.6.1.4.1.311",
            "01.2.3.4",
            "192.168.001.1",
            "1..2.3.4",
            "1.2.3.",
            "1,2,3,4",
            "v1.2.3.4",
            "1.2.3.4a",
        ],
    );
}

#[test]
fn uuids() {
    check(
        RedactPreset::Uuid,
        &[
            ("f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "*"),
            ("00000000-0000-0000-0000-000000000000", "*"),
            ("01890A5D-AC96-774B-BCCE-B302099A8057", "*"),
            ("{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}", "{*}"),
            ("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "urn:uuid:*"),
            ("user_f81d4fae-7dec-11d0-a765-00a0c91e6bf6.png", "user_*.png"),
            ("f81d4fae-7dec-11d0-a765-00a0c91e6bf6,01890a5d-ac96-774b-bcce-b302099a8057", "*,*"),
        ],
        &[
            "f81d4fae7dec11d0a76500a0c91e6bf6",
            "g81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf61",
            "xf81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "f81d4fae-7dec-11d0a-765-00a0c91e6bf6",
            "f81d4fae_7dec_11d0_a765_00a0c91e6bf6",
            "f81d4fae-7dec-11d0-a765",
        ],
    );
}

#[test]
fn json_number_is_recognized() {
    let presets = [RedactPreset::CardNumber];
    let redactor = Redactor::new::<&str>(&[], "*").unwrap().with_presets(&presets);
    let message = serde_json::json!({"role": "user", "content": "", "card": 4_111_111_111_111_111_u64,
        "x": [0.411_111_111_111_111_1, 4_111_111_111_111_112_u64]});
    let mut expected = message.clone();
    expected["card"] = "*".into();
    let message = redactor.redact(Message::from_value(message).unwrap());
    assert_eq!(message.to_value(), expected);
}

#[test]
fn presets_see_the_text_before_any_replacement() {
    let redactor = Redactor::new(&[r"\d{4}$"], "*").unwrap().with_presets(&RedactPreset::ALL);
    let text = "+4111 1111 1111 1111";
    assert_eq!(redactor.redact(Message::user(text)).text(), "*");
}

#[test]
fn names_are_those_of_resources() {
    for preset in RedactPreset::ALL {
        assert_eq!(serde_json::to_value(preset).unwrap(), preset.name());
    }
}
