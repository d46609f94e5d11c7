//! Patterns of BY and GET: where to find something that belongs to an element.

use holdfast_collections::listpack::Scratch;

use crate::command::error::c_text;
use crate::engine::object::EntryView;
use crate::engine::{Keyspace, ValueRef};

/// Where something about an element is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pattern<'a> {
    /// `#`: it is the element itself.
    Element,
    /// Without a `*` it is nowhere.
    Constant,
    /// Under the key that is the element between these; a string, or a field of a hash.
    Key { prefix: &'a [u8], suffix: &'a [u8], field: Option<&'a [u8]> },
}

impl<'a> Pattern<'a> {
    pub(super) fn parse(pattern: &'a [u8]) -> Pattern<'a> {
        // Redis searches only up to the first zero byte, and keeps what is behind it.
        let searched = c_text(pattern, usize::MAX);
        if searched == b"#" {
            return Pattern::Element;
        }
        let Some(star) = searched.iter().position(|byte| *byte == b'*') else { return Pattern::Constant };
        let (prefix, rest, searched) = (&pattern[..star], &pattern[star + 1..], &searched[star + 1..]);
        match searched.windows(2).position(|pair| pair == b"->") {
            // An arrow at the end is a part of the key.
            Some(arrow) if arrow + 2 < searched.len() => {
                Pattern::Key { prefix, suffix: &rest[..arrow], field: Some(&rest[arrow + 2..]) }
            }
            _ => Pattern::Key { prefix, suffix: rest, field: None },
        }
    }

    /// Whether the pattern means the same for each element: there is no `*` in it.
    pub(super) fn is_constant(&self) -> bool {
        !matches!(self, Pattern::Key { .. })
    }

    /// Shows to `visit` what belongs to an element. The name of its key is written to `name`.
    pub(super) fn look_up<R>(
        &self,
        keys: &mut Keyspace<'_>,
        element: &[u8],
        name: &mut Vec<u8>,
        visit: impl FnOnce(Option<&[u8]>) -> R,
    ) -> R {
        let (prefix, suffix, field) = match *self {
            Pattern::Element => return visit(Some(element)),
            Pattern::Constant => return visit(None),
            Pattern::Key { prefix, suffix, field } => (prefix, suffix, field),
        };
        name.clear();
        [prefix, element, suffix].iter().for_each(|part| name.extend_from_slice(part));
        match (keys.read(name).map(EntryView::value), field) {
            (Some(ValueRef::String(string)), None) => visit(Some(string.as_bytes(&mut itoa::Buffer::new()))),
            (Some(ValueRef::Hash(hash)), Some(field)) => match hash.get(field) {
                Some(value) => visit(Some(value.as_bytes(&mut Scratch::new()))),
                None => visit(None),
            },
            _ => visit(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, expected: Pattern<'_>) {
        assert_eq!(Pattern::parse(pattern.as_bytes()), expected, "{pattern:?}");
    }

    fn key<'a>(prefix: &'a str, suffix: &'a str, field: Option<&'a str>) -> Pattern<'a> {
        Pattern::Key { prefix: prefix.as_bytes(), suffix: suffix.as_bytes(), field: field.map(str::as_bytes) }
    }

    #[test]
    fn patterns_are_taken_apart_as_redis_does() {
        check("#", Pattern::Element);
        check("#a", Pattern::Constant);
        check("", Pattern::Constant);
        check("nosort", Pattern::Constant);
        check("a->b", Pattern::Constant);
        check("w_*", key("w_", "", None));
        check("*", key("", "", None));
        check("#*", key("#", "", None));
        check("a*b*c", key("a", "b*c", None));
        check("a*b->c", key("a", "b", Some("c")));
        check("a*->b->c", key("a", "", Some("b->c")));
        check("a->b*->c", key("a->b", "", Some("c")));
        check("x:*->", key("x:", "->", None));
        check("x:*->->", key("x:", "", Some("->")));
        check("a\0*", Pattern::Constant);
        check("a*b\0->c", key("a", "b\0->c", None));
        check("a*->b\0c", key("a", "", Some("b\0c")));
        check("a*->\0c", key("a", "->\0c", None));
        check("#\0a", Pattern::Element);
    }
}
