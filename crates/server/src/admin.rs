//! Health and control ports.

pub mod bridge;
