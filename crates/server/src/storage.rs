//! The storage seam: a real and a simulated disk.
