//! What stands between an item and its approval.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::app::App;
pub(super) use crate::app::review::{Trouble, own_phones, place, problems};
use crate::cli::{Context, output};
use crate::dispatch::job::{Site, compose};
use crate::domain::audience;
use crate::domain::item::Content;
use crate::domain::privacy::{self, Finding};
use crate::planner::today;
use crate::render::compose::Text;
use crate::render::{Medium, RenderError};
use crate::say;
use crate::store::dispatches::Mode;

/// Personal data, and where it stands.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    /// The field, or `file` where the source was scanned.
    pub field: &'static str,
    #[serde(flatten)]
    pub finding: Finding,
}

/// What may be in order later, or is meant so: told, not refused.
pub(super) async fn warnings(app: &App, content: &Content) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    let today = today(&app.store, &app.config.quiet()?);
    for text in [&content.scope, &content.audience].into_iter().flatten() {
        if let Ok(expr) = audience::parse(text)
            && let Err(error) = app.store.resolve_audience(&expr, &app.config.attributes, today).await
        {
            all.push(error.to_string());
        }
    }
    let unit = app.site();
    match preview(app, content, &unit) {
        Ok(preview) => all.extend(undeclared_warning(content, &preview)),
        Err(error) => all.push(error.to_string()),
    }
    Ok(all)
}

/// Personal data in a source file, by its lines and columns.
pub(super) fn source_findings(source: &str, own: &[String]) -> Vec<Found> {
    privacy::scan(source, own).into_iter().map(|finding| Found { field: "file", finding }).collect()
}

/// Personal data in the fields that are published.
pub(super) fn findings(content: &Content, own: &[String]) -> Vec<Found> {
    let actions = content.actions.join("\n");
    let fields = [
        ("title", content.title.as_str()),
        ("body", &content.body),
        ("sms", content.sms.as_deref().unwrap_or_default()),
        ("area_text", content.area_text.as_deref().unwrap_or_default()),
        ("actions", &actions),
        ("document_no", content.document_no.as_deref().unwrap_or_default()),
    ];
    fields
        .into_iter()
        .flat_map(|(field, text)| privacy::scan(text, own).into_iter().map(move |finding| Found { field, finding }))
        .collect()
}

/// One finding as people read it.
pub(super) fn describe(found: &Found) -> String {
    let Finding { kind, line, column, masked } = &found.finding;
    let (kind, field) = (kind.label(), found.field);
    say!(
        "{field} 第 {line} 行第 {column} 字：疑似{kind} {masked}",
        "{field}, line {line}, column {column}: {kind} {masked}"
    )
}

/// Tells of personal data at entry; approval will refuse it.
pub(super) fn print_findings(findings: &[Found]) {
    for found in findings {
        let found = describe(found);
        output::note(say!("个人信息：{found}", "personal data: {found}"));
    }
    if !findings.is_empty() {
        output::note(say!(
            "公开前请删去或打码（gong item edit），否则审核时须写明理由：--override-privacy 理由",
            "Remove or mask it before it is public (gong item edit); else approval needs a reason: --override-privacy REASON"
        ));
    }
}

/// Prints everything to mend.
pub(super) fn print_problems(context: &Context, file: &str, problems: &[Trouble]) -> anyhow::Result<()> {
    if context.global.json {
        return output::json(&json!({ "error": say!("没有录入", "not entered"), "problems": problems }));
    }
    let n = problems.len();
    output::note(say!("{file} 没有录入，有 {n} 处要改：", "{file} was not entered; {n} to mend:"));
    for problem in problems {
        output::note(format!("  {}: {}", problem.field, problem.text.replace('\n', "\n    ")));
    }
    Ok(())
}

/// The SMS of an item as it will go out.
pub(super) struct Preview {
    pub text: Text,
    /// Variables that every recipient needs, from a list.
    pub vars: Vec<String>,
}

/// Renders with the site's templates; variables of recipients stand as 〔name〕.
pub(super) fn preview(app: &App, content: &Content, unit: &Site) -> Result<Preview, RenderError> {
    let template = app.messages.text(Medium::Sms, content.kind.name(), content.sms.as_deref())?;
    let vars: Vec<String> = template.vars().iter().cloned().collect();
    let signature = app.registry.signature("sms").unwrap_or_default();
    let mut composer = compose(&app.messages, (Medium::Sms, content), unit, signature, Mode::Live)?;
    let values = |value: &dyn Fn(&str) -> Value| -> Value {
        vars.iter().map(|v| (v.clone(), value(v))).collect::<Map<_, _>>().into()
    };
    // A template may count with its variables, and a name in brackets is no number.
    let text = match composer.text(values(&|name| json!(format!("〔{name}〕")))) {
        Ok(text) => text,
        Err(RenderError::Failed { .. }) => composer.text(values(&|_| json!(1)))?,
        Err(other) => return Err(other),
    };
    Ok(Preview { text, vars })
}

/// Variables the text uses that the item declares otherwise.
pub(super) fn undeclared(content: &Content, preview: &Preview) -> Vec<String> {
    if content.variables.is_empty() {
        return Vec::new();
    }
    preview.vars.iter().filter(|v| !content.variables.contains(v)).cloned().collect()
}

fn undeclared_warning(content: &Content, preview: &Preview) -> Option<String> {
    let missing = undeclared(content, preview);
    if !missing.is_empty() {
        let missing = missing.join("、");
        return Some(say!(
            "短信用了变量 {missing}，但“变量”里没有写。请补上或改正拼写，否则不能审核",
            "the text uses {missing}, which `variables` does not name. Add or correct it, or it cannot be approved"
        ));
    }
    if preview.vars.is_empty() {
        return None;
    }
    let vars = preview.vars.join("、");
    Some(say!(
        "短信里每人不同的内容：{vars}。发布时要用带这些列的名单",
        "the text differs from person to person: {vars}. Sending it needs a list with these columns"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::item::ItemKind;

    #[test]
    fn the_units_own_numbers_are_no_finding() {
        let mut content = Content::new(ItemKind::Notice);
        content.phone = "13900001234、0873-3420000".to_owned();
        content.body = "咨询 13900001234，张三 13900005678".to_owned();
        let found = findings(&content, &own_phones(&content, "13900009999"));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].field, found[0].finding.masked.as_str()), ("body", "139****5678"));
        assert!(!describe(&found[0]).contains("13900005678"));
    }
}
