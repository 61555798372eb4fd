//! What the press and its child process say to each other: frames of a length (four
//! bytes, big-endian) and so many bytes. Settings first, then job after job; an
//! answer is its head as JSON, then the PDF, then the picture where there is one.

use serde::{Deserialize, Serialize};

#[cfg(feature = "sheets")]
use super::Document;
use super::{PressError, Wants};

/// Largest frame, in bytes: a town's sheets bound together stay far below.
pub(super) const MAX_FRAME: usize = 512 * 1024 * 1024;

/// A job as the child reads it; the press writes [`JobRef`].
#[cfg(feature = "sheets")]
#[derive(Debug, Deserialize)]
pub(super) struct Job {
    pub documents: Vec<Document>,
    pub wants: Wants,
}

/// A job as the press writes it.
#[derive(Debug, Serialize)]
pub(super) struct JobRef<'a> {
    pub documents: &'a [super::Document],
    pub wants: Wants,
}

/// What precedes the pages of an answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub pages: usize,
    pub missing: Vec<char>,
    pub jpg: bool,
}

/// The first frame of an answer.
pub(super) type Answer = Result<Head, PressError>;

/// The length of a frame as it is written before it.
pub(super) fn length(bytes: &[u8]) -> std::io::Result<[u8; 4]> {
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= MAX_FRAME);
    length.map(u32::to_be_bytes).ok_or_else(|| std::io::Error::other("a frame of more than 512 MiB"))
}

/// The length that four bytes mean.
pub(super) fn read_length(bytes: [u8; 4]) -> std::io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(bytes)).ok().filter(|l| *l <= MAX_FRAME);
    length.ok_or_else(|| std::io::Error::other("a frame of more than 512 MiB"))
}
