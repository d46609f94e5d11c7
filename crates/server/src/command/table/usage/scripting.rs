//! Scripting.

use super::{Argument, Usage, one_of, string, word};

const ASYNC: Argument = one_of("async", &[word("ASYNC"), word("SYNC")]).optional();

pub(crate) const FUNCTION_FLUSH: Usage = Usage::new(&[ASYNC]);
pub(crate) const FUNCTION_LIST: Usage = Usage::new(&[
    string("library-name-pattern").after("LIBRARYNAME").optional(),
    word("WITHCODE").optional(),
]);
pub(crate) const SCRIPT_FLUSH: Usage =
    Usage::new(&[ASYNC.since("6.2.0")]).changed(&[("6.2.0", "Takes `ASYNC` and `SYNC`.")]);
pub(crate) const SCRIPT_EXISTS: Usage = Usage::new(&[string("sha1").repeated()]);
