//! What the process says by its exit code.

/// The configuration is wrong.
pub const CONFIG: u8 = 2;
/// What is on the volume was refused; nothing was changed.
pub const REFUSED: u8 = 3;
/// A write or sync failed while the server ran; nothing was acknowledged since.
pub(crate) const STORAGE: u8 = 4;
/// A defect of ours: a panic. Nothing was written or acknowledged since; what was acknowledged before is loaded at the next
/// start.
pub(crate) const PANICKED: u8 = 5;
