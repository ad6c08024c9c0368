//! The bytes on disk, format by format: encoders and decoders without any I/O. Drawn in `docs/format.md`.

pub(crate) mod bytes;
pub(crate) mod crc;
pub(crate) mod footer;
pub(crate) mod frame;
pub(crate) mod header;
pub(crate) mod ids;
pub(crate) mod link;
pub(crate) mod op;
pub(crate) mod pack;
pub(crate) mod part;
pub(crate) mod retired;
pub(crate) mod rows;
pub(crate) mod seal;
