//! One SMTP connection: made, greeted, and then mail after mail.

use std::fmt::Write as _;
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::response::Response;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::class::{self, Refusal, Stage};
use super::message::Mail;
use super::settings::Settings;
use super::tls::{Tls, Wrapped};
use crate::channel::Class;
use crate::channel::http::forbidden;
use crate::say;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// An answer, or that none will come.
#[derive(Debug)]
pub(super) enum Reply {
    Yes(u16, String),
    No(u16, String),
    Broken(String),
}

/// Whether the content of a mail may come.
#[derive(Debug)]
pub(super) enum Opened {
    Granted,
    Refused(Stage, u16, String),
    Broken(String),
}

/// What was heard in one step.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub content: Option<Reply>,
    pub open: Option<Opened>,
}

/// What the server takes beyond the necessary.
#[derive(Clone, Copy)]
struct Offers {
    pipelining: bool,
    dsn: bool,
}

/// A connection that was greeted.
pub(super) struct Wire {
    smtp: AsyncSmtpConnection,
    patience: Duration,
    offers: Offers,
    notify_success: bool,
    /// A mail was begun and refused: the next one needs a RSET.
    open: bool,
    closed: bool,
    /// Mails whose content was sent.
    pub sent: usize,
}

impl Wire {
    /// Connects, greets, protects and logs in.
    pub(super) async fn connect(settings: &Settings, patience: Duration) -> Result<Self, Refusal> {
        let unreachable = |code: String| Refusal { class: Class::Unreachable, code };
        match timeout(patience.min(CONNECT), Self::open(settings, patience)).await {
            Ok(done) => done,
            Err(_) => Err(unreachable(say!("连接邮件服务器超时", "timed out connecting to the mail server"))),
        }
    }

    async fn open(settings: &Settings, patience: Duration) -> Result<Self, Refusal> {
        let nobody = || Refusal {
            class: Class::Unreachable,
            code: say!("连接不上邮件服务器", "cannot connect to the mail server"),
        };
        let socket = TcpStream::connect((settings.host.as_str(), settings.port)).await.map_err(|_| nobody())?;
        if socket.peer_addr().is_ok_and(|at| forbidden(at.ip())) {
            let code = say!("拒绝连接链路本地或云元数据地址", "refused to connect to a link-local or metadata address");
            return Err(Refusal { class: Class::Misconfigured, code });
        }
        // Without it the end of each mail waits 40 ms for an acknowledgement.
        socket.set_nodelay(true).map_err(|_| nobody())?;
        let stream: Box<dyn AsyncTokioStream> = match &settings.tls {
            Tls::Wrapped(connector, name) => {
                let wrapped = connector.connect(name.clone(), socket).await;
                Box::new(Wrapped(wrapped.map_err(|error| not_trusted(&error))?))
            }
            Tls::None | Tls::Starttls(_) => Box::new(socket),
        };
        let refused = |stage| move |error: Error| refusal(stage, &error);
        let mut smtp = AsyncSmtpConnection::connect_with_transport(stream, &settings.hello)
            .await
            .map_err(refused(Stage::Greeting))?;
        if let Tls::Starttls(with) = &settings.tls {
            smtp.starttls(with.clone(), &settings.hello).await.map_err(refused(Stage::Greeting))?;
        }
        if let Some(credentials) = &settings.credentials {
            let how = [Mechanism::Plain, Mechanism::Login];
            smtp.auth(&how, credentials).await.map_err(refused(Stage::Auth))?;
        }
        // lettre keeps of the first answer what it knows itself, and that is not enough.
        let hello = smtp.command(format!("EHLO {}\r\n", settings.hello)).await.map_err(refused(Stage::Greeting))?;
        let offers = |word: &str| {
            hello.message().any(|line| line.split_whitespace().next().is_some_and(|w| w.eq_ignore_ascii_case(word)))
        };
        let offers = Offers { pipelining: offers("PIPELINING"), dsn: offers("DSN") };
        let notify_success = settings.notify_success;
        Ok(Self { smtp, patience, offers, notify_success, open: false, closed: false, sent: 0 })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Sends the content of one mail and opens another, in one go where the server
    /// takes it so.
    pub(super) async fn step(&mut self, content: Option<&Mail>, opening: Option<&Mail>) -> Heard {
        let mut commands = Vec::with_capacity(5);
        if let Some(mail) = content {
            commands.push(mail.content().concat());
            self.sent += 1;
            self.open = false;
        }
        if let Some(mail) = opening {
            if self.open {
                commands.push("RSET\r\n".to_owned());
            }
            commands.extend(self.envelope(mail));
        }
        let mut replies = self.exchange(&commands, content.is_some()).await.into_iter();
        let content = content.map(|_| replies.next().unwrap_or(Reply::Broken(String::new())));
        self.closed |= matches!(content, Some(Reply::Broken(_) | Reply::No(421, _)));
        let open = match opening {
            None => None,
            Some(_) if self.closed => None,
            Some(_) => Some(self.opened(&mut replies).await),
        };
        Heard { content, open }
    }

    fn envelope(&self, mail: &Mail) -> [String; 3] {
        let (mut from, mut to) = (format!("MAIL FROM:<{}>", mail.sender), format!("RCPT TO:<{}>", mail.to));
        if self.offers.dsn {
            // RFC 3461: the bounce carries our id, and not the whole mail.
            let _ = write!(from, " RET=HDRS ENVID={}", mail.id);
            to.push_str(if self.notify_success { " NOTIFY=SUCCESS,FAILURE,DELAY" } else { " NOTIFY=FAILURE" });
        }
        [from + "\r\n", to + "\r\n", "DATA\r\n".to_owned()]
    }

    /// Writes commands and reads an answer to each; fewer where it broke, or where
    /// without pipelining one refusal makes the next command pointless.
    async fn exchange(&mut self, commands: &[String], content_first: bool) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(commands.len());
        let whole = if self.offers.pipelining { commands.concat() } else { String::new() };
        for (at, command) in commands.iter().enumerate() {
            let said = if self.offers.pipelining && at > 0 {
                timeout(self.patience, self.smtp.read_response()).await
            } else {
                timeout(self.patience, self.smtp.command(if self.offers.pipelining { &whole } else { command })).await
            };
            let reply = match said {
                Ok(said) => reply(said),
                Err(_) => Reply::Broken(say!("等待邮件服务器答复超时", "timed out waiting for the mail server")),
            };
            let broken = matches!(reply, Reply::Broken(_));
            let refused = matches!(reply, Reply::No(..)) && !self.offers.pipelining && !(content_first && at == 0);
            replies.push(reply);
            if broken || refused {
                break;
            }
        }
        replies
    }

    async fn opened(&mut self, replies: &mut impl Iterator<Item = Reply>) -> Opened {
        let reset = std::mem::take(&mut self.open);
        let mut refused = None;
        let stages = [Stage::Greeting, Stage::Mail, Stage::Rcpt, Stage::Data];
        for stage in &stages[usize::from(!reset)..] {
            match replies.next() {
                Some(Reply::Yes(..)) => {
                    self.open |= *stage == Stage::Mail;
                    // The server takes a mail of which it refused the recipient: an empty one.
                    if *stage == Stage::Data && refused.is_some() {
                        let end = timeout(self.patience, self.smtp.command(".\r\n")).await;
                        self.closed |= !matches!(end.map(reply), Ok(Reply::Yes(..) | Reply::No(..)));
                        self.open = false;
                    }
                }
                Some(Reply::No(code, text)) => {
                    self.closed |= code == 421;
                    refused.get_or_insert((*stage, code, text));
                }
                // Without pipelining nothing follows a refusal.
                None if refused.is_some() => break,
                Some(Reply::Broken(why)) => {
                    self.closed = true;
                    if refused.is_none() {
                        return Opened::Broken(why);
                    }
                    break;
                }
                None => {
                    self.closed = true;
                    return Opened::Broken(String::new());
                }
            }
        }
        refused.map_or(Opened::Granted, |(stage, code, text)| Opened::Refused(stage, code, text))
    }

    /// Says goodbye.
    pub(super) async fn quit(mut self) {
        if !self.closed {
            let _ = timeout(Duration::from_secs(1), self.smtp.quit()).await;
        }
    }
}

fn reply(said: Result<Response, Error>) -> Reply {
    match said {
        Ok(yes) => Reply::Yes(yes.code().into(), yes.message().collect::<Vec<_>>().join(" ")),
        Err(error) => match error.status() {
            Some(code) => Reply::No(code.into(), words(&error)),
            None => Reply::Broken(say!("与邮件服务器的连接中断", "the connection to the mail server broke")),
        },
    }
}

fn words(error: &Error) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}

fn refusal(stage: Stage, error: &Error) -> Refusal {
    if let Some(code) = error.status() {
        let (code, text) = (u16::from(code), words(error));
        return Refusal { class: class::of(stage, code, &text), code: class::word(code, &text, "") };
    }
    // No STARTTLS, no common way to log in, a certificate we do not trust.
    let wrong = error.is_client() || error.is_tls() || is_of_tls(error);
    let class = if wrong { Class::Misconfigured } else { Class::Unreachable };
    Refusal { class, code: class::mask(&error.to_string(), "") }
}

/// Whether TLS itself found fault, and not the network under it.
fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    io.and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some() || error.source().is_some_and(is_of_tls)
}

fn not_trusted(error: &std::io::Error) -> Refusal {
    let class = if is_of_tls(error) { Class::Misconfigured } else { Class::Unreachable };
    Refusal { class, code: class::mask(&format!("TLS: {error}"), "") }
}
