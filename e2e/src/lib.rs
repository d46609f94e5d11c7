//! End-to-end behaviours on a real cluster.
