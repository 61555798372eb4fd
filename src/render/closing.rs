//! Who sends, and the number to call back: no text leaves without them.

use std::borrow::Cow;

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
        let names_unit = self.is_signed || self.unit.is_empty() || self.names.iter().any(|n| text.contains(n));
        let tail = match (names_unit, self.phone.is_empty() || self.has_phone(text)) {
            (true, true) => return text.into(),
            (false, true) => self.unit.clone(),
            (true, false) => format!("咨询电话{}", self.phone),
            (false, false) => format!("{}，咨询电话{}", self.unit, self.phone),
        };
        let stop = if text.ends_with(['。', '！', '？', '；', '.', '!', '?']) { "" } else { "。" };
        format!("{text}{stop}{tail}").into()
    }

    /// One of the unit's own numbers, or any that can be called.
    fn has_phone(&self, text: &str) -> bool {
        let number = |c: char| c.is_ascii_digit() || c == '-';
        self.phones.iter().any(|phone| text.contains(phone))
            || text.split(|c| !number(c)).any(|run| run.len() >= 10 && Phone::parse(run).is_some())
    }
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
}
