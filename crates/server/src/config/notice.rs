//! What was accepted without an effect, for the start to print.

use std::fmt;

use super::problem::Place;

/// A directive that was accepted and does not do what it says, or something else that the start should print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Name of the directive.
    pub(crate) directive: String,
    /// Where it stands; `None` if the notice is about the values of several sources.
    pub place: Option<Place>,
    /// Why it has no effect.
    pub reason: String,
    /// It has the value that Redis has without it, so that nobody will miss anything.
    pub(crate) at_default: bool,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directive, place, reason, .. } = self;
        match place {
            Some(place) => write!(f, "{directive} ({place}): {reason}"),
            None => write!(f, "{directive}: {reason}"),
        }
    }
}

/// One line for each notice that someone should read, and one for all the others.
#[must_use]
pub fn notice_lines(notices: &[Notice]) -> Vec<String> {
    let (at_default, asking): (Vec<_>, Vec<_>) = notices.iter().partition(|notice| notice.at_default);
    let mut lines: Vec<_> = asking.iter().map(ToString::to_string).collect();
    if !at_default.is_empty() {
        let mut names: Vec<_> = at_default.iter().map(|notice| notice.directive.as_str()).collect();
        names.dedup();
        lines.push(format!("without effect here, and at Redis's default anyway: {}", names.join(", ")));
    }
    lines
}
