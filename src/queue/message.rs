//! A message of the queue: `{"batch":7,"epoch":3}`, and nothing about anybody.

use serde::Deserialize;

use crate::store::outbox::Ticket;

#[derive(Deserialize)]
struct Message {
    #[serde(deserialize_with = "natural")]
    batch: i64,
    #[serde(deserialize_with = "natural")]
    epoch: i64,
}

/// A number that is not negative.
fn natural<'de, D: serde::Deserializer<'de>>(value: D) -> Result<i64, D::Error> {
    i64::try_from(u64::deserialize(value)?).map_err(serde::de::Error::custom)
}

/// The bytes of a message.
#[must_use]
pub fn encode(ticket: Ticket) -> Vec<u8> {
    format!("{{\"batch\":{},\"epoch\":{}}}", ticket.batch, ticket.epoch).into_bytes()
}

/// What a message says.
///
/// # Errors
/// Why it is none of ours.
pub fn decode(bytes: &[u8]) -> Result<Ticket, String> {
    let message: Message = serde_json::from_slice(bytes).map_err(|e| format!("not a batch message: {e}"))?;
    Ok(Ticket { batch: message.batch, epoch: message.epoch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written_and_anything_else_is_refused() {
        let ticket = Ticket { batch: 7, epoch: 3 };
        assert_eq!(encode(ticket), br#"{"batch":7,"epoch":3}"#);
        assert_eq!(decode(&encode(ticket)), Ok(ticket));
        assert_eq!(decode(br#"{"epoch":3,"batch":7,"more":true}"#), Ok(ticket), "a newer gong's");
        for poison in [&b""[..], b"\xff\xfe", b"[]", b"{}", br#"{"batch":-1,"epoch":0}"#, br#"{"batch":"7","epoch":3}"#]
        {
            assert!(decode(poison).unwrap_err().starts_with("not a batch message: "));
        }
    }
}
