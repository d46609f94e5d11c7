//! RDB files: codec, reader, writer.
