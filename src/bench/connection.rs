//! A kept connection over which requests go that were rendered beforehand. Who calls
//! should take as little as possible from what is measured beside it.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Header fields that an answer may have.
const FIELDS: usize = 32;
/// Room for an answer's first bytes.
const ROOM: usize = 1_024;

pub(super) struct Connection {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Connection {
    pub async fn connect(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, heard: Vec::with_capacity(ROOM) })
    }

    /// Sends a request and reads the whole answer; returns its status.
    ///
    /// # Errors
    /// When the connection ends before the answer does, or it is no answer of a known
    /// length.
    pub async fn call(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        self.stream.write_all(request).await?;
        self.heard.clear();
        loop {
            anyhow::ensure!(self.stream.read_buf(&mut self.heard).await? > 0, "the connection ended");
            if let Some((status, length)) = head(&self.heard)?
                && self.heard.len() >= length
            {
                return Ok(status);
            }
        }
    }
}

/// The status of an answer and its length with its head, once the head is there.
fn head(heard: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(body_at) = answer.parse(heard)? else { return Ok(None) };
    let length = answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length: usize = std::str::from_utf8(length.context("an answer without its length")?.value)?.parse()?;
    Ok(Some((answer.code.unwrap_or(0), body_at + length)))
}

#[cfg(test)]
mod tests {
    use super::head;

    #[test]
    fn an_answer_is_as_long_as_it_says() {
        let answer = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\n\r\nlate";
        assert_eq!(head(answer).unwrap(), Some((429, answer.len())));
        assert_eq!(head(&answer[..answer.len() - 2]).unwrap(), Some((429, answer.len())));
        assert_eq!(head(&answer[..30]).unwrap(), None);
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(head(b"nothing of the kind\r\n\r\n").is_err());
    }
}
