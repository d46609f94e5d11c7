//! Values as bytes that are equal when clients cannot tell the values apart.

use holdfast_collections::listpack::Item;
use holdfast_server::engine::ValueRef;

/// The bytes of a string; of a collection its type and its elements, in order where there is one and sorted otherwise.
pub(crate) fn value_bytes(value: ValueRef<'_>) -> Vec<u8> {
    let text = |item: Item<'_>| item.to_vec().escape_ascii().to_string();
    let (name, elements): (&str, Vec<String>) = match value {
        ValueRef::String(string) => return string.as_bytes(&mut itoa::Buffer::new()).to_vec(),
        ValueRef::List(list) => ("list", list.iter().map(text).collect()),
        ValueRef::Set(set) => ("set", sorted(set.iter().map(text).collect())),
        ValueRef::SortedSet(set) => {
            // Zero has no sign while a sorted set is packed, as in Redis.
            let pairs = set.iter().map(|(member, score)| format!("{} {}", text(member), score + 0.0));
            ("sorted set", pairs.collect())
        }
        ValueRef::Hash(hash) => {
            let fields = hash.iter().map(|(field, value)| format!("{} {}", text(field), text(value)));
            ("hash", sorted(fields.collect()))
        }
    };
    format!("{name}: {}", elements.join(", ")).into_bytes()
}

fn sorted(mut elements: Vec<String>) -> Vec<String> {
    elements.sort_unstable();
    elements
}
