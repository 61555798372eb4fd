//! What must be mended in an item before anybody reviews it, whoever hands it in.

use serde::Serialize;

use crate::domain::audience;
use crate::domain::item::{Content, Lines, Place, validate};
use crate::say;
use crate::store::{Result, Store, StoreError};

/// One thing to mend.
#[derive(Debug, Serialize)]
pub struct Trouble {
    /// The field, by its stable name.
    pub field: &'static str,
    pub text: String,
    /// Its line in the file; of what is missing, the line below which it belongs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

/// Says where in the file each stands.
pub fn place(problems: &mut [Trouble], lines: &Lines) {
    for problem in problems {
        let text = &problem.text;
        match lines.place(problem.field) {
            Some(Place::At(line)) => {
                problem.text = say!("第 {line} 行：{text}", "line {line}: {text}");
                problem.line = Some(line);
            }
            Some(Place::After(line)) => {
                problem.text = say!("{text}（写在第 {line} 行之后）", "{text} (below line {line})");
                problem.line = Some(line);
            }
            None => {}
        }
    }
}

/// Everything that keeps `content` from review.
pub async fn problems(store: &Store, content: &Content) -> Result<Vec<Trouble>> {
    let mut all: Vec<Trouble> =
        validate(content).into_iter().map(|p| Trouble { field: p.field(), text: p.to_string(), line: None }).collect();
    for (field, text) in [("scope", &content.scope), ("audience", &content.audience)] {
        if let Some(Err(error)) = text.as_deref().map(audience::parse) {
            all.push(Trouble { field, text: error.to_string(), line: None });
        }
    }
    for (relation, target) in &content.relations {
        match store.item(target).await {
            Ok(_) => {}
            Err(StoreError::Refused(text)) => all.push(Trouble { field: relation.name(), text, line: None }),
            Err(other) => return Err(other),
        }
    }
    Ok(all)
}

/// Numbers of the unit itself, which may be published.
pub fn own_phones(content: &Content, unit_phone: &str) -> Vec<String> {
    [content.phone.as_str(), content.objection_phone.as_deref().unwrap_or_default(), unit_phone]
        .iter()
        .flat_map(|list| list.split(['、', '，', ',', '；', ';', '/']))
        .map(|phone| phone.trim().to_owned())
        .filter(|phone| !phone.is_empty())
        .collect()
}
