use proptest::prelude::*;

use super::*;

fn pairs(view: View<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    view.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect()
}

fn exercise(bytes: &[u8]) {
    let view = View::trusted(bytes);
    let _ = (view.len(), view.is_empty(), view.into_iter().count());
}

/// "foo" => "bar" and "hello" => "world", the second with two unused bytes.
const EXAMPLE: &[u8] = b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world??\xFF";

#[test]
fn pairs_are_read_without_their_unused_bytes() {
    let view = check(EXAMPLE).unwrap();
    assert_eq!(view.len(), 2);
    assert_eq!(pairs(view), [(b"foo".to_vec(), b"bar".to_vec()), (b"hello".to_vec(), b"world".to_vec())]);
    assert!(check(b"\x00\xFF").unwrap().is_empty());
    let with_empty = check(b"\x01\x00\x00\x00\xFF").unwrap();
    assert_eq!(pairs(with_empty), [(Vec::new(), Vec::new())]);
}

#[test]
fn a_length_from_254_on_has_five_bytes() {
    for len in [253_u8, 254, 255] {
        let text = vec![b'x'; usize::from(len)];
        let encoded = if len < 254 { vec![len] } else { vec![254, len, 0, 0, 0] };
        let map = [&[1][..], &encoded, &text, &encoded, &[0], &text, &[255]].concat();
        assert_eq!(pairs(check(&map).unwrap()), [(text.clone(), text)]);
    }
}

#[test]
fn an_unknown_number_of_pairs_is_counted() {
    let mut map = EXAMPLE.to_vec();
    map[0] = 254;
    assert_eq!(check(&map).unwrap().len(), 2);
}

#[test]
fn damage_is_named_with_its_place() {
    fn check_damage(bytes: &[u8], at: usize, reason: Reason) {
        assert_eq!(check(bytes).unwrap_err(), Damage { format: Format::Zipmap, at, reason });
    }
    check_damage(&[], 0, Reason::TooShort);
    check_damage(&[255], 1, Reason::TooShort);
    check_damage(b"\x00\x00", 1, Reason::End);
    check_damage(b"\x02\x01a\x01\x00b\xFF", 0, Reason::Count);
    check_damage(b"\xFF\x01a\x01\x00b\xFF", 0, Reason::Count);
    check_damage(b"\x01\x02a\xFF", 1, Reason::PastEnd);
    check_damage(b"\x01\x01a\xFF", 1, Reason::PastEnd);
    check_damage(b"\x01\x01a\x01\xFF", 1, Reason::PastEnd);
    check_damage(b"\x01\x01a\x02\x00b\xFF", 1, Reason::PastEnd);
    check_damage(b"\x01\x01a\x01\x01b\xFF", 1, Reason::PastEnd);
    check_damage(b"\x01\xFE\x01\x00\xFF", 1, Reason::PastEnd);
    check_damage(b"\x01\xFE\xFF\xFF\xFF\xFFa\xFF", 1, Reason::PastEnd);
    check_damage(b"\x01\x01a\xFF\x00\xFF", 1, Reason::Encoding);
    check_damage(b"\x01\x01a\x01\x00b\xFF\xFF", 6, Reason::Encoding);
    assert_eq!(
        check(b"\x01\x02a\xFF").unwrap_err().to_string(),
        "entry at byte 1 extends past the end of the zipmap"
    );
}

#[test]
fn every_truncation_and_every_changed_byte_is_refused_or_read_without_a_panic() {
    for len in 0..EXAMPLE.len() {
        assert!(check(&EXAMPLE[..len]).is_err());
        exercise(&EXAMPLE[..len]);
    }
    for at in 0..EXAMPLE.len() {
        let mut changed = EXAMPLE.to_vec();
        for byte in 0..=u8::MAX {
            changed[at] = byte;
            if let Ok(view) = check(&changed) {
                assert_eq!(pairs(view).len(), view.len());
            }
            exercise(&changed);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = check(&bytes);
        exercise(&bytes);
        let framed = [&[254], &bytes[..], &[255]].concat();
        let _ = check(&framed);
        exercise(&framed);
    }
}
