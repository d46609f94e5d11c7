use proptest::prelude::*;

use super::*;

/// A listpack with these elements, each added at the end.
fn packed(elements: &[&[u8]]) -> Vec<u8> {
    let mut list = new();
    for element in elements {
        push_back(&mut list, Item::Bytes(element)).unwrap();
    }
    list
}

fn texts(view: View<'_>) -> Vec<Vec<u8>> {
    view.iter().map(Item::to_vec).collect()
}

/// A listpack written by hand: `entries` between header and end.
fn by_hand(elements: u16, entries: &[u8]) -> Vec<u8> {
    let mut list = u32::try_from(entries.len() + 7).unwrap().to_le_bytes().to_vec();
    list.extend_from_slice(&elements.to_le_bytes());
    list.extend_from_slice(entries);
    list.push(0xFF);
    list
}

fn reason_of(bytes: &[u8]) -> (usize, Reason) {
    let damage = check(bytes).unwrap_err();
    assert_eq!(damage.format, Format::Listpack);
    (damage.at, damage.reason)
}

/// Every way to read gives the elements of the model.
fn assert_holds(list: &[u8], model: &[Vec<u8>]) {
    let view = check(list).unwrap();
    let elements = u16::from_le_bytes([list[4], list[5]]);
    if elements != u16::MAX {
        assert_eq!(usize::from(elements), model.len());
    }
    assert_eq!(view.len(), model.len());
    assert_eq!(view.is_empty(), model.is_empty());
    assert_eq!(view.total_bytes(), list.len());
    assert_eq!(view.bytes(), list);
    assert_eq!(texts(view), model);
    let backward: Vec<_> = view.iter().rev().map(Item::to_vec).collect();
    assert!(backward.iter().eq(model.iter().rev()));

    let places: Vec<At> = view.entries().map(|(at, _)| at).collect();
    assert_eq!(view.first(), places.first().copied());
    assert_eq!(view.last(), places.last().copied());
    for (index, (at, text)) in places.iter().zip(model).enumerate() {
        assert_eq!(view.next(*at), places.get(index + 1).copied());
        assert_eq!(view.previous(*at), index.checked_sub(1).map(|former| places[former]));
        assert_eq!(view.at(*at).unwrap().to_vec(), *text);
        assert_eq!(view.at(*at).unwrap().len_as_bytes(), text.len());
        assert!(view.at(*at).unwrap().is(text));
        let index = isize::try_from(index).unwrap();
        let len = isize::try_from(model.len()).unwrap();
        assert_eq!(view.seek(index), Some(*at));
        assert_eq!(view.seek(index - len), Some(*at));
        assert_eq!(view.get(index).unwrap().to_vec(), *text);
        for skip in [0, 1, 2] {
            let place = model.iter().step_by(skip + 1).position(|element| element == text);
            assert_eq!(view.find(text, skip), place.map(|place| places[place * (skip + 1)]));
        }
        assert_eq!(view.find_from(*at, text, 0), Some(*at));
        assert_eq!(view.entries_from(*at).next().unwrap().0, *at);
    }
    let len = isize::try_from(model.len()).unwrap();
    for index in [len, len + 1, -len - 1, isize::MAX, isize::MIN] {
        assert_eq!(view.seek(index), None);
    }
    assert_eq!(view.find(b"no element is this", 0), None);
    assert_eq!(view.at(At(list.len() - 1)), None);
}

/// Reads and edits bytes in every way, at every place. Only a panic is a failure.
fn exercise(bytes: &[u8]) {
    let view = View::trusted(bytes);
    let _ = (view.len(), view.is_empty(), view.iter().count(), view.iter().rev().count());
    let mut entries = view.entries();
    while entries.next().is_some() && entries.next_back().is_some() {}
    for searched in [&b""[..], b"7", b"-5000", b"ab", b"field"] {
        for skip in [0, 1, 5] {
            let _ = view.find(searched, skip);
        }
    }
    for index in -6..6 {
        let _ = view.get(index);
        let mut list = bytes.to_vec();
        remove_range(&mut list, index, 2);
        let mut list = bytes.to_vec();
        let _ = split_off(&mut list, index.unsigned_abs());
    }
    for at in (0..bytes.len() + 2).chain([usize::MAX]).map(At) {
        let _ = (view.at(at), view.next(at), view.previous(at), view.find_from(at, b"ab", 1));
        let _ = view.entries_from(at).count();
        let edit = |edit: &dyn Fn(&mut Vec<u8>)| edit(&mut bytes.to_vec());
        edit(&|list| insert_before(list, at, Item::Bytes(b"new")).map(drop).unwrap());
        edit(&|list| insert_after(list, at, Item::Int(-1)).map(drop).unwrap());
        edit(&|list| replace(list, at, Item::Bytes(b"longer than before")).unwrap());
        edit(&|list| replace(list, at, Item::Int(0)).unwrap());
        edit(&|list| {
            remove(list, at, 2);
        });
    }
    let mut list = bytes.to_vec();
    push_back(&mut list, Item::Int(1 << 40)).unwrap();
    push_front(&mut list, Item::Bytes(b"front")).unwrap();
    append(&mut list, view).unwrap();
    recount(&mut list);
}

const EVERY_ENCODING: [&[u8]; 10] =
    [b"7", b"ab", b"-5", b"-5000", b"100000", b"-10000000", b"9223372036854775807", b"", b"127", b"128"];

#[test]
fn an_empty_listpack_is_header_and_end() {
    assert_eq!(new(), [7, 0, 0, 0, 0, 0, 0xFF]);
    assert_holds(&new(), &[]);
    let mut list = packed(&[b"a", b"b"]);
    clear_into(&mut list);
    assert_eq!(list, new());
}

#[test]
fn each_encoding_has_the_bytes_of_the_format() {
    fn check_entry(text: &[u8], entry: &[u8]) {
        let list = packed(&[text]);
        assert_eq!(list, by_hand(1, entry), "{text:?}");
        assert_eq!(encoded_len(Item::Bytes(text)), entry.len());
        assert_holds(&list, &[text.to_vec()]);
    }
    fn with_bytes(head: &[u8], text: &[u8], backlen: &[u8]) {
        check_entry(text, &[head, text, backlen].concat());
    }
    check_entry(b"0", &[0x00, 1]);
    check_entry(b"127", &[0x7F, 1]);
    check_entry(b"128", &[0xC0, 0x80, 2]);
    check_entry(b"4095", &[0xCF, 0xFF, 2]);
    check_entry(b"-1", &[0xDF, 0xFF, 2]);
    check_entry(b"-4096", &[0xD0, 0x00, 2]);
    check_entry(b"4096", &[0xF1, 0x00, 0x10, 3]);
    check_entry(b"-4097", &[0xF1, 0xFF, 0xEF, 3]);
    check_entry(b"32767", &[0xF1, 0xFF, 0x7F, 3]);
    check_entry(b"-32768", &[0xF1, 0x00, 0x80, 3]);
    check_entry(b"32768", &[0xF2, 0x00, 0x80, 0x00, 4]);
    check_entry(b"-32769", &[0xF2, 0xFF, 0x7F, 0xFF, 4]);
    check_entry(b"8388607", &[0xF2, 0xFF, 0xFF, 0x7F, 4]);
    check_entry(b"-8388608", &[0xF2, 0x00, 0x00, 0x80, 4]);
    check_entry(b"8388608", &[0xF3, 0x00, 0x00, 0x80, 0x00, 5]);
    check_entry(b"-8388609", &[0xF3, 0xFF, 0xFF, 0x7F, 0xFF, 5]);
    check_entry(b"2147483647", &[0xF3, 0xFF, 0xFF, 0xFF, 0x7F, 5]);
    check_entry(b"-2147483648", &[0xF3, 0x00, 0x00, 0x00, 0x80, 5]);
    check_entry(b"2147483648", &[0xF4, 0, 0, 0, 0x80, 0, 0, 0, 0, 9]);
    check_entry(b"9223372036854775807", &[0xF4, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 9]);
    check_entry(b"-9223372036854775808", &[0xF4, 0, 0, 0, 0, 0, 0, 0, 0x80, 9]);
    check_entry(b"", &[0x80, 1]);
    check_entry(b"hello", b"\x85hello\x06");
    with_bytes(&[0xBF], &[b'x'; 63], &[64]);
    with_bytes(&[0xE0, 64], &[b'x'; 64], &[66]);
    with_bytes(&[0xE0, 125], &[b'x'; 125], &[127]);
    with_bytes(&[0xE0, 126], &[b'x'; 126], &[0x01, 0x80]);
    with_bytes(&[0xEF, 0xFF], &[b'x'; 4095], &[0x20, 0x81]);
    with_bytes(&[0xF0, 0x00, 0x10, 0, 0], &[b'x'; 4096], &[0x20, 0x85]);
}

#[test]
fn redis_writes_the_same_bytes() {
    // DUMP of a hash and of a sorted set by Redis 7.0.15.
    let long = [b'x'; 60];
    let hash: [&[u8]; 16] = [
        b"a",
        b"7",
        b"bb",
        b"-5",
        b"field",
        b"-5000",
        b"n",
        b"100000",
        b"m",
        b"-10000000",
        b"big",
        b"9223372036854775807",
        b"empty",
        b"",
        b"long",
        &long,
    ];
    let dump = [
        &b"\x8b\0\0\0\x10\0\x81a\x02\x07\x01\x82bb\x03\xdf\xfb\x02\x85field\x06\xf1\x78\xec\x03\x81n\x02\xf2\xa0\x86\x01\x04"[..],
        b"\x81m\x02\xf3\x80\x69\x67\xff\x05\x83big\x04\xf4\xff\xff\xff\xff\xff\xff\xff\x7f\x09\x85empty\x06\x80\x01\x84long\x05\xbc",
        &long,
        b"\x3d\xff",
    ];
    assert_eq!(packed(&hash), dump.concat());
    let sorted_set = packed(&[b"a", b"1.5", b"b", b"2", b"c", b"3000000000"]);
    let dump =
        b"\x21\0\0\0\x06\0\x81a\x02\x831.5\x04\x81b\x02\x02\x01\x81c\x02\xf4\x00\x5e\xd0\xb2\0\0\0\0\x09\xff";
    assert_eq!(sorted_set, dump);
}

#[test]
fn the_backlen_grows_one_below_the_largest_number_that_fits() {
    fn check_backlen(content_len: usize, backlen: &[u8]) {
        // 5 bytes of the content are the encoding.
        let text = vec![b'x'; content_len - 5];
        let list = packed(&[&text, b"next"]);
        assert!(list.ends_with(&[b"x", backlen, b"\x84next\x05\xFF"].concat()), "{content_len}");
        assert_holds(&list, &[text, b"next".to_vec()]);
    }
    check_backlen(16_382, &[0x7F, 0xFE]);
    check_backlen(16_383, &[0x00, 0xFF, 0xFF]);
    check_backlen(16_384, &[0x01, 0x80, 0x80]);
    check_backlen(2_097_150, &[0x7F, 0xFF, 0xFE]);
    check_backlen(2_097_151, &[0x00, 0xFF, 0xFF, 0xFF]);
    assert_eq!(entry::backlen_of(268_435_454), ([0x7F, 0xFF, 0xFF, 0xFE, 0], 4));
    assert_eq!(entry::backlen_of(268_435_455), ([0x00, 0xFF, 0xFF, 0xFF, 0xFF], 5));
}

#[test]
fn only_canonical_decimal_text_is_an_integer() {
    fn check_text(text: &str, expected: Option<i64>) {
        assert_eq!(integer(text.as_bytes()), expected, "{text:?}");
        assert_eq!(matches!(Item::from_bytes(text.as_bytes()), Item::Int(_)), expected.is_some());
        assert_eq!(Item::from_bytes(text.as_bytes()).to_vec(), text.as_bytes());
        assert_eq!(Item::from_bytes(text.as_bytes()).len_as_bytes(), text.len());
    }
    for value in [0, 1, -1, 9, 10, -10, 99, 100, 4095, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1] {
        check_text(&value.to_string(), Some(value));
    }
    for text in
        ["", "-", "+1", "-0", "00", "01", "-01", " 1", "1 ", "1a", "0x1", "1.0", "--1", "1-", "/", ":"]
    {
        check_text(text, None);
    }
    for text in ["9223372036854775808", "-9223372036854775809", "9999999999999999999", "18446744073709551617"]
    {
        check_text(text, None);
    }
}

#[test]
fn an_integer_equals_its_text() {
    assert_eq!(Item::Int(-12), Item::Bytes(b"-12"));
    assert_eq!(Item::Bytes(b"-12"), Item::Int(-12));
    assert_ne!(Item::Int(12), Item::Bytes(b"012"));
    assert_ne!(Item::Bytes(b"a"), Item::Bytes(b"b"));
    assert!(Item::Int(12).is(b"12"));
    assert!(!Item::Int(12).is(b"012"));
}

#[test]
fn text_of_an_integer_that_another_program_wrote_as_bytes_is_found() {
    let list = by_hand(3, b"\x81a\x02\x8212\x03\xE0\x0213\x04");
    let view = check(&list).unwrap();
    assert_eq!(view.find(b"12", 0), Some(At(9)));
    assert_eq!(view.find(b"13", 0), Some(At(13)));
    let list = by_hand(1, &[0xF4, 5, 0, 0, 0, 0, 0, 0, 0, 9]);
    assert_eq!(check(&list).unwrap().find(b"5", 0), Some(At(6)));
}

#[test]
fn find_with_skip_looks_at_fields_only() {
    let list = packed(&[b"a", b"b", b"b", b"1", b"1", b"a"]);
    let view = View::trusted(&list);
    let index = |at: Option<At>| at.map(|at| view.entries().position(|(place, _)| place == at).unwrap());
    assert_eq!(index(view.find(b"b", 1)), Some(2));
    assert_eq!(index(view.find(b"1", 1)), Some(4));
    assert_eq!(index(view.find(b"1", 0)), Some(3));
    assert_eq!(index(view.find(b"a", 1)), Some(0));
    assert_eq!(index(view.find(b"c", 1)), None);
    // More are skipped than there are.
    assert_eq!(view.find(b"a", 5), view.first());
    assert_eq!(view.find(b"b", 6), None);
}

#[test]
fn iteration_from_both_ends_meets_in_the_middle() {
    let list = packed(&[b"a", b"2", b"c", b"4"]);
    let mut iter = View::trusted(&list).into_iter();
    assert!(iter.next().unwrap().is(b"a"));
    assert!(iter.next_back().unwrap().is(b"4"));
    assert!(iter.next_back().unwrap().is(b"c"));
    assert!(iter.next().unwrap().is(b"2"));
    assert_eq!(iter.next(), None);
    assert_eq!(iter.next_back(), None);
}

#[test]
fn removal_returns_the_place_of_what_follows() {
    let mut list = packed(&[b"a", b"1000", b"c", b"d"]);
    let second = View::trusted(&list).seek(1).unwrap();
    assert_eq!(remove(&mut list, second, 2), Some(second));
    assert!(View::trusted(&list).at(second).unwrap().is(b"d"));
    assert_eq!(remove(&mut list, second, 2), None);
    assert_holds(&list, &[b"a".to_vec()]);
    assert_eq!(remove(&mut list, second, 1), None);
    assert_holds(&list, &[b"a".to_vec()]);
}

#[test]
fn no_bytes_count_as_an_empty_listpack_in_edits() {
    let mut list = Vec::new();
    push_back(&mut list, Item::Bytes(b"a")).unwrap();
    assert_holds(&list, &[b"a".to_vec()]);
    let mut list = vec![1, 2, 3];
    insert_before(&mut list, At(6), Item::Bytes(b"a")).unwrap();
    assert_holds(&list, &[b"a".to_vec()]);
    for len in 0..7 {
        exercise(&vec![0; len]);
        exercise(&vec![0xFF; len]);
    }
}

#[test]
fn a_number_of_elements_that_does_not_fit_is_unknown_until_counted() {
    let header = |list: &[u8]| u16::from_le_bytes([list[4], list[5]]);
    let mut list = new();
    for index in 0..65_534_i64 {
        push_back(&mut list, Item::Int(index % 100)).unwrap();
    }
    assert_eq!(header(&list), 65_534);
    let full = list.clone();
    push_back(&mut list, Item::Int(1)).unwrap();
    assert_eq!(header(&list), u16::MAX);
    assert_eq!(View::trusted(&list).len(), 65_535);
    push_front(&mut list, Item::Int(1)).unwrap();
    assert_eq!(check(&list).unwrap().len(), 65_536);
    assert!(View::trusted(&list).get(65_535).unwrap().is(b"1"));
    assert!(View::trusted(&list).get(-65_536).unwrap().is(b"1"));
    assert_eq!(View::trusted(&list).get(65_536), None);
    assert_eq!(View::trusted(&list).get(-65_537), None);

    assert_eq!(remove_range(&mut list, 0, 10), 10);
    assert_eq!(header(&list), u16::MAX);
    assert_eq!(recount(&mut list), 65_526);
    assert_eq!(header(&list), 65_526);
    check(&list).unwrap();

    let mut list = full.clone();
    append(&mut list, View::trusted(&packed(&[b"x"]))).unwrap();
    assert_eq!((header(&list), check(&list).unwrap().len()), (u16::MAX, 65_535));
    let tail = split_off(&mut list, 65_533);
    assert_eq!((header(&list), header(&tail)), (65_533, 2));
    check(&list).unwrap();
    check(&tail).unwrap();

    let mut list = full.clone();
    append(&mut list, View::trusted(&full)).unwrap();
    let tail = split_off(&mut list, 65_535);
    assert_eq!((header(&list), header(&tail)), (u16::MAX, 65_533));
    check(&list).unwrap();
    check(&tail).unwrap();
}

#[test]
fn an_edit_beyond_the_largest_size_changes_nothing() {
    // Zeroed memory that nothing is written to takes no pages. It is not whole, but edits look at its size only.
    let mut list = vec![0; TOTAL_BYTES_MAX];
    let refused = |added: usize| TooLarge { total_bytes: TOTAL_BYTES_MAX + added };
    assert_eq!(push_back(&mut list, Item::Int(1)), Err(refused(2)));
    assert_eq!(push_front(&mut list, Item::Bytes(b"ab")), Err(refused(4)));
    assert_eq!(insert_before(&mut list, At(6), Item::Int(1)), Err(refused(2)));
    assert_eq!(insert_after(&mut list, At(6), Item::Int(1)), Err(refused(2)));
    assert_eq!(replace(&mut list, At(6), Item::Bytes(b"ab")), Err(refused(2)));
    assert_eq!(append(&mut list, View::trusted(&packed(&[b"ab"]))), Err(refused(4)));
    assert_eq!((list.len(), list.capacity()), (TOTAL_BYTES_MAX, TOTAL_BYTES_MAX));
    assert!(list[..4096].iter().all(|byte| *byte == 0));
    assert_eq!(
        refused(2).to_string(),
        "listpack would have 1073741826 bytes, more than the 1073741824 allowed"
    );
    // What makes it no longer is never refused.
    list.push(0);
    assert_eq!(replace(&mut list, At(6), Item::Int(1)), Ok(()));
    assert_eq!(list[6..8], [1, 1]);
}

#[test]
fn memory_grows_by_size_classes() {
    let mut list = new();
    let mut allocations = 0;
    let mut capacity = list.capacity();
    while list.len() < 8192 {
        push_back(&mut list, Item::Bytes(b"an element")).unwrap();
        if list.capacity() != capacity {
            capacity = list.capacity();
            allocations += 1;
            assert!(capacity <= (list.len() + 16) * 5 / 4, "{capacity} for {}", list.len());
        }
    }
    assert!(allocations < 40, "{allocations}");
}

#[test]
fn damage_is_named_with_its_place() {
    assert_eq!(reason_of(&[]), (0, Reason::TooShort));
    assert_eq!(reason_of(&[6, 0, 0, 0, 0, 0]), (6, Reason::TooShort));
    assert_eq!(reason_of(&[8, 0, 0, 0, 0, 0, 0xFF]), (0, Reason::Length));
    assert_eq!(reason_of(&[7, 0, 0, 0, 0, 0, 0xFE]), (6, Reason::End));
    assert_eq!(reason_of(&by_hand(2, b"\x81a\x02")), (4, Reason::Count));
    assert_eq!(reason_of(&by_hand(2, b"\x81a\x02\x81b\x03")), (9, Reason::BackwardLength));
    // A backlen that is longer than necessary.
    assert_eq!(reason_of(&by_hand(1, b"\x81a\x00\x82")), (6, Reason::BackwardLength));
    assert_eq!(reason_of(&by_hand(1, b"\x83a\x02")), (6, Reason::PastEnd));
    assert_eq!(reason_of(&by_hand(1, b"\x82ab")), (6, Reason::PastEnd));
    assert_eq!(reason_of(&by_hand(1, &[0xF4, 0, 0])), (6, Reason::PastEnd));
    assert_eq!(reason_of(&by_hand(1, &[0xE0])), (6, Reason::PastEnd));
    assert_eq!(reason_of(&by_hand(1, &[0xF0, 0, 0])), (6, Reason::PastEnd));
    assert_eq!(reason_of(&by_hand(1, &[0xF0, 0xFF, 0xFF, 0xFF, 0xFF, 1])), (6, Reason::PastEnd));
    assert_eq!(reason_of(&by_hand(2, &[0x01, 1, 0xF5, 1])), (8, Reason::Encoding));
    assert_eq!(reason_of(&by_hand(1, &[0xFF, 1])), (6, Reason::Encoding));
    let text = |bytes: &[u8]| check(bytes).unwrap_err().to_string();
    assert_eq!(text(&[1, 2]), "listpack of 2 bytes is too short");
    assert_eq!(text(&by_hand(1, b"\x83a\x02")), "entry at byte 6 extends past the end of the listpack");
}

#[test]
fn every_truncation_is_refused_and_read_without_a_panic() {
    let list = packed(&EVERY_ENCODING);
    check(&list).unwrap();
    for len in 0..list.len() {
        assert!(check(&list[..len]).is_err(), "{len}");
        exercise(&list[..len]);
        // The same with a header and an end that agree.
        let mut cut = list[..len].to_vec();
        if len >= 7 {
            cut[..4].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
            cut[len - 1] = 0xFF;
            let _ = check(&cut);
            exercise(&cut);
        }
    }
}

#[test]
fn every_changed_byte_is_refused_or_read_without_a_panic() {
    let long = vec![b'x'; 70];
    for list in [packed(&EVERY_ENCODING), packed(&[b"f", b"1", &long, b"2"])] {
        for at in 0..list.len() {
            let mut changed = list.clone();
            for byte in 0..=u8::MAX {
                changed[at] = byte;
                if let Ok(view) = check(&changed) {
                    // What is accepted is whole: both directions agree, and the number of elements.
                    let forward = texts(view);
                    let mut backward: Vec<_> = view.iter().rev().map(Item::to_vec).collect();
                    backward.reverse();
                    assert_eq!(forward, backward);
                    assert_eq!(forward.len(), view.len());
                    assert_holds(&changed, &forward);
                }
                if byte % 16 == 0 || byte >= 0xF0 {
                    exercise(&changed);
                }
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Edit {
    PushBack(Vec<u8>),
    PushFront(Vec<u8>),
    InsertBefore(usize, Vec<u8>),
    InsertAfter(usize, Vec<u8>),
    Replace(usize, Vec<u8>),
    Remove(usize, usize),
    RemoveRange(isize, usize),
    Append(Vec<Vec<u8>>),
    SplitOff(usize, bool),
    Clear,
}

fn element() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0..5_i64).prop_map(|value| value.to_string().into_bytes()),
        4 => (any::<i64>(), 0..64_u32).prop_map(|(value, shift)| (value >> shift).to_string().into_bytes()),
        4 => prop::collection::vec(any::<u8>(), 0..6),
        2 => prop::collection::vec(prop::sample::select(&b"0123456789-+"[..]), 0..22),
        2 => (60..68_usize).prop_map(|len| vec![b'm'; len]),
        1 => (120..132_usize).prop_map(|len| vec![b'b'; len]),
        1 => (4090..4100_usize).prop_map(|len| vec![b'l'; len]),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        6 => element().prop_map(Edit::PushBack),
        6 => element().prop_map(Edit::PushFront),
        4 => (any::<usize>(), element()).prop_map(|(place, text)| Edit::InsertBefore(place, text)),
        4 => (any::<usize>(), element()).prop_map(|(place, text)| Edit::InsertAfter(place, text)),
        6 => (any::<usize>(), element()).prop_map(|(place, text)| Edit::Replace(place, text)),
        4 => (any::<usize>(), 0..4_usize).prop_map(|(place, count)| Edit::Remove(place, count)),
        2 => (-12..12_isize, 0..5_usize).prop_map(|(index, count)| Edit::RemoveRange(index, count)),
        2 => prop::collection::vec(element(), 0..5).prop_map(Edit::Append),
        2 => (0..20_usize, any::<bool>()).prop_map(|(index, tail)| Edit::SplitOff(index, tail)),
        1 => Just(Edit::Clear),
    ]
}

/// Makes one change of the listpack and of the model.
fn make(edit: Edit, list: &mut Vec<u8>, model: &mut Vec<Vec<u8>>) {
    let at = |place: usize, list: &[u8], model: &[Vec<u8>]| {
        let index = place.checked_rem(model.len())?;
        Some((index, View::trusted(list).seek(index.try_into().unwrap()).unwrap()))
    };
    match edit {
        Edit::PushBack(text) => {
            let len = list.len() + encoded_len(Item::Bytes(&text));
            push_back(list, Item::Bytes(&text)).unwrap();
            assert_eq!(list.len(), len);
            model.push(text);
        }
        Edit::PushFront(text) => {
            push_front(list, Item::from_bytes(&text)).unwrap();
            model.insert(0, text);
        }
        Edit::InsertBefore(place, text) => {
            let Some((index, at)) = at(place, list, model) else { return };
            assert_eq!(insert_before(list, at, Item::Bytes(&text)), Ok(at));
            model.insert(index, text);
        }
        Edit::InsertAfter(place, text) => {
            let Some((index, at)) = at(place, list, model) else { return };
            let new_at = insert_after(list, at, Item::from_bytes(&text)).unwrap();
            assert!(View::trusted(list).at(new_at).unwrap().is(&text));
            model.insert(index + 1, text);
        }
        Edit::Replace(place, text) => {
            let Some((index, at)) = at(place, list, model) else { return };
            replace(list, at, Item::Bytes(&text)).unwrap();
            model[index] = text;
        }
        Edit::Remove(place, count) => {
            let Some((index, at)) = at(place, list, model) else { return };
            let next = remove(list, at, count);
            model.drain(index..(index + count).min(model.len()));
            assert_eq!(next.is_some(), index < model.len());
        }
        Edit::RemoveRange(index, count) => {
            let len = isize::try_from(model.len()).unwrap();
            let start = if index < 0 { index + len } else { index };
            let removed = remove_range(list, index, count);
            let expected = match usize::try_from(start).ok().filter(|start| *start < model.len()) {
                Some(start) => model.drain(start..(start + count).min(model.len())).count(),
                None => 0,
            };
            assert_eq!(removed, expected);
        }
        Edit::Append(texts) => {
            let slices: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            append(list, View::trusted(&packed(&slices))).unwrap();
            model.extend(texts);
        }
        Edit::SplitOff(index, keep_tail) => {
            let tail = split_off(list, index);
            let model_tail = model.split_off(index.min(model.len()));
            assert_holds(&tail, &model_tail);
            if keep_tail {
                (*list, *model) = (tail, model_tail);
            }
        }
        Edit::Clear => {
            clear_into(list);
            model.clear();
        }
    }
}

proptest! {
    #[test]
    fn edits_agree_with_a_vector_of_texts(edits in prop::collection::vec(edit(), 0..40)) {
        let (mut list, mut model) = (new(), Vec::new());
        for edit in edits {
            make(edit, &mut list, &mut model);
            assert_holds(&list, &model);
            // The bytes depend on the elements only, not on how they came there.
            let slices: Vec<&[u8]> = model.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(&list, &packed(&slices));
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = check(&bytes);
        exercise(&bytes);
        let framed = by_hand(u16::MAX, &bytes);
        let _ = check(&framed);
        exercise(&framed);
    }

    #[test]
    fn an_integer_is_what_its_text_says(value in any::<i64>(), shift in 0..64_u32) {
        let value = value >> shift;
        prop_assert_eq!(integer(value.to_string().as_bytes()), Some(value));
        let text = value.to_string();
        let list = packed(&[text.as_bytes()]);
        let is_same_int = matches!(View::trusted(&list).get(0), Some(Item::Int(read)) if read == value);
        prop_assert!(is_same_int);
    }
}
