//! Commands: table and families.
