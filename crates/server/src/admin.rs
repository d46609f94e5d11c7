//! Health and control ports.
