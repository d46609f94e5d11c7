//! Deliberate defects, for the tests of the tests: a test that cannot notice them proves nothing.
//!
//! Only in debug builds, chosen at run time by `HOLDFAST_FAULT`; a release has none of this.

/// Acknowledges writes up to 50 ms before they are given to the kernel (`reply-before-write`).
#[must_use]
pub(crate) fn replies_before_writing() -> bool {
    #[cfg(debug_assertions)]
    {
        use std::sync::LazyLock;
        static CHOSEN: LazyLock<bool> = LazyLock::new(|| {
            std::env::var("HOLDFAST_FAULT").is_ok_and(|fault| fault == "reply-before-write")
        });
        *CHOSEN
    }
    #[cfg(not(debug_assertions))]
    false
}
