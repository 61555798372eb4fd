//! Items that other systems hand in: entered once for each key of theirs, and answered
//! the same whenever they are handed in again.

use serde_json::json;

use super::operators::Operator;
use super::{Result, Store};
use crate::domain::item::Content;

/// Which letter of which system an item came with.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    pub source: &'a str,
    /// The source's own word for this letter.
    pub key: &'a str,
    pub body: &'a str,
}

/// What was said to an earlier letter of this key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// The same letter: this was the answer.
    Same(String),
    /// Another letter under the same key.
    Other,
}

impl Store {
    /// What became of this key before; `None` when it is new.
    pub async fn earlier_letter(&self, letter: Letter<'_>) -> Result<Option<Earlier>> {
        let sql = "SELECT body_hash, answer FROM intake WHERE source = $1 AND key = $2";
        let found: Option<(Vec<u8>, String)> =
            read!(self, |db| sqlx::query_as(sql).bind(letter.source).bind(letter.key).fetch_optional(db).await)?;
        let hash = self.letter_hash(letter);
        Ok(found.map(|(earlier, answer)| if earlier == hash { Earlier::Same(answer) } else { Earlier::Other }))
    }

    /// Enters the item of a letter as a draft, and keeps the answer (which `answer` makes
    /// of its id and number) in the same transaction. `None` when the same key was
    /// entered meanwhile: then nothing happened.
    pub async fn enter_letter(
        &self,
        letter: Letter<'_>,
        content: &Content,
        by: &Operator,
        answer: impl FnOnce(&str, i64) -> String + Send,
    ) -> Result<Option<String>> {
        let targets = self.relation_targets(content).await?;
        let now = self.now();
        let mut tx = self.begin().await?;
        let audited = json!({ "version": 1, "source": letter.source });
        let (id, no) = tx.insert_item((content, &targets), by, (now, &audited)).await?;
        let answer = answer(&id, no);
        let sql = "INSERT INTO intake (source, key, body_hash, answer, item_id, at) VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT DO NOTHING";
        let written = exec!(
            &mut tx,
            sqlx::query(sql)
                .bind(letter.source)
                .bind(letter.key)
                .bind(self.letter_hash(letter))
                .bind(&answer)
                .bind(&id)
                .bind(now)
        )?;
        if written == 0 {
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(answer))
    }

    /// Keyed, for a letter may hold what must not be guessed from its hash.
    fn letter_hash(&self, letter: Letter<'_>) -> Vec<u8> {
        self.vault.hash("intake", letter.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::item::ItemKind;
    use crate::store::operators::Role;
    use crate::store::testing::stores;

    #[tokio::test]
    async fn a_key_is_entered_once_even_by_two_at_the_same_time() {
        for test in stores().await {
            let store = &test.store;
            let unit = store.save_unit("气象局", "").await.unwrap();
            store.save_operator("气象接口", &unit, &[Role::Author]).await.unwrap();
            let by = store.acting(Some("气象接口")).await.unwrap();
            let letter = Letter { source: "weather", key: "w-1", body: "{\"a\":1}" };
            assert_eq!(store.earlier_letter(letter).await.unwrap(), None);
            let content = Content::new(ItemKind::Notice);
            let enter = || store.enter_letter(letter, &content, &by, |id, no| format!("{no} {id}"));
            let (one, two) = tokio::join!(enter(), enter());
            let (one, two) = (one.unwrap(), two.unwrap());
            assert!(one.is_some() != two.is_some(), "{}: {one:?} {two:?}", test.engine);
            let answer = one.or(two).unwrap();
            assert_eq!(store.earlier_letter(letter).await.unwrap(), Some(Earlier::Same(answer.clone())));
            assert_eq!(
                store.earlier_letter(Letter { body: "{\"a\":2}", ..letter }).await.unwrap(),
                Some(Earlier::Other)
            );
            assert_eq!(store.earlier_letter(Letter { source: "police", ..letter }).await.unwrap(), None);
            let items = store.items().await.unwrap();
            assert_eq!(items.len(), 1, "{}: whoever came second left nothing behind", test.engine);
            assert_eq!(answer, format!("{} {}", items[0].no, items[0].id));
            assert_eq!((items[0].state.as_str(), items[0].created_by.as_str()), ("draft", "气象接口"));
            assert!(store.audit_tail(9).await.unwrap().iter().any(|e| e.detail.contains("weather")));
            assert!(store.verify_audit().await.unwrap().is_ok());
        }
    }
}
