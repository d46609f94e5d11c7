//! Configuration: file < arguments -> one validated struct.
