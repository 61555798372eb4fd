//! Who sends, and the number to call back: no text leaves without them.

use std::borrow::Cow;

use handlebars::html_escape;

use super::compose::Sender;
use crate::domain::item::Content;
use crate::domain::recipient::{Phone, several};

/// What stands at the end of a text that does not say it itself.
pub(super) struct Closing {
    unit: String,
    phone: String,
    /// The same unit by its other names.
    names: Vec<String>,
    /// Numbers that answer, as they are written.
    phones: Vec<String>,
    /// The signature before every text names the unit.
    is_signed: bool,
}

impl Closing {
    pub(super) fn new(content: &Content, sender: &Sender<'_>) -> Self {
        let unit = content.issuer.clone().unwrap_or_else(|| sender.name.to_owned());
        let phone = if content.phone.trim().is_empty() { sender.phone } else { &content.phone };
        let objections = content.objection_phone.as_deref().unwrap_or_default();
        let phones = [phone, sender.phone, objections].into_iter().flat_map(several).map(str::to_owned).collect();
        let names = [unit.as_str(), sender.name].into_iter().filter(|n| !n.is_empty()).map(str::to_owned).collect();
        Self { unit, phone: phone.to_owned(), names, phones, is_signed: !sender.signature.is_empty() }
    }

    /// The text, with the unit and its number behind it where it lacks them.
    pub(super) fn close<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let text = text.trim();
        let Some(tail) = self.tail(text, self.is_signed) else { return text.into() };
        let stop = if text.ends_with(['。', '！', '？', '；', '.', '!', '?']) { "" } else { "。" };
        format!("{text}{stop}{tail}").into()
    }

    /// The same for the HTML of a mail: a paragraph of its own at the end of the body.
    pub(super) fn close_html<'t>(&self, html: &'t str) -> Cow<'t, str> {
        let Some(tail) = self.tail(&visible(html), false) else { return html.into() };
        let line = format!("<p style=\"max-width:640px;margin:16px auto;padding:0 16px\">{}</p>", html_escape(&tail));
        // Letters are lowered one by one, so places stay where they are.
        let end = html.to_ascii_lowercase().rfind("</body>").unwrap_or(html.len());
        format!("{}{line}{}", &html[..end], &html[end..]).into()
    }

    /// What the text lacks of unit and number; none where it has both.
    fn tail(&self, text: &str, is_signed: bool) -> Option<String> {
        let names_unit = is_signed || self.unit.is_empty() || self.names.iter().any(|n| text.contains(n));
        match (names_unit, self.phone.is_empty() || self.has_phone(text)) {
            (true, true) => None,
            (false, true) => Some(self.unit.clone()),
            (true, false) => Some(format!("咨询电话{}", self.phone)),
            (false, false) => Some(format!("{}，咨询电话{}", self.unit, self.phone)),
        }
    }

    /// One of the unit's own numbers, or any that can be called.
    fn has_phone(&self, text: &str) -> bool {
        let number = |c: char| c.is_ascii_digit() || c == '-';
        self.phones.iter().any(|phone| text.contains(phone))
            || text.split(|c| !number(c)).any(|run| run.len() >= 10 && Phone::parse(run).is_some())
    }
}

/// What people see of a page: its body without tags. A name in the head or in an
/// attribute is not seen.
fn visible(html: &str) -> String {
    let lower = html.to_ascii_lowercase();
    let body = lower.find("<body").map_or(html, |at| &html[at..]);
    let mut seen = String::with_capacity(body.len());
    let mut inside = false;
    for letter in body.chars() {
        match letter {
            '<' => inside = true,
            '>' if inside => inside = false,
            _ if !inside => seen.push(letter),
            _ => {}
        }
    }
    // As handlebars writes them.
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#x27;", "'"), ("&#x60;", "`"), ("&#x3D;", "="), ("&amp;", "&")]
        .iter()
        .fold(seen, |seen, (written, letter)| seen.replace(written, letter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::item::ItemKind;

    fn closing(signature: &str) -> Closing {
        let mut content = Content::new(ItemKind::Notice);
        content.phone = "0873-5550000、12345".to_owned();
        Closing::new(&content, &Sender { name: "河口县农业农村局", phone: "0873-5551111", signature, mark: "" })
    }

    #[test]
    fn a_text_gets_what_it_lacks_and_nothing_else() {
        let close = |signature: &str, text: &str| closing(signature).close(text).into_owned();
        assert_eq!(close("", "补贴已发放"), "补贴已发放。河口县农业农村局，咨询电话0873-5550000、12345");
        assert_eq!(close("【河口农业】", "补贴已发放。"), "补贴已发放。咨询电话0873-5550000、12345");
        assert_eq!(close("", "请致电12345！"), "请致电12345！河口县农业农村局");
        for whole in ["河口县农业农村局：请致电0873-5551111", "河口县农业农村局：村干部电话13900000001"]
        {
            assert_eq!(close("", whole), whole);
        }
        assert_eq!(close("【x】", "20260601发放100.50元"), "20260601发放100.50元。咨询电话0873-5550000、12345");
    }

    #[test]
    fn the_html_of_a_mail_gets_the_same() {
        let mut content = Content::new(ItemKind::Notice);
        content.issuer = Some("甲乙<联合>办".to_owned());
        content.phone = "0873-5550000".to_owned();
        let closing = Closing::new(&content, &Sender { name: "", phone: "", signature: "【x】", mark: "" });
        let page = "<html><head><title>甲乙&lt;联合&gt;办</title></head><BODY><p title=\"0873-5550000\">停水</p></BODY></html>";
        let closed = closing.close_html(page);
        assert!(closed.starts_with("<html>") && closed.ends_with("</p></BODY></html>"), "{closed}");
        assert!(closed.contains(">甲乙&lt;联合&gt;办，咨询电话0873-5550000</p>"), "{closed}");
        assert_eq!(closing.close_html(&closed), closed);
        assert_eq!(closing.close_html("<p>停水，请看公告</p>").matches("咨询电话").count(), 1);
    }
}
