//! Chat robots and a webhook receiver on one listener: WeCom, DingTalk, Feishu and
//! Standard Webhooks. Each checks credentials, lengths and pace as its vendor does and
//! answers with the vendor's codes; what was posted is kept, and shown at `GET /posts`.

mod book;
mod check;
mod quota;
mod vendor;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use hyper::HeaderMap;

use super::ledger::{Message, Verdict};
use super::serve::{Answer, Gateway, Torn, answer, finish, refused, throttled};
use crate::clock::Millis;
use book::Book;
use check::Asked;
use quota::Quotas;
pub use vendor::Vendor;
use vendor::Word;

/// What the posting side must know, and where posts go.
#[derive(Clone)]
pub struct MediaSetup {
    /// WeCom's key, and the access token of DingTalk and Feishu.
    pub key: String,
    /// What DingTalk and Feishu sign with; the webhook's, as `whsec_` and base64, is
    /// [`MediaSetup::whsec`].
    pub secret: String,
    /// A file for every post goes here.
    pub dir: Option<PathBuf>,
}

impl MediaSetup {
    /// The secret as Standard Webhooks writes it.
    #[must_use]
    pub fn whsec(&self) -> String {
        use base64::Engine as _;
        format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(self.secret.as_bytes()))
    }
}

/// The robots and the receiver, running.
pub struct Media {
    setup: MediaSetup,
    quotas: Mutex<Quotas>,
    book: Book,
}

impl Media {
    /// Makes the folder for posts.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(setup: MediaSetup) -> std::io::Result<Self> {
        let book = Book::new(setup.dir.clone())?;
        Ok(Self { setup, quotas: Mutex::default(), book })
    }

    /// All posts so far, as JSON.
    pub fn posts(&self) -> String {
        self.book.json()
    }

    /// Forgets posts and pace; files stay.
    pub fn reset(&self) {
        self.book.reset();
        *self.quotas.lock().unwrap_or_else(PoisonError::into_inner) = Quotas::default();
    }

    fn admits(&self, vendor: Vendor, now: Millis) -> bool {
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner).admit(vendor, now)
    }
}

impl Gateway {
    /// Answers a post to `vendor`; 404 where this gateway has no robots.
    ///
    /// # Errors
    /// When the behaviour is to close the connection without an answer.
    pub async fn post(
        &self,
        vendor: Vendor,
        (path, query): (&str, &str),
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Answer, Torn> {
        let Some(media) = &self.media else { return Ok(answer(404, "text/plain", "not found".to_owned())) };
        let said = |word| {
            let (status, text) = vendor.says(word);
            answer(status, "application/json", text)
        };
        let now = self.clock.now();
        let asked = Asked { vendor, path, query, headers, body, now };
        let post = match check::read(&media.setup, &asked) {
            Ok(post) => post,
            Err(word) => {
                self.ledger().refuse();
                return Ok(said(word));
            }
        };
        let behaviour = self.behaviour.get();
        if !media.admits(vendor, now) {
            self.ledger().throttle();
            return Ok(throttled(&behaviour, said(Word::TooFast)));
        }
        let message = Message { client_id: post.id.as_deref(), to: &[vendor.name()], text: &post.text, parts: 1 };
        let marks = message.marks(behaviour.by);
        let verdict = self.ledger().judge(&behaviour, &message, marks, now);
        let accepted = match verdict {
            Verdict::Throttled => return Ok(throttled(&behaviour, said(Word::TooFast))),
            Verdict::Temporary(turn) => return refused(&behaviour, marks, turn, said(Word::Busy)).await,
            Verdict::Permanent(turn) => return refused(&behaviour, marks, turn, said(Word::Refused)).await,
            Verdict::Accepted(accepted) => accepted,
        };
        if !accepted.repeated {
            media.book.keep(post, now).await;
        }
        let (status, text) = vendor.says(Word::Taken);
        finish(&behaviour, marks, &accepted, Vec::new(), (status, "application/json", text)).await
    }
}
