//! For the tests of the tests: deliberate defects, which a test must notice or it proves nothing, and what is rare otherwise.
//!
//! Only in debug builds, chosen at run time by `HOLDFAST_FAULT`; a release has none of this.

/// Acknowledges writes up to 50 ms before they are given to the kernel.
#[must_use]
pub(crate) fn replies_before_writing() -> bool {
    is_chosen("reply-before-write")
}

/// I/O threads get their share in every turn, whether that brings anything or not.
#[must_use]
pub(crate) fn always_shares() -> bool {
    is_chosen("always-share")
}

#[cfg(debug_assertions)]
fn is_chosen(fault: &str) -> bool {
    use std::sync::LazyLock;
    static CHOSEN: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("HOLDFAST_FAULT").ok());
    CHOSEN.as_deref() == Some(fault)
}

#[cfg(not(debug_assertions))]
fn is_chosen(_fault: &str) -> bool {
    false
}
