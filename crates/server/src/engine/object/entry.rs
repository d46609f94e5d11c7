//! One key with everything that belongs to it, in one allocation.

use std::alloc::{alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use holdfast_collections::types::{HashRef, ListRef, SetRef, SortedSetRef};
use holdfast_collections::{intset, listpack, pairs};

use super::{Blob, Collection as _, Kind, Large, class_size, layout};
use crate::engine::value::{StringRef, Value, ValueRef};

/// Most bytes that lie in the entry; longer strings and packed collections are blobs. Long enough for most values, short enough to be
/// copied for a snapshot without being felt.
const INLINE_LEN_MAX: usize = 1024;

const HEADER_LEN: usize = 4;
const EXPIRY_LEN: usize = 8;
/// Length of an integer, and of the address of a blob or a large collection.
const WORD_LEN: usize = 8;

const KIND: u32 = 0b1111;
const ENCODING: u32 = 0b11 << 4;
const ENCODING_INT: u32 = 0;
const ENCODING_INLINE: u32 = 1 << 4;
const ENCODING_BLOB: u32 = 2 << 4;
const ENCODING_LARGE: u32 = 3 << 4;
const HAS_EXPIRY: u32 = 1 << 6;
/// Of a string: it was built by changes in place, which OBJECT ENCODING shows. Of a packed set: it is a listpack.
const VARIANT: u32 = 1 << 7;
const ACCESSED_SHIFT: u32 = 8;

/// First byte of a length that takes three bytes, and of one that takes five.
const LEN_16: u8 = 254;
const LEN_32: u8 = 255;

/// A key with its value, expiry and access time. See [`super`] for the layout.
pub(crate) struct Entry(NonNull<u8>);

// SAFETY: an entry owns its allocation, and the blob or collection in it may be sent.
unsafe impl Send for Entry {}

/// What the bytes of a packed collection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packed {
    List,
    /// A set that is an intset.
    Ints,
    /// A set that is a listpack.
    Set,
    SortedSet,
    Hash,
}

impl Packed {
    fn header(self) -> u32 {
        let (kind, variant) = match self {
            Packed::List => (Kind::List, 0),
            Packed::Ints => (Kind::Set, 0),
            Packed::Set => (Kind::Set, VARIANT),
            Packed::SortedSet => (Kind::SortedSet, 0),
            Packed::Hash => (Kind::Hash, 0),
        };
        kind as u32 | variant
    }

    /// The value that has these bytes.
    pub(crate) fn view(self, bytes: &[u8]) -> ValueRef<'_> {
        let list = listpack::View::trusted;
        match self {
            Packed::List => ValueRef::List(ListRef::Packed(list(bytes))),
            Packed::Ints => ValueRef::Set(SetRef::Ints(intset::View::trusted(bytes))),
            Packed::Set => ValueRef::Set(SetRef::Packed(list(bytes))),
            Packed::SortedSet => ValueRef::SortedSet(SortedSetRef::Packed(list(bytes))),
            Packed::Hash => ValueRef::Hash(HashRef::Packed(pairs::View::trusted(bytes))),
        }
    }
}

/// A value for an entry.
#[derive(Debug)]
pub(crate) enum NewValue<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    Blob(Blob),
    Packed(Packed, &'a [u8]),
    PackedBlob(Packed, Blob),
    Large(Box<Large>),
}

/// What an entry held, and whoever has time may free.
#[derive(Debug)]
pub(crate) enum Discarded {
    Blob(Blob),
    Large(Box<Large>),
}

impl<'a> NewValue<'a> {
    /// The value that holds these bytes: an integer if they are the canonical form of one.
    pub(crate) fn from_bytes(bytes: &'a [u8]) -> NewValue<'a> {
        // Nearly all strings begin with something else than a digit, or are too long.
        match bytes {
            [b'0'..=b'9' | b'-', ..] if bytes.len() <= 20 => match crate::protocol::parse_i64(bytes) {
                Some(number) => NewValue::Int(number),
                None => NewValue::Bytes(bytes),
            },
            _ => NewValue::Bytes(bytes),
        }
    }

    /// The bits of the header that tell what the value is.
    fn header(&self) -> u32 {
        let of_bytes =
            |bytes: &[u8]| if bytes.len() <= INLINE_LEN_MAX { ENCODING_INLINE } else { ENCODING_BLOB };
        match self {
            NewValue::Int(_) => ENCODING_INT,
            NewValue::Bytes(bytes) => of_bytes(bytes),
            NewValue::Blob(_) => ENCODING_BLOB,
            NewValue::Packed(packed, bytes) => packed.header() | of_bytes(bytes),
            NewValue::PackedBlob(packed, _) => packed.header() | ENCODING_BLOB,
            NewValue::Large(large) => large.kind() as u32 | ENCODING_LARGE,
        }
    }

    fn stored_len(&self) -> usize {
        match self {
            NewValue::Bytes(bytes) | NewValue::Packed(_, bytes) if bytes.len() <= INLINE_LEN_MAX => {
                len_len(bytes.len()) + bytes.len()
            }
            _ => WORD_LEN,
        }
    }
}

impl<'a> From<&'a Value> for NewValue<'a> {
    fn from(value: &'a Value) -> NewValue<'a> {
        let large = |large| NewValue::Large(Box::new(large));
        match value {
            Value::Int(number) => NewValue::Int(*number),
            Value::Bytes(bytes) => NewValue::Bytes(bytes),
            Value::List(list) => match list.as_packed() {
                Some((packed, bytes)) => NewValue::Packed(packed, bytes),
                None => large(Large::List(list.clone())),
            },
            Value::Set(set) => match set.as_packed() {
                Some((packed, bytes)) => NewValue::Packed(packed, bytes),
                None => large(Large::Set(set.clone())),
            },
            Value::SortedSet(set) => match set.as_packed() {
                Some((packed, bytes)) => NewValue::Packed(packed, bytes),
                None => large(Large::SortedSet(set.clone())),
            },
            Value::Hash(hash) => match hash.as_packed() {
                Some((packed, bytes)) => NewValue::Packed(packed, bytes),
                None => large(Large::Hash(hash.clone())),
            },
        }
    }
}

/// Bytes that a length takes.
const fn len_len(len: usize) -> usize {
    match len {
        0..254 => 1,
        254..65_536 => 3,
        _ => 5,
    }
}

/// Where the parts of an entry are, in bytes from its start.
#[derive(Clone, Copy)]
struct Parts {
    key: usize,
    key_len: usize,
    value: usize,
}

/// Writes the parts of an entry one behind the other.
///
/// Invariant: the caller has allocated as many bytes as it writes.
struct Cursor(NonNull<u8>);

impl Cursor {
    /// # Safety
    /// The allocation has room for the bytes behind what was written before.
    unsafe fn put(&mut self, bytes: &[u8]) {
        // SAFETY: there is room, says the caller; the bytes lie elsewhere.
        unsafe {
            self.0.copy_from_nonoverlapping(NonNull::new_unchecked(bytes.as_ptr().cast_mut()), bytes.len());
            self.0 = self.0.add(bytes.len());
        }
    }

    /// # Safety
    /// As [`Cursor::put`], for [`len_len`] bytes.
    unsafe fn put_len(&mut self, len: usize) {
        let short = u8::try_from(len).ok().filter(|&short| short < LEN_16);
        // SAFETY: there is room, says the caller.
        unsafe {
            if let Some(short) = short {
                self.put(&[short]);
            } else if let Ok(medium) = u16::try_from(len) {
                self.put(&[LEN_16]);
                self.put(&medium.to_le_bytes());
            } else {
                let long = u32::try_from(len).expect("keys are no longer than `KEY_LEN_MAX`");
                self.put(&[LEN_32]);
                self.put(&long.to_le_bytes());
            }
        }
    }

    /// # Safety
    /// As [`Cursor::put`], for the stored length of the value.
    unsafe fn put_value(&mut self, value: NewValue<'_>) {
        // SAFETY: there is room, says the caller.
        unsafe {
            match value {
                NewValue::Int(number) => self.put(&number.to_le_bytes()),
                NewValue::Bytes(bytes) | NewValue::Packed(_, bytes) if bytes.len() <= INLINE_LEN_MAX => {
                    self.put_len(bytes.len());
                    self.put(bytes);
                }
                NewValue::Bytes(bytes) | NewValue::Packed(_, bytes) => {
                    self.put(&Blob::new(bytes).into_address().to_le_bytes());
                }
                NewValue::Blob(blob) | NewValue::PackedBlob(_, blob) => {
                    self.put(&blob.into_address().to_le_bytes());
                }
                NewValue::Large(large) => {
                    self.put(&Box::into_raw(large).expose_provenance().to_le_bytes());
                }
            }
        }
    }
}

impl Entry {
    /// A new entry. `accessed` has 24 bits; upper ones are dropped.
    ///
    /// # Panics
    /// If the key is longer than [`KEY_LEN_MAX`](crate::limits::KEY_LEN_MAX): commands and loading refuse it before.
    pub(crate) fn new(key: &[u8], value: NewValue<'_>, expires_at_ms: Option<i64>, accessed: u32) -> Entry {
        let len = HEADER_LEN
            + if expires_at_ms.is_some() { EXPIRY_LEN } else { 0 }
            + len_len(key.len())
            + key.len()
            + value.stored_len();
        let block = allocate(len);
        let header = value.header()
            | if expires_at_ms.is_some() { HAS_EXPIRY } else { 0 }
            | accessed << ACCESSED_SHIFT;
        let mut cursor = Cursor(block);
        // SAFETY: the parts have `len` bytes together.
        unsafe {
            cursor.put(&header.to_le_bytes());
            if let Some(at) = expires_at_ms {
                cursor.put(&at.to_le_bytes());
            }
            cursor.put_len(key.len());
            cursor.put(key);
            cursor.put_value(value);
        }
        Entry(block)
    }

    /// Hands the ownership over as an address, which has 48 bits at most: user space ends there on all platforms that
    /// Linux runs on, unless a program asks for more.
    pub(crate) fn into_address(self) -> u64 {
        let entry = ManuallyDrop::new(self);
        let address = entry.0.as_ptr().expose_provenance() as u64;
        assert!(address < 1 << 48, "addresses have 48 bits");
        address
    }

    /// Takes the ownership back.
    ///
    /// # Safety
    /// The address is from [`Entry::into_address`], and at most one entry made from it is dropped or changed.
    pub(crate) unsafe fn from_address(address: u64) -> Entry {
        let address = usize::try_from(address).expect("addresses fit");
        // SAFETY: the address of an allocation is not zero.
        Entry(unsafe { NonNull::new_unchecked(std::ptr::with_exposed_provenance_mut(address)) })
    }

    pub(crate) fn view(&self) -> EntryView<'_> {
        EntryView { start: self.0, owner: PhantomData }
    }

    fn header(&self) -> u32 {
        self.view().header()
    }

    fn set_header(&mut self, header: u32) {
        // SAFETY: every entry begins with a header.
        unsafe { self.0.cast::<[u8; HEADER_LEN]>().write(header.to_le_bytes()) };
    }

    pub(crate) fn set_accessed(&mut self, accessed: u32) {
        self.set_header(self.header() & ((1 << ACCESSED_SHIFT) - 1) | accessed << ACCESSED_SHIFT);
    }

    /// Notes of a string whether it was built by changes in place.
    pub(crate) fn set_raw(&mut self, raw: bool) {
        debug_assert!(self.view().kind() == Kind::String, "other kinds use the bit otherwise");
        self.set_header(if raw { self.header() | VARIANT } else { self.header() & !VARIANT });
    }

    /// Replaces the value; the entry may move. Returns what was there, if its freeing may take long.
    pub(crate) fn set_value(&mut self, value: NewValue<'_>) -> Option<Discarded> {
        let parts = self.view().parts();
        let header = self.header();
        let old_size = class_size(self.view().stored_len());
        // SAFETY: the address is overwritten, or dropped with the old allocation, before it can be read again.
        let old = unsafe { self.view().take_at(parts.value) };
        let new_header = header & !(KIND | ENCODING | VARIANT) | value.header();
        let new_size = class_size(parts.value + value.stored_len());
        if new_size != old_size {
            let block = allocate(new_size);
            // SAFETY: both allocations hold what comes before the value; the old one has this size and is not used again.
            unsafe {
                block.copy_from_nonoverlapping(self.0, parts.value);
                dealloc(self.0.as_ptr(), layout(old_size));
            }
            self.0 = block;
        }
        self.set_header(new_header);
        // SAFETY: the allocation has room for the value behind the key.
        unsafe { Cursor(self.0.add(parts.value)).put_value(value) };
        old
    }

    /// Replaces the bytes of a packed collection, as [`Entry::set_value`] does. A blob that nobody else holds is kept.
    pub(crate) fn set_packed(&mut self, packed: Packed, bytes: &[u8]) -> Option<Discarded> {
        let header = self.header();
        if header & ENCODING != ENCODING_BLOB || bytes.len() <= INLINE_LEN_MAX {
            return self.set_value(NewValue::Packed(packed, bytes));
        }
        let at = self.view().parts().value;
        // SAFETY: the address is written back at once, so that the entry owns the blob.
        let mut blob = ManuallyDrop::new(unsafe { self.view().blob_at(at) });
        blob.replace(bytes);
        let address = blob.address().to_le_bytes();
        // SAFETY: the value is an address.
        unsafe { self.0.add(at).cast::<[u8; WORD_LEN]>().write(address) };
        self.set_header(header & !(KIND | VARIANT) | packed.header());
        None
    }

    /// The large collection, if the value is one.
    pub(crate) fn large_mut(&mut self) -> Option<&mut Large> {
        if self.header() & ENCODING != ENCODING_LARGE {
            return None;
        }
        let at = self.view().parts().value;
        // SAFETY: the value is the address of a collection that the entry owns, and the entry is borrowed for the change.
        Some(unsafe { &mut *self.view().large_at(at) })
    }

    /// Changes the bytes of a string in place, after cutting it or filling it up with zeros to `len` bytes. From then on
    /// it is no integer, and counts as raw. The entry may move.
    pub(crate) fn edit<R>(&mut self, len: usize, change: impl FnOnce(&mut [u8]) -> R) -> R {
        let parts = self.view().parts();
        let encoding = self.header() & ENCODING;
        let old_len = self.view().string().len();
        let result = if encoding == ENCODING_BLOB && len > INLINE_LEN_MAX {
            // SAFETY: the address is written back at once, so that the entry owns the blob whatever `change` does.
            let mut blob = ManuallyDrop::new(unsafe { self.view().blob_at(parts.value) });
            blob.bytes_mut(len);
            let address = blob.address().to_le_bytes();
            // SAFETY: the value is an address.
            unsafe { self.0.add(parts.value).cast::<[u8; WORD_LEN]>().write(address) };
            change(blob.bytes_mut(len))
        } else if encoding == ENCODING_INLINE && len == old_len {
            // SAFETY: an inline value begins with its length.
            let (_, at) = unsafe { self.view().read_len(parts.value) };
            // SAFETY: the value has this length at this place, and the entry is borrowed for the change.
            change(unsafe { std::slice::from_raw_parts_mut(self.0.add(at).as_ptr(), len) })
        } else if len > INLINE_LEN_MAX {
            let mut number = itoa::Buffer::new();
            let mut blob = Blob::new(self.view().string().as_bytes(&mut number));
            let result = change(blob.bytes_mut(len));
            drop(self.set_value(NewValue::Blob(blob)));
            result
        } else {
            let mut number = itoa::Buffer::new();
            let mut scratch = [0; INLINE_LEN_MAX];
            let kept = len.min(old_len);
            scratch[..kept].copy_from_slice(&self.view().string().as_bytes(&mut number)[..kept]);
            let result = change(&mut scratch[..len]);
            drop(self.set_value(NewValue::Bytes(&scratch[..len])));
            result
        };
        self.set_raw(true);
        result
    }

    /// Changes the expiry. The entry may move.
    pub(crate) fn set_expires_at_ms(&mut self, expires_at_ms: Option<i64>) {
        let had = self.header() & HAS_EXPIRY != 0;
        if had == expires_at_ms.is_some() {
            if let Some(at) = expires_at_ms {
                // SAFETY: the expiry follows the header.
                unsafe { self.0.add(HEADER_LEN).cast::<[u8; EXPIRY_LEN]>().write(at.to_le_bytes()) };
            }
            return;
        }
        let old_len = self.view().stored_len();
        let from = HEADER_LEN + if had { EXPIRY_LEN } else { 0 };
        let new_len = if had { old_len - EXPIRY_LEN } else { old_len + EXPIRY_LEN };
        let block = allocate(new_len);
        let mut cursor = Cursor(block);
        // SAFETY: the parts have `new_len` bytes together; the old allocation has its size and is not used again. The
        // address of a blob is copied with the value, so that its owner stays one.
        unsafe {
            cursor.put(&(self.header() ^ HAS_EXPIRY).to_le_bytes());
            if let Some(at) = expires_at_ms {
                cursor.put(&at.to_le_bytes());
            }
            cursor.put(std::slice::from_raw_parts(self.0.add(from).as_ptr(), old_len - from));
            dealloc(self.0.as_ptr(), layout(old_len));
        }
        self.0 = block;
    }

    /// Moves the entry to where the allocator would put it now.
    pub(crate) fn relocate(&mut self) {
        let layout = layout(self.view().stored_len());
        // SAFETY: the allocation was made with this layout, and the entry owns it.
        if let Some(block) = unsafe { holdfast_allocator::relocate(self.0, layout) } {
            self.0 = block;
        }
    }
}

/// An entry as it can be read, wherever its address is kept.
#[derive(Clone, Copy)]
pub(crate) struct EntryView<'a> {
    start: NonNull<u8>,
    owner: PhantomData<&'a Entry>,
}

impl<'a> EntryView<'a> {
    /// # Safety
    /// The address is from [`Entry::into_address`], and its entry is neither changed nor dropped while the view lives.
    pub(crate) unsafe fn from_address(address: u64) -> EntryView<'a> {
        let address = usize::try_from(address).expect("addresses fit");
        // SAFETY: the address of an allocation is not zero.
        let start = unsafe { NonNull::new_unchecked(std::ptr::with_exposed_provenance_mut(address)) };
        EntryView { start, owner: PhantomData }
    }

    /// # Safety
    /// The entry has `N` bytes from `at` on.
    unsafe fn array<const N: usize>(self, at: usize) -> [u8; N] {
        // SAFETY: the bytes are there, says the caller, and were written; arrays of bytes need no alignment.
        unsafe { self.start.add(at).cast::<[u8; N]>().read() }
    }

    fn header(self) -> u32 {
        // SAFETY: every entry begins with a header.
        u32::from_le_bytes(unsafe { self.array(0) })
    }

    /// Reads a length; returns it, and where what it counts begins.
    ///
    /// # Safety
    /// A length was written at `at`.
    unsafe fn read_len(self, at: usize) -> (usize, usize) {
        // SAFETY: the first byte says how many follow.
        unsafe {
            match self.array::<1>(at) {
                [LEN_16] => (usize::from(u16::from_le_bytes(self.array(at + 1))), at + 3),
                [LEN_32] => (u32::from_le_bytes(self.array(at + 1)) as usize, at + 5),
                [short] => (usize::from(short), at + 1),
            }
        }
    }

    fn parts(self) -> Parts {
        let at = HEADER_LEN + if self.header() & HAS_EXPIRY == 0 { 0 } else { EXPIRY_LEN };
        // SAFETY: the length of the key follows the header and the expiry.
        let (key_len, key) = unsafe { self.read_len(at) };
        Parts { key, key_len, value: key + key_len }
    }

    pub(crate) fn key(self) -> &'a [u8] {
        let parts = self.parts();
        // SAFETY: the key has this length at this place.
        unsafe { std::slice::from_raw_parts(self.start.add(parts.key).as_ptr(), parts.key_len) }
    }

    /// What the value is.
    #[inline]
    pub(crate) fn kind(self) -> Kind {
        match self.header() & KIND {
            0 => Kind::String,
            1 => Kind::List,
            2 => Kind::Set,
            3 => Kind::SortedSet,
            _ => Kind::Hash,
        }
    }

    /// The value.
    pub(crate) fn value(self) -> ValueRef<'a> {
        if self.kind() == Kind::String {
            return ValueRef::String(self.string());
        }
        match self.large() {
            Some(large) => large.view(),
            None => self.packed().view(self.bytes()),
        }
    }

    /// The string that the value is.
    ///
    /// # Panics
    /// If it is something else.
    #[inline]
    pub(crate) fn string(self) -> StringRef<'a> {
        assert!(self.kind() == Kind::String, "the type was checked");
        if self.header() & ENCODING == ENCODING_INT {
            let at = self.parts().value;
            // SAFETY: the header says that an integer follows the key.
            return StringRef::Int(i64::from_le_bytes(unsafe { self.array(at) }));
        }
        StringRef::Bytes(self.bytes())
    }

    /// What the bytes of a collection that is not large are.
    pub(crate) fn packed(self) -> Packed {
        match self.kind() {
            Kind::List => Packed::List,
            Kind::Set if self.header() & VARIANT == 0 => Packed::Ints,
            Kind::Set => Packed::Set,
            Kind::SortedSet => Packed::SortedSet,
            Kind::Hash | Kind::String => Packed::Hash,
        }
    }

    /// The bytes of a string that is no integer, or of a packed collection.
    #[inline]
    pub(crate) fn bytes(self) -> &'a [u8] {
        let at = self.parts().value;
        // SAFETY: the value begins behind the key, in the form that the header names. The blob lives as long as the entry,
        // which the result borrows.
        unsafe {
            match self.header() & ENCODING {
                ENCODING_INLINE => {
                    let (len, at) = self.read_len(at);
                    std::slice::from_raw_parts(self.start.add(at).as_ptr(), len)
                }
                ENCODING_BLOB => {
                    let blob = ManuallyDrop::new(self.blob_at(at));
                    let bytes = blob.bytes();
                    std::slice::from_raw_parts(bytes.as_ptr(), bytes.len())
                }
                _ => &[],
            }
        }
    }

    /// The large collection that the value is.
    pub(crate) fn large(self) -> Option<&'a Large> {
        if self.header() & ENCODING != ENCODING_LARGE {
            return None;
        }
        // SAFETY: the value is the address of a collection that lives as long as the entry, which the result borrows.
        Some(unsafe { &*self.large_at(self.parts().value) })
    }

    /// The blob of long bytes, as another owner of it.
    pub(crate) fn shared_blob(self) -> Option<Blob> {
        if self.header() & ENCODING != ENCODING_BLOB {
            return None;
        }
        // SAFETY: the value is the address of a blob, which stays the entry's; the clone is another owner.
        let blob = ManuallyDrop::new(unsafe { self.blob_at(self.parts().value) });
        Some(Blob::clone(&blob))
    }

    /// # Safety
    /// The address of a large collection stands at `at`.
    unsafe fn large_at(self, at: usize) -> *mut Large {
        // SAFETY: the address was written by `put_value`.
        std::ptr::with_exposed_provenance_mut(usize::from_le_bytes(unsafe { self.array(at) }))
    }

    /// Takes what lies outside of the allocation.
    ///
    /// # Safety
    /// The value begins at `at` and is never read again.
    unsafe fn take_at(self, at: usize) -> Option<Discarded> {
        // SAFETY: the header names what stands there; nobody else takes it, says the caller.
        unsafe {
            match self.header() & ENCODING {
                ENCODING_BLOB => Some(Discarded::Blob(self.blob_at(at))),
                ENCODING_LARGE => Some(Discarded::Large(Box::from_raw(self.large_at(at)))),
                _ => None,
            }
        }
    }

    /// # Safety
    /// The address of a blob stands at `at`. The result must not be dropped unless the address is never read again.
    unsafe fn blob_at(self, at: usize) -> Blob {
        // SAFETY: the address was written by `put_value`.
        unsafe { Blob::from_address(usize::from_le_bytes(self.array(at))) }
    }

    pub(crate) fn expires_at_ms(self) -> Option<i64> {
        // SAFETY: the flag says that an expiry follows the header.
        (self.header() & HAS_EXPIRY != 0).then(|| i64::from_le_bytes(unsafe { self.array(HEADER_LEN) }))
    }

    /// When or how often it was used, as whoever sets it knows: 24 bits.
    pub(crate) fn accessed(self) -> u32 {
        self.header() >> ACCESSED_SHIFT
    }

    /// Whether a string was built by changes in place.
    pub(crate) fn is_raw(self) -> bool {
        self.kind() == Kind::String && self.header() & VARIANT != 0
    }

    fn stored_len(self) -> usize {
        let at = self.parts().value;
        match self.header() & ENCODING {
            ENCODING_INLINE => {
                // SAFETY: an inline value begins with its length.
                let (len, at) = unsafe { self.read_len(at) };
                at + len
            }
            _ => at + WORD_LEN,
        }
    }

    /// Bytes of the allocation, and of what lies outside of it.
    pub(crate) fn memory_bytes(self) -> usize {
        let outside = match self.header() & ENCODING {
            ENCODING_BLOB => {
                // SAFETY: the value is the address of a blob, which stays the entry's.
                ManuallyDrop::new(unsafe { self.blob_at(self.parts().value) }).memory_bytes()
            }
            ENCODING_LARGE => self.large().map_or(0, Large::memory_bytes),
            _ => 0,
        };
        class_size(self.stored_len()) + outside
    }

    /// The same under another key. Long bytes and large collections are shared.
    pub(crate) fn renamed(self, key: &[u8]) -> Entry {
        let is_string = self.kind() == Kind::String;
        let value = match (self.large(), self.shared_blob()) {
            (Some(large), _) => NewValue::Large(Box::new(large.clone())),
            (None, Some(blob)) if is_string => NewValue::Blob(blob),
            (None, Some(blob)) => NewValue::PackedBlob(self.packed(), blob),
            (None, None) if is_string => match self.string() {
                StringRef::Int(number) => NewValue::Int(number),
                StringRef::Bytes(bytes) => NewValue::Bytes(bytes),
            },
            (None, None) => NewValue::Packed(self.packed(), self.bytes()),
        };
        let mut entry = Entry::new(key, value, self.expires_at_ms(), self.accessed());
        if self.is_raw() {
            entry.set_raw(true);
        }
        entry
    }
}

fn allocate(len: usize) -> NonNull<u8> {
    let layout = layout(len);
    // SAFETY: the size is not zero.
    match NonNull::new(unsafe { alloc(layout) }) {
        Some(block) => block,
        None => handle_alloc_error(layout),
    }
}

impl Entry {
    /// Frees the entry and returns what lies outside of it, if its freeing may take long.
    pub(crate) fn dismantle(self) -> Option<Discarded> {
        let entry = ManuallyDrop::new(self);
        let layout = layout(entry.view().stored_len());
        // SAFETY: the entry is not used again; its allocation was made with this layout.
        unsafe {
            let outside = entry.view().take_at(entry.view().parts().value);
            dealloc(entry.0.as_ptr(), layout);
            outside
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let layout = layout(self.view().stored_len());
        // SAFETY: the address is not read again.
        drop(unsafe { self.view().take_at(self.view().parts().value) });
        // SAFETY: the allocation was made with this layout.
        unsafe { dealloc(self.0.as_ptr(), layout) };
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("key", &String::from_utf8_lossy(self.view().key()))
            .field("value", &self.view().value())
            .field("expires_at_ms", &self.view().expires_at_ms())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::value::Value;
    use holdfast_collections::hash::{HashSeed, KeyHasher};
    use holdfast_collections::types::{Hash, Limits};
    use proptest::prelude::*;

    #[test]
    fn small_keys_take_one_allocation_of_the_next_class() {
        let key = [b'k'; 16];
        for (value_len, size) in [(3, 32), (32, 56), (100, 128)] {
            let value = vec![b'v'; value_len];
            assert_eq!(Entry::new(&key, NewValue::Bytes(&value), None, 0).view().memory_bytes(), size);
        }
        assert_eq!(Entry::new(&key, NewValue::Int(7), None, 0).view().memory_bytes(), 32);
        assert_eq!(Entry::new(&key, NewValue::Int(7), Some(1), 0).view().memory_bytes(), 40);
    }

    #[test]
    fn small_hashes_take_one_allocation_of_the_next_class() {
        let key = b"hash:00000001";
        let check = |fields: u32, value_len: usize, expected: usize| {
            let (mut hash, limits) = (Hash::empty(Vec::new()), Limits::default());
            let hasher = KeyHasher::new(HashSeed([1, 2]));
            for field in 0..fields {
                hash.set(format!("field{field:02}").as_bytes(), &vec![b'x'; value_len], &limits, hasher);
            }
            let value = Value::Hash(hash);
            let entry = Entry::new(key, NewValue::from(&value), None, 0);
            assert_eq!(entry.view().memory_bytes(), expected, "{fields} fields of {value_len} bytes");
            assert_eq!(entry.view().value(), value.as_ref());
        };
        check(10, 32, 448);
        check(10, 8, 192);
        check(5, 24, 192);
        check(5, 64, 448);
        check(20, 32, 896);
    }

    #[derive(Debug, Clone)]
    enum Change {
        Set(Value),
        Edit(usize, u8),
        Expire(Option<i64>),
        Access(u32),
        Rename(Vec<u8>),
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let len = prop_oneof![0usize..40, 240usize..270, 1000usize..1100, 3000usize..3002];
        (len, any::<u8>()).prop_map(|(len, byte)| vec![byte; len])
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![any::<i64>().prop_map(Value::Int), bytes().prop_map(Value::Bytes)]
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            value().prop_map(Change::Set),
            (prop_oneof![0usize..50, 1000usize..1050, 5000usize..5003], any::<u8>())
                .prop_map(|(len, byte)| Change::Edit(len, byte)),
            any::<Option<i64>>().prop_map(Change::Expire),
            (0u32..1 << 24).prop_map(Change::Access),
            bytes().prop_map(Change::Rename),
        ]
    }

    proptest! {
        #[test]
        fn an_entry_is_what_was_put_into_it(
            key in bytes(),
            first in value(),
            expiry: Option<i64>,
            changes in proptest::collection::vec(change(), 0..20),
        ) {
            let mut entry = Entry::new(&key, NewValue::from(&first), expiry, 5);
            let (mut key, mut value, mut expiry, mut accessed, mut raw) = (key, first, expiry, 5, false);
            for change in changes {
                let held = entry.view().shared_blob();
                let mut number = itoa::Buffer::new();
                let before = value.clone();
                let before = before.as_string().as_bytes(&mut number);
                match change {
                    Change::Set(new) => {
                        entry.set_value(NewValue::from(&new));
                        (value, raw) = (new, false);
                    }
                    Change::Edit(len, byte) => {
                        entry.edit(len, |bytes| if let Some(first) = bytes.first_mut() { *first = byte });
                        let mut number = itoa::Buffer::new();
                        let mut bytes = value.as_string().as_bytes(&mut number).to_vec();
                        bytes.resize(len, 0);
                        if let Some(first) = bytes.first_mut() {
                            *first = byte;
                        }
                        (value, raw) = (Value::Bytes(bytes), true);
                    }
                    Change::Expire(at) => {
                        entry.set_expires_at_ms(at);
                        expiry = at;
                    }
                    Change::Access(seconds) => {
                        entry.set_accessed(seconds);
                        accessed = seconds;
                    }
                    Change::Rename(new) => {
                        entry = entry.view().renamed(&new);
                        key = new;
                    }
                }
                if let Some(held) = held {
                    prop_assert_eq!(held.bytes(), before, "owners keep what they had");
                }
                prop_assert_eq!(entry.view().key(), &key[..]);
                prop_assert_eq!(entry.view().value().to_value(), value.clone());
                prop_assert_eq!((entry.view().expires_at_ms(), entry.view().accessed(), entry.view().is_raw()), (expiry, accessed, raw));
            }
        }
    }
}
