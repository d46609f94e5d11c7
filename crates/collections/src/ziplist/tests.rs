use proptest::prelude::*;

use super::*;

/// A ziplist written by hand: `entries` between header and end.
fn by_hand(tail: usize, elements: u16, entries: &[u8]) -> Vec<u8> {
    let mut list = u32::try_from(entries.len() + 11).unwrap().to_le_bytes().to_vec();
    list.extend_from_slice(&u32::try_from(tail).unwrap().to_le_bytes());
    list.extend_from_slice(&elements.to_le_bytes());
    list.extend_from_slice(entries);
    list.push(END);
    list
}

/// A ziplist of entries without their previous lengths.
fn packed(entries: &[&[u8]]) -> Vec<u8> {
    let (mut bytes, mut tail, mut previous) = (Vec::new(), HEADER_LEN, 0_usize);
    for entry in entries {
        let start = bytes.len();
        tail = HEADER_LEN + start;
        match u8::try_from(previous) {
            Ok(previous) if previous < 254 => bytes.push(previous),
            _ => {
                bytes.push(254);
                bytes.extend_from_slice(&u32::try_from(previous).unwrap().to_le_bytes());
            }
        }
        bytes.extend_from_slice(entry);
        previous = bytes.len() - start;
    }
    by_hand(tail, entries.len().try_into().unwrap(), &bytes)
}

fn texts(view: View<'_>) -> Vec<Vec<u8>> {
    view.iter().map(Item::to_vec).collect()
}

fn exercise(bytes: &[u8]) {
    let view = View::trusted(bytes);
    let _ = (view.len(), view.is_empty(), view.into_iter().count());
}

fn every_encoding() -> Vec<u8> {
    packed(&[
        b"\x02ab",
        b"\x00",
        b"\x40\x03abc",
        b"\x80\x00\x00\x00\x01z",
        &[0xC0, 0xFE, 0xFF],
        &[0xD0, 0, 0, 1, 0],
        &[0xE0, 1, 0, 0, 0, 0, 0, 0, 0x80],
        &[0xF0, 0xFF, 0xFF, 0x7F],
        &[0xFE, 0x80],
        &[0xF1],
        &[0xFD],
    ])
}

#[test]
fn each_encoding_is_read() {
    fn check_entry(entry: &[u8], expected: &[u8]) {
        let list = packed(&[entry]);
        let view = check(&list).unwrap();
        assert_eq!(texts(view), [expected.to_vec()]);
        assert_eq!(view.len(), 1);
        assert_eq!(texts(View::trusted(&list)), [expected.to_vec()]);
    }
    check_entry(b"\x00", b"");
    check_entry(b"\x05hello", b"hello");
    check_entry(&[&b"\x3F"[..], &[b'x'; 63]].concat(), &[b'x'; 63]);
    check_entry(&[&b"\x40\x40"[..], &[b'x'; 64]].concat(), &[b'x'; 64]);
    check_entry(&[&b"\x41\x02"[..], &[b'x'; 258]].concat(), &[b'x'; 258]);
    check_entry(&[&b"\x80\x00\x00\x40\x00"[..], &[b'x'; 16_384]].concat(), &[b'x'; 16_384]);
    check_entry(&[0xC0, 0x00, 0x80], b"-32768");
    check_entry(&[0xD0, 0x78, 0x56, 0x34, 0x12], b"305419896");
    check_entry(&[0xE0, 0, 0, 0, 0, 0, 0, 0, 0x80], b"-9223372036854775808");
    check_entry(&[0xF0, 0x00, 0x00, 0x80], b"-8388608");
    check_entry(&[0xF0, 0xFF, 0xFF, 0x7F], b"8388607");
    check_entry(&[0xFE, 0x80], b"-128");
    for value in 0..=12_u8 {
        check_entry(&[0xF1 + value], value.to_string().as_bytes());
    }
}

#[test]
fn the_example_of_the_format_is_read() {
    // "2", "5" and "Hello World", as the head of ziplist.c explains them.
    let list = by_hand(14, 3, b"\x00\xF3\x02\xF6\x02\x0BHello World");
    assert_eq!(texts(check(&list).unwrap()), [&b"2"[..], b"5", b"Hello World"]);
    let empty = by_hand(10, 0, b"");
    assert_eq!(empty, [11, 0, 0, 0, 10, 0, 0, 0, 0, 0, 255]);
    assert!(check(&empty).unwrap().is_empty());
}

#[test]
fn an_entry_after_a_long_one_has_a_previous_length_of_five_bytes() {
    // 1 byte previous length and 2 of the encoding: 253 bytes, then 254.
    for (len, previous) in [(250, &[253][..]), (251, &[254, 254, 0, 0, 0])] {
        let long = [&[0x40, len][..], &vec![b'x'; usize::from(len)]].concat();
        let list = packed(&[&long, b"\x01a", &[0xF2]]);
        assert_eq!(&list[10 + 3 + usize::from(len)..][..previous.len()], previous);
        assert_eq!(texts(check(&list).unwrap())[1..], [b"a".to_vec(), b"1".to_vec()]);
    }
    // Five bytes where one is enough.
    let list = by_hand(13, 2, b"\x00\x01a\xFE\x03\x00\x00\x00\xF1");
    assert_eq!(texts(check(&list).unwrap()), [&b"a"[..], b"0"]);
}

#[test]
fn an_unknown_number_of_elements_is_counted() {
    let list = by_hand(13, u16::MAX, b"\x00\x01a\x03\xF1");
    assert_eq!(check(&list).unwrap().len(), 2);
}

#[test]
fn damage_is_named_with_its_place() {
    fn check_damage(bytes: &[u8], at: usize, reason: Reason) {
        assert_eq!(check(bytes).unwrap_err(), Damage { format: Format::Ziplist, at, reason });
    }
    check_damage(&[], 0, Reason::TooShort);
    check_damage(&[10, 0, 0, 0, 10, 0, 0, 0, 0, 0], 10, Reason::TooShort);
    check_damage(&[12, 0, 0, 0, 10, 0, 0, 0, 0, 0, 255], 0, Reason::Length);
    check_damage(&[11, 0, 0, 0, 10, 0, 0, 0, 0, 0, 254], 10, Reason::End);
    check_damage(&by_hand(10, 1, b"\x01\xF1"), 10, Reason::BackwardLength);
    check_damage(&by_hand(13, 2, b"\x00\x01a\x02\xF1"), 13, Reason::BackwardLength);
    check_damage(&by_hand(10, 2, b"\x00\x01a\x03\xF1"), 4, Reason::Tail);
    check_damage(&by_hand(13, 1, b"\x00\x01a\x03\xF1"), 8, Reason::Count);
    check_damage(&by_hand(10, 1, b"\x00\x02a"), 10, Reason::PastEnd);
    check_damage(&by_hand(10, 1, b"\x00"), 10, Reason::PastEnd);
    check_damage(&by_hand(10, 1, b"\xFE\x00\x00"), 10, Reason::PastEnd);
    check_damage(&by_hand(10, 1, b"\x00\x40"), 10, Reason::PastEnd);
    check_damage(&by_hand(10, 1, b"\x00\x80\x00\x00"), 10, Reason::PastEnd);
    check_damage(&by_hand(10, 1, b"\x00\x80\xFF\xFF\xFF\xFF"), 10, Reason::PastEnd);
    check_damage(&by_hand(10, 1, b"\x00\xC0\x00"), 10, Reason::PastEnd);
    check_damage(&by_hand(10, 1, b"\x00\xC1\x00"), 10, Reason::Encoding);
    check_damage(&by_hand(10, 1, b"\x00\xFF"), 10, Reason::Encoding);
    check_damage(&by_hand(10, 1, b"\xFF\xF1"), 10, Reason::Encoding);
    assert_eq!(
        check(&by_hand(10, 1, b"\x01\xF1")).unwrap_err().to_string(),
        "entry at byte 10 of the ziplist has a wrong backward length"
    );
}

#[test]
fn every_truncation_and_every_changed_byte_is_refused_or_read_without_a_panic() {
    let list = every_encoding();
    let original = texts(check(&list).unwrap());
    assert_eq!(original.len(), 11);
    for len in 0..list.len() {
        assert!(check(&list[..len]).is_err());
        exercise(&list[..len]);
    }
    for at in 0..list.len() {
        let mut changed = list.clone();
        for byte in 0..=u8::MAX {
            changed[at] = byte;
            if let Ok(view) = check(&changed) {
                assert_eq!(view.iter().count(), view.len());
                assert_eq!(view.len(), original.len());
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
        let framed = by_hand(10, u16::MAX, &bytes);
        let _ = check(&framed);
        exercise(&framed);
    }
}
