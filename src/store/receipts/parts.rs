//! Messages in parts: what is said of one part waits for the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::json;

use super::Claim;
use crate::domain::delivery::Word;
use crate::store::{Result, Tx};

/// Dispatch, ordinal and attempt: one message that was handed over.
type Message = (i64, i64, i32);

const NOTE_SQLITE: &str = "UPDATE handles SET state = j.state FROM (SELECT value->>0 AS dn, value->>1 AS o, value->>2 AS attempt, \
     value->>3 AS part, value->>4 AS state FROM json_each($2)) j WHERE handles.channel = $1 AND handles.dispatch_no = j.dn \
     AND handles.ordinal = j.o AND handles.attempt = j.attempt AND handles.part = j.part AND handles.state < j.state";
/// Says `parts > 1`, as its index does.
pub(in crate::store) const NOTE_POSTGRES: &str = "UPDATE handles SET state = j.state \
     FROM unnest($2::bigint[], $3::bigint[], $4::int[], $5::int[], $6::int[]) AS j (dn, o, attempt, part, state) \
     WHERE handles.channel = $1 AND handles.dispatch_no = j.dn AND handles.ordinal = j.o AND handles.attempt = j.attempt \
     AND handles.part = j.part AND handles.parts > 1 AND handles.state < j.state";

const SAID_SQLITE: &str = "SELECT h.dispatch_no, h.ordinal, h.attempt, MAX(h.state) FROM (SELECT value->>0 AS dn, value->>1 AS o, \
     value->>2 AS attempt FROM json_each($2)) j JOIN handles h ON h.dispatch_no = j.dn AND h.ordinal = j.o AND h.attempt = j.attempt \
     WHERE h.channel = $1 GROUP BY h.dispatch_no, h.ordinal, h.attempt, h.part";
pub(in crate::store) const SAID_POSTGRES: &str = "SELECT h.dispatch_no, h.ordinal, h.attempt, MAX(h.state) \
     FROM unnest($2::bigint[], $3::bigint[], $4::int[]) AS j (dn, o, attempt) \
     JOIN handles h ON h.dispatch_no = j.dn AND h.ordinal = j.o AND h.attempt = j.attempt \
     WHERE h.channel = $1 AND h.parts > 1 GROUP BY h.dispatch_no, h.ordinal, h.attempt, h.part";

impl Tx {
    /// A message in parts is delivered when all its parts are: a claim about a part
    /// stays with the part until the last one agrees. One undelivered part is enough
    /// to call the message undelivered. A message that was repeated has several
    /// handles a part; whichever copy arrives will do.
    pub(super) async fn join_parts(&mut self, channel: i32, claims: &[Claim]) -> Result<Vec<Claim>> {
        let mut strongest: BTreeMap<(Message, i32), i32> = BTreeMap::new();
        for claim in claims {
            if let Some((part, _)) = claim.part {
                let noted = strongest.entry((message(claim), part)).or_default();
                *noted = (*noted).max(claim.word as i32 + 1);
            }
        }
        if strongest.is_empty() {
            return Ok(claims.to_vec());
        }
        self.note_parts(channel, &strongest).await?;
        let said = self.said_of(channel, strongest.keys().map(|k| k.0).collect()).await?;
        let agreed = |claim: &Claim, parts: i32| {
            if claim.word < Word::Delivered {
                return Some(claim.word);
            }
            let agree =
                |word: &Word| said.get(&message(claim)).map_or(0, |s| s.iter().filter(|s| **s > *word as i32).count());
            // The last part may be read where the others are delivered: so is the whole.
            let words = [Word::Confirmed, Word::Read, Word::Delivered];
            words.into_iter().find(|word| agree(word) >= usize::try_from(parts).unwrap_or(usize::MAX))
        };
        let whole = |claim: &Claim| {
            let word = claim.part.map_or(Some(claim.word), |(_, parts)| agreed(claim, parts))?;
            Some(Claim { part: None, word, ..*claim })
        };
        Ok(claims.iter().filter_map(whole).collect())
    }

    async fn note_parts(&mut self, channel: i32, strongest: &BTreeMap<(Message, i32), i32>) -> Result<()> {
        match self {
            Self::Sqlite(t) => {
                let rows: Vec<_> =
                    strongest.iter().map(|(((d, o, attempt), part), word)| (d, o, attempt, part, word)).collect();
                sqlx::query(NOTE_SQLITE).bind(channel).bind(json!(rows).to_string()).execute(&mut **t).await?;
            }
            Self::Postgres(t) => {
                sqlx::query(NOTE_POSTGRES)
                    .bind(channel)
                    .bind(strongest.keys().map(|k| k.0.0).collect::<Vec<_>>())
                    .bind(strongest.keys().map(|k| k.0.1).collect::<Vec<_>>())
                    .bind(strongest.keys().map(|k| k.0.2).collect::<Vec<_>>())
                    .bind(strongest.keys().map(|k| k.1).collect::<Vec<_>>())
                    .bind(strongest.values().copied().collect::<Vec<_>>())
                    .execute(&mut **t)
                    .await?;
            }
        }
        Ok(())
    }

    /// What is known of each part of these messages, one number a part.
    async fn said_of(&mut self, channel: i32, messages: BTreeSet<Message>) -> Result<HashMap<Message, Vec<i32>>> {
        let rows: Vec<(i64, i64, i32, i32)> = match self {
            Self::Sqlite(t) => {
                let list = json!(messages).to_string();
                sqlx::query_as(SAID_SQLITE).bind(channel).bind(list).fetch_all(&mut **t).await?
            }
            Self::Postgres(t) => {
                sqlx::query_as(SAID_POSTGRES)
                    .bind(channel)
                    .bind(messages.iter().map(|m| m.0).collect::<Vec<_>>())
                    .bind(messages.iter().map(|m| m.1).collect::<Vec<_>>())
                    .bind(messages.iter().map(|m| m.2).collect::<Vec<_>>())
                    .fetch_all(&mut **t)
                    .await?
            }
        };
        let mut said: HashMap<Message, Vec<i32>> = HashMap::new();
        for (dispatch_no, ordinal, attempt, state) in rows {
            said.entry((dispatch_no, ordinal, attempt)).or_default().push(state);
        }
        Ok(said)
    }
}

fn message(claim: &Claim) -> Message {
    (claim.dispatch_no, claim.ordinal, claim.attempt)
}
