//! The persist-* grid and the warning ladder.
