//! What a file is, in which encoding its text is, and that text as a stream of UTF-8.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use encoding_rs::{CoderResult, DecoderResult, Encoding, GB18030, UTF_8};

use super::error::TableError;
use super::progress::Progress;
use crate::say;

const HEAD: usize = 8 * 1024;
const CHUNK: usize = 64 * 1024;
/// No honest row is longer, in bytes; a quotation mark that never closes is.
const LONGEST_RECORD: usize = 1 << 20;

/// What the first bytes say a file is.
pub(super) enum Format {
    Workbook,
    Text { encoding: &'static Encoding, carriage_returns: bool },
}

/// Looks at the content, and at the name only to say what is wrong.
pub(super) fn sniff(path: &Path) -> Result<Format, TableError> {
    let open = |source| TableError::Open { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(open)?;
    let mut head = Vec::with_capacity(HEAD);
    file.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(open)?;
    if head.starts_with(b"PK\x03\x04") {
        return Ok(Format::Workbook);
    }
    if head.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
        return Err(TableError::OldExcel(path.to_owned()));
    }
    if head.is_empty() {
        return Err(TableError::Empty(path.to_owned()));
    }
    let bom = Encoding::for_bom(&head).map(|(encoding, _)| encoding);
    if is_web_page(&head) {
        return Err(TableError::WebPage(path.to_owned()));
    }
    if bom.is_none() && is_binary(&head) {
        return Err(TableError::Binary(path.to_owned()));
    }
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    if matches!(extension.as_deref(), Some("xlsx" | "xlsm" | "et")) {
        let why = say!("内容不是工作簿", "the content is no workbook");
        return Err(TableError::NotWorkbook { path: path.to_owned(), why });
    }
    let encoding = if let Some(encoding) = bom {
        encoding
    } else {
        let sample = sample(head.clone(), &mut file).map_err(open)?;
        guess(&sample).ok_or_else(|| TableError::Binary(path.to_owned()))?
    };
    Ok(Format::Text { encoding, carriage_returns: head.contains(&b'\r') && !head.contains(&b'\n') })
}

fn is_web_page(head: &[u8]) -> bool {
    let start: String = String::from_utf8_lossy(head).trim_start_matches(['\u{feff}', ' ', '\r', '\n', '\t']).into();
    let start: String = start.chars().take(15).collect::<String>().to_lowercase();
    ["<html", "<!doctype", "<table", "<?xml", "<meta", "<head"].iter().any(|tag| start.starts_with(tag))
}

fn is_binary(head: &[u8]) -> bool {
    let control = head.iter().filter(|b| matches!(b, 1..=8 | 14..=31)).count();
    head.contains(&0) || control * 100 > head.len()
}

/// A chunk or so from the first byte that is not ASCII on; ASCII tells nothing.
fn sample(mut chunk: Vec<u8>, file: &mut File) -> io::Result<Vec<u8>> {
    loop {
        if let Some(at) = chunk.iter().position(|b| !b.is_ascii()) {
            chunk.drain(..at);
            file.take(CHUNK as u64).read_to_end(&mut chunk)?;
            return Ok(chunk);
        }
        chunk.clear();
        if file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)? == 0 {
            return Ok(chunk);
        }
    }
}

/// UTF-8 where most sequences are; a damaged byte must not turn UTF-8 into GB18030,
/// which takes nearly any bytes. `None` if the sample is text in neither.
fn guess(sample: &[u8]) -> Option<&'static Encoding> {
    let (good, bad) = tally(UTF_8, sample);
    if bad * 2 <= good || good + bad == 0 {
        return Some(UTF_8);
    }
    let (good, bad) = tally(GB18030, sample);
    (bad * 10 <= good).then_some(GB18030)
}

/// Characters beyond ASCII and malformed sequences when read as `encoding`.
fn tally(encoding: &'static Encoding, sample: &[u8]) -> (usize, usize) {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut out = vec![0; sample.len() * 3 + 16];
    let (mut good, mut bad, mut rest) = (0, 0, sample);
    loop {
        // Not the last call: a character cut by the sample's end is no error.
        let (result, read, written) = decoder.decode_to_utf8_without_replacement(rest, &mut out, false);
        good += out[..written].iter().filter(|b| **b >= 0xc0).count();
        rest = &rest[read..];
        match result {
            DecoderResult::Malformed(..) => bad += 1,
            DecoderResult::InputEmpty | DecoderResult::OutputFull => return (good, bad),
        }
    }
}

/// How far a file is decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Reading,
    /// The file is at its end, the decoder is not.
    Draining,
    Done,
}

/// A file read as UTF-8, ending in a line feed, with U+FFFD for what cannot be read.
pub(super) struct Decoded {
    file: File,
    decoder: encoding_rs::Decoder,
    carriage_returns: bool,
    progress: Progress,
    input: Vec<u8>,
    unread: std::ops::Range<usize>,
    output: Vec<u8>,
    ready: std::ops::Range<usize>,
    last: u8,
    stage: Stage,
    odd_quotes: bool,
    since_mark: usize,
}

impl Decoded {
    /// Carriage returns alone end lines in files from old Macs.
    pub(super) fn new(file: File, encoding: &'static Encoding, carriage_returns: bool, progress: Progress) -> Self {
        Self {
            file,
            decoder: encoding.new_decoder_with_bom_removal(),
            carriage_returns,
            progress,
            input: vec![0; CHUNK],
            unread: 0..0,
            output: vec![0; CHUNK * 3 + 16],
            ready: 0..0,
            last: b'\n',
            stage: Stage::Reading,
            odd_quotes: false,
            since_mark: 0,
        }
    }

    /// A record ended: the next one may be [`LONGEST_RECORD`] long.
    pub(super) fn mark(&mut self) {
        self.since_mark = 0;
    }

    /// Everything was read and a quotation mark is left over.
    pub(super) fn ended_in_quotes(&self) -> bool {
        self.stage == Stage::Done && self.ready.is_empty() && self.odd_quotes
    }

    /// The record was longer than any honest one.
    pub(super) fn is_overlong(&self) -> bool {
        self.since_mark > LONGEST_RECORD
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.unread.is_empty() && self.stage == Stage::Reading {
            let read = self.file.read(&mut self.input)?;
            self.unread = 0..read;
            if read == 0 {
                self.stage = Stage::Draining;
            }
            self.progress.add(read as u64);
        }
        let room = self.output.len() - 1;
        let at_end = self.stage == Stage::Draining;
        let (result, read, mut written, _) =
            self.decoder.decode_to_utf8(&self.input[self.unread.clone()], &mut self.output[..room], at_end);
        self.unread.start += read;
        if at_end && result == CoderResult::InputEmpty {
            self.stage = Stage::Done;
        }
        if self.carriage_returns {
            self.output[..written].iter_mut().filter(|b| **b == b'\r').for_each(|b| *b = b'\n');
        }
        self.last = written.checked_sub(1).map_or(self.last, |end| self.output[end]);
        if self.stage == Stage::Done && self.last != b'\n' {
            self.output[written] = b'\n';
            written += 1;
        }
        self.odd_quotes = self.output[..written].iter().fold(self.odd_quotes, |odd, b| odd ^ (*b == b'"'));
        self.ready = 0..written;
        Ok(())
    }
}

impl Read for Decoded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.is_overlong() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        while self.ready.is_empty() && self.stage != Stage::Done {
            self.fill()?;
        }
        let some = into.len().min(self.ready.len());
        into[..some].copy_from_slice(&self.output[self.ready.start..self.ready.start + some]);
        self.ready.start += some;
        self.since_mark += some;
        Ok(some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_told_apart() {
        let text = "姓名,手机\n王小明,13900000001\n";
        let (gb, _, _) = GB18030.encode(text);
        assert_eq!(guess(text.as_bytes()), Some(UTF_8));
        assert_eq!(guess(&gb), Some(GB18030));
        assert_eq!(guess(b""), Some(UTF_8));
        let mut damaged = text.as_bytes().to_vec();
        damaged[1] = b'?';
        assert_eq!(guess(&damaged), Some(UTF_8), "one bad byte does not change the encoding");
        let noise: Vec<u8> = (0..4000_u32).map(|i| u8::try_from(i * 7919 % 251 + 5).unwrap()).collect();
        assert_ne!(guess(&noise), Some(UTF_8));
    }

    #[test]
    fn a_character_cut_by_the_sample_is_no_error() {
        let text = "王".as_bytes();
        assert_eq!(tally(UTF_8, &text[..2]), (0, 0));
    }
}
