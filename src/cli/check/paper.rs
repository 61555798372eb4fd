//! Sheets: the fonts at hand for each part of an official document.

use super::Report;
use crate::config::Config;
use crate::say;

/// What prints each part, and what stands in for a font that is not there.
#[cfg(feature = "sheets")]
pub(super) fn fonts(report: &mut Report, config: &Config) {
    use crate::sheet::PressError;
    use crate::sheet::fonts::{Fonts, Found};

    let fonts = Fonts::find(&config.press().fonts, false);
    if !fonts.has_chinese() {
        report.warn(
            "fonts",
            PressError::NoFont.to_string(),
            say!("装好字体再打印张贴件", "install fonts before printing"),
        );
        return;
    }
    let parts = fonts.parts();
    let shown = |f: &Found| f.family.as_ref().map(|family| format!("{} {family}", f.part));
    let list = parts.iter().filter_map(shown).collect::<Vec<_>>().join("、");
    let text = say!("张贴件字体：{list}", "fonts of sheets: {list}");
    let lacking: Vec<String> = parts.iter().filter(|f| !f.fits).map(|f| f.part.clone()).collect();
    if lacking.is_empty() {
        report.good("fonts", text);
        return;
    }
    let lacking = lacking.join("、");
    report.add(
        "fonts",
        super::State::Good,
        text,
        say!(
            "没有{lacking}，用其他字体代替。正式行文可把单位的字体文件放进站点的 fonts/ 文件夹",
            "{lacking} not at hand, others stand in. For official papers put the unit's font files into the site's folder fonts/"
        ),
    );
}

#[cfg(not(feature = "sheets"))]
pub(super) fn fonts(report: &mut Report, _config: &Config) {
    report.good(
        "fonts",
        say!("本程序不含排版（cargo 特性 sheets）", "built without sheets (the cargo feature `sheets`)"),
    );
}
