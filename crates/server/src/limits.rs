//! Hard upper bounds and the relations between them.
