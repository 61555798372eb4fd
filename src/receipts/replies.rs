//! What people answer: an officer's 收到 confirms what is asked of that number, 退订 opts
//! out, and everything is kept for people to read.

use super::{IntakeError, ReceiptDesk};
use crate::channel::{AddressKind, Callback, Heard, Said};
use crate::domain::calls::{How, Meaning};
use crate::domain::recipient::Phone;
use crate::store::StoreError;
use crate::store::calls::Confirming;
use crate::store::optouts::{EVERY_KIND, OptOut};

impl ReceiptDesk {
    /// Reads, keeps and heeds the replies of one callback. When this returns they are on
    /// disk, and what it returns is what the gateway wants to hear. A repeated callback
    /// confirms nothing twice.
    pub async fn hear(&self, channel: &str, callback: &Callback<'_>) -> Result<Heard, IntakeError> {
        let way = self.ways.iter().find(|w| w.name == channel).ok_or(IntakeError::NoChannel)?;
        let heard = way.channel.replies(callback).inspect_err(|error| {
            self.counts.callback_refused(channel);
            tracing::warn!(channel, %error, "refused a callback of replies");
        })?;
        for said in &heard.said {
            let meaning = self.heed(said).await?;
            self.store.keep_reply(way.no, meaning, (&said.from, &said.text)).await?;
            tracing::info!(channel, meaning = meaning.name(), "somebody answered");
        }
        Ok(heard)
    }

    /// Does what a reply asks for; says what it was taken for.
    async fn heed(&self, said: &Said) -> Result<Meaning, StoreError> {
        let Some(phone) = Phone::mobile(&said.from) else { return Ok(Meaning::Other) };
        let meaning = Meaning::of(&said.text);
        match meaning {
            Meaning::Confirm => {
                let open = self.store.open_calls_of(&phone).await?;
                for call in &open {
                    let confirming = Confirming {
                        about_no: call.about_no,
                        region_no: call.region_no,
                        how: How::Reply,
                        question: Some((call.call_no, call.ordinal)),
                        operator: "",
                        at: self.store.now(),
                    };
                    self.store.confirm(&confirming).await?;
                }
                // Nothing was asked of this number: people may want to know what it meant.
                Ok(if open.is_empty() { Meaning::Other } else { meaning })
            }
            Meaning::OptOut => {
                let value = phone.as_str().to_owned();
                let out = OptOut { kind: AddressKind::Phone, value, item_kind: EVERY_KIND.to_owned() };
                self.store.add_opt_outs(&[out]).await?;
                Ok(meaning)
            }
            Meaning::Other => Ok(meaning),
        }
    }
}
