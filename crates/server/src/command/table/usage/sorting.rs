//! Sorting of lists, sets and sorted sets.

use super::{Argument, LIMIT, Usage, key, one_of, pattern, word};

const BY: Argument = pattern("pattern").in_key_spec(1).after("BY").optional();
const GET: Argument = pattern("pattern").in_key_spec(1).after("GET").optional().repeated_with_token();
const ORDER: Argument = one_of("order", &[word("ASC"), word("DESC")]).optional();
const ALPHA: Argument = word("ALPHA").named("sorting").optional();

pub(crate) const SORT: Usage = Usage::new(&[
    key("key"),
    BY,
    LIMIT,
    GET,
    ORDER,
    ALPHA,
    key("destination").in_key_spec(2).after("STORE").optional(),
]);
pub(crate) const SORT_RO: Usage = Usage::new(&[key("key"), BY, LIMIT, GET, ORDER, ALPHA]);
