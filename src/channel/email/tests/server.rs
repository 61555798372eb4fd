//! A mail server that says what it is told to, with and without TLS.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::channel;
use crate::channel::Channel;

/// Answers by verb: `RCPT` → `550 5.1.1 …`; `.` is the end of the content. An answer
/// that begins with `!` is not sent: the connection closes; after one with `~`, too.
pub type Script = BTreeMap<&'static str, &'static str>;

#[derive(Default)]
pub struct Seen {
    pub connections: usize,
    /// Every command line.
    pub lines: Vec<String>,
    pub mails: Vec<String>,
    /// Times that several commands came at once.
    pub pipelined: usize,
}

pub struct Server {
    pub port: u16,
    pub seen: Arc<Mutex<Seen>>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Guard {
    None,
    Starttls,
    Wrapped,
}

impl Server {
    /// `hello` are the lines of the answer to EHLO; an answer of a script holds for the
    /// first `times` mails.
    pub async fn start(hello: &'static [&'static str], script: Script, times: usize, guard: Guard) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let for_task = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                for_task.lock().unwrap().connections += 1;
                let (seen, script) = (Arc::clone(&for_task), script.clone());
                tokio::spawn(async move {
                    let mut talk = Talk { hello, script, times, seen, guarded: guard == Guard::Wrapped };
                    if guard == Guard::Wrapped {
                        if let Ok(stream) = acceptor().accept(socket).await {
                            talk.serve(BufReader::new(stream), true).await;
                        }
                    } else if let Some(socket) = talk.serve(BufReader::new(socket), true).await {
                        let stream = acceptor().accept(socket).await.unwrap();
                        talk.guarded = true;
                        talk.serve(BufReader::new(stream), false).await;
                    }
                });
            }
        });
        Self { port, seen }
    }

    pub async fn plain(hello: &'static [&'static str], script: &[(&'static str, &'static str)], times: usize) -> Self {
        Self::start(hello, script.iter().copied().collect(), times, Guard::None).await
    }

    pub fn channel(&self, more: &str) -> Arc<dyn Channel> {
        channel(&format!("host = '127.0.0.1', port = '{}', tls = 'none'{more}", self.port)).unwrap()
    }
}

fn acceptor() -> TlsAcceptor {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let pem = include_bytes!("localhost.pem");
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(pem).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

struct Talk {
    hello: &'static [&'static str],
    script: Script,
    times: usize,
    seen: Arc<Mutex<Seen>>,
    guarded: bool,
}

impl Talk {
    /// Serves until the end; the socket comes back where STARTTLS is to follow.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&mut self, mut io: BufReader<S>, greet: bool) -> Option<S> {
        if greet && !self.answer(&mut io, "greeting", "220 test ESMTP").await {
            return None;
        }
        loop {
            let mut line = String::new();
            if io.read_line(&mut line).await.unwrap_or(0) == 0 {
                return None;
            }
            let line = line.trim_end().to_owned();
            let verb = line.split([' ', ':']).next().unwrap().to_owned();
            {
                let mut seen = self.seen.lock().unwrap();
                seen.lines.push(line.clone());
                seen.pipelined += usize::from(!io.buffer().is_empty());
            }
            match verb.as_str() {
                "EHLO" => {
                    let tls = if self.guarded { "250-GUARDED\r\n" } else { "" };
                    let said = self.hello.iter().fold(tls.to_owned(), |all, line| all + "250-" + line + "\r\n");
                    io.get_mut().write_all(format!("{said}250 8BITMIME\r\n").as_bytes()).await.unwrap();
                }
                "STARTTLS" => {
                    self.answer(&mut io, "STARTTLS", "220 go").await;
                    return Some(io.into_inner());
                }
                "DATA" => {
                    if !self.answer(&mut io, "DATA", "354 go on").await {
                        return None;
                    }
                    if self.scripted("DATA").is_some_and(|a| !a.starts_with('3')) {
                        continue;
                    }
                    let mut mail = String::new();
                    while !mail.ends_with("\r\n.\r\n") && mail != ".\r\n" {
                        if io.read_line(&mut mail).await.unwrap_or(0) == 0 {
                            return None;
                        }
                    }
                    let go_on = self.answer(&mut io, ".", "250 2.0.0 Ok: queued").await;
                    if mail.len() > 3 {
                        self.seen.lock().unwrap().mails.push(mail);
                    }
                    if !go_on {
                        return None;
                    }
                }
                "QUIT" => return None,
                "AUTH" if !self.answer(&mut io, "AUTH", "235 2.7.0 welcome").await => return None,
                "AUTH" => {}
                _ if !self.answer(&mut io, &verb, "250 2.1.0 Ok").await => return None,
                _ => {}
            }
        }
    }

    fn scripted(&self, verb: &str) -> Option<&'static str> {
        let spent = self.seen.lock().unwrap().mails.len() >= self.times;
        self.script.get(verb).copied().filter(|_| !spent)
    }

    async fn answer<S: AsyncRead + AsyncWrite + Unpin>(&self, io: &mut BufReader<S>, verb: &str, usual: &str) -> bool {
        let said = self.scripted(verb).unwrap_or(usual);
        if said.starts_with('!') {
            return false;
        }
        let last = said.starts_with("421") || said.starts_with('~');
        io.get_mut().write_all(format!("{}\r\n", said.trim_start_matches('~')).as_bytes()).await.is_ok() && !last
    }
}
