//! The table of directives with an effect here.

pub(super) mod directive;
mod rows;

use std::collections::HashMap;
use std::sync::LazyLock;

use directive::Directive;

use super::names;

static TABLE: LazyLock<Vec<Directive>> = LazyLock::new(rows::build);
static INDEX: LazyLock<HashMap<&'static str, &'static Directive>> =
    LazyLock::new(|| TABLE.iter().map(|directive| (directive.name.as_ref(), directive)).collect());

/// Every directive with an effect, in the order of the documentation.
pub(super) fn all() -> &'static [Directive] {
    &TABLE
}

/// The directive called `name` (lower case), also by an old name.
pub(super) fn find(name: &str) -> Option<&'static Directive> {
    INDEX.get(names::canonical(name)).copied()
}
