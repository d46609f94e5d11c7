//! The kinds of `holdfast.dev`, as users see them: field documentation here is what `kubectl explain` prints.

pub mod conditions;
pub mod quantity;
pub mod schema;
mod steady;
pub mod v1alpha1;
