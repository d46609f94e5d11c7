//! The words of a configuration line. The operator splits lines by the same code, so that no directive passes in disguise.

pub use holdfast_contract::config_line::{quote, split};
