//! One SMTP session, as a server (RFC 5321): enough of it for a client that sends mail,
//! with pipelining (RFC 2920) and delivery reports asked for (RFC 3461).

use std::io;
use std::sync::Arc;

use mail_parser::MessageParser;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::super::ledger::{Accepted, Fate, Message, Verdict, delay};
use super::super::receipts::words;
use super::{Server, bounce};

/// Bytes of a mail that are taken.
const MAX_MAIL: usize = 16 << 20;
/// Bytes of a command line (RFC 5321 §4.5.3.1.4, with room for parameters).
const MAX_LINE: u64 = 4096;

/// A mail as it was handed over.
#[derive(Debug, Clone, Default)]
pub(super) struct Envelope {
    pub from: String,
    pub to: Vec<String>,
    /// The envelope id that a report repeats.
    pub envid: Option<String>,
    /// A report of success is wanted.
    pub notify_success: bool,
}

enum Next {
    Go,
    Close,
}

pub(super) async fn serve(stream: TcpStream, server: &Arc<Server>) -> io::Result<()> {
    let mut session = Session { io: BufReader::new(stream), answers: Vec::new(), mail: None };
    session.say("220 loopback.gong.example ESMTP gong");
    session.flush().await?;
    loop {
        let Some(line) = session.line().await? else { return Ok(()) };
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let next = match verb.as_str() {
            "DATA" => session.data(server).await?,
            "QUIT" => {
                session.say("221 2.0.0 Bye");
                Next::Close
            }
            _ => {
                session.command(&verb, &line);
                Next::Go
            }
        };
        // What was pipelined is answered in one go.
        if session.io.buffer().is_empty() || matches!(next, Next::Close) {
            session.flush().await?;
        }
        if matches!(next, Next::Close) {
            return Ok(());
        }
    }
}

struct Session {
    io: BufReader<TcpStream>,
    answers: Vec<u8>,
    mail: Option<Envelope>,
}

impl Session {
    fn say(&mut self, line: &str) {
        self.answers.extend_from_slice(line.as_bytes());
        self.answers.extend_from_slice(b"\r\n");
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.answers.is_empty() {
            self.io.get_mut().write_all(&self.answers).await?;
            self.answers.clear();
        }
        Ok(())
    }

    async fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let read = (&mut self.io).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        Ok((read > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned()))
    }

    fn command(&mut self, verb: &str, line: &str) {
        match verb {
            "EHLO" => {
                self.mail = None;
                self.say("250-loopback.gong.example");
                self.say("250-PIPELINING");
                self.say("250-8BITMIME");
                self.say("250-ENHANCEDSTATUSCODES");
                self.say("250 DSN");
            }
            "HELO" | "RSET" => {
                self.mail = None;
                self.say("250 2.0.0 Ok");
            }
            "NOOP" => self.say("250 2.0.0 Ok"),
            "MAIL" if self.mail.is_some() => self.say("503 5.5.1 nested MAIL command"),
            "MAIL" => match path(line) {
                Some(from) => {
                    self.mail = Some(Envelope { from, envid: parameter(line, "ENVID"), ..Envelope::default() });
                    self.say("250 2.1.0 Ok");
                }
                None => self.say("501 5.5.4 Syntax: MAIL FROM:<address>"),
            },
            "RCPT" => match (path(line), self.mail.as_mut()) {
                (_, None) => self.say("503 5.5.1 need MAIL command"),
                (Some(to), Some(mail)) if !to.is_empty() => {
                    let notify = parameter(line, "NOTIFY").unwrap_or_default().to_ascii_uppercase();
                    mail.notify_success |= notify.contains("SUCCESS");
                    mail.to.push(to);
                    self.say("250 2.1.5 Ok");
                }
                _ => self.say("501 5.5.4 Syntax: RCPT TO:<address>"),
            },
            _ => self.say("502 5.5.2 command not recognized"),
        }
    }

    async fn data(&mut self, server: &Arc<Server>) -> io::Result<Next> {
        if self.mail.as_ref().is_none_or(|mail| mail.to.is_empty()) {
            self.say("554 5.5.1 no valid recipients");
            return Ok(Next::Go);
        }
        self.say("354 End data with <CR><LF>.<CR><LF>");
        self.flush().await?;
        let content = self.content().await?;
        let envelope = self.mail.take().unwrap_or_default();
        self.judge(server, &envelope, &content).await
    }

    async fn content(&mut self) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            let start = content.len();
            if self.io.read_until(b'\n', &mut content).await? == 0 || content.len() > MAX_MAIL {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if content[start..] == *b".\r\n" {
                content.truncate(start);
                return Ok(content);
            }
            if content[start] == b'.' {
                content.remove(start);
            }
        }
    }

    async fn judge(&mut self, server: &Arc<Server>, envelope: &Envelope, content: &[u8]) -> io::Result<Next> {
        let behaviour = server.behaviour.get();
        let parsed = MessageParser::default().parse_headers(content);
        let id = parsed.as_ref().and_then(|m| m.message_id()).map(|id| id.split('@').next().unwrap_or(id).to_owned());
        let subject = parsed.as_ref().and_then(|m| m.subject()).unwrap_or_default();
        let to: Vec<&str> = envelope.to.iter().map(String::as_str).collect();
        let message = Message { client_id: id.as_deref(), to: &to, text: subject, parts: 1 };
        let marks = message.marks(behaviour.by);
        let now = server.clock.now();
        let verdict = server.ledger().judge(&behaviour, &message, marks, now);
        let turn = match &verdict {
            Verdict::Throttled => 1,
            Verdict::Temporary(turn) | Verdict::Permanent(turn) => *turn,
            Verdict::Accepted(accepted) => accepted.turn,
        };
        tokio::time::sleep(delay(&behaviour, marks, turn)).await;
        let accepted = match verdict {
            Verdict::Throttled => {
                self.say("421 4.7.0 too much, try again later");
                return Ok(Next::Close);
            }
            Verdict::Temporary(_) => {
                self.say("451 4.3.0 busy, try again later");
                return Ok(Next::Go);
            }
            Verdict::Permanent(_) => {
                self.say("550 5.1.1 user unknown");
                return Ok(Next::Go);
            }
            Verdict::Accepted(accepted) => accepted,
        };
        self.keep(server, &accepted, content).await?;
        if !accepted.repeated {
            let words = words(&behaviour, marks.key, accepted.turn);
            bounce::schedule(server, envelope, &String::from_utf8_lossy(content), words);
        }
        match accepted.fate {
            Fate::Answered => {
                self.say(&format!("250 2.0.0 Ok: queued as {:08X}", accepted.client & 0xffff_ffff));
                Ok(Next::Go)
            }
            Fate::Lost => Ok(self.tear(b"")),
            Fate::Half => Ok(self.tear(b"25")),
        }
    }

    /// Ends the connection in the middle of an answer.
    fn tear(&mut self, start: &[u8]) -> Next {
        self.answers.extend_from_slice(start);
        Next::Close
    }

    async fn keep(&self, server: &Server, accepted: &Accepted, content: &[u8]) -> io::Result<()> {
        let Some(dir) = &server.dir else { return Ok(()) };
        let name = format!("{}-{}.eml", Uuid::from_u128(accepted.client), accepted.n);
        tokio::fs::write(dir.join(name), content).await
    }
}

/// What stands in `<…>`.
fn path(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    Some(path.to_owned())
}

fn parameter(line: &str, name: &str) -> Option<String> {
    let (_, parameters) = line.split_once('>')?;
    parameters.split_whitespace().find_map(|p| {
        let (key, value) = p.split_once('=')?;
        key.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}
