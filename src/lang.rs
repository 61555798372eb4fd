//! The language people read: Chinese first, English on request.
//!
//! Both wordings of a message stand side by side where it is used:
//! `say!("没有区域 {name}", "no region named {name}")`.

use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::say;

/// A language of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    Zh,
    En,
}

/// By its tag (`zh`, `en`) or by the name of a locale (`en_US.UTF-8`, `zh-CN`); an empty
/// name, as an emptied variable holds, is Chinese.
impl FromStr for Lang {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name.split(['-', '_', '.']).next() {
            Some("zh" | "") => Ok(Self::Zh),
            Some("en") => Ok(Self::En),
            _ => Err(say!("应为 zh 或 en", "expected zh or en")),
        }
    }
}

static CURRENT: AtomicU8 = AtomicU8::new(0);

/// Chooses the language of this process; `main` calls it once.
pub fn set(lang: Lang) {
    CURRENT.store(u8::from(lang == Lang::En), Ordering::Relaxed);
}

/// The language of this process.
#[must_use]
pub fn current() -> Lang {
    if CURRENT.load(Ordering::Relaxed) == 0 { Lang::Zh } else { Lang::En }
}

/// Formats the Chinese or the English wording; both capture variables inline.
#[macro_export]
macro_rules! say {
    ($zh:literal, $en:literal $(,)?) => {
        match $crate::lang::current() {
            $crate::lang::Lang::Zh => format!($zh),
            $crate::lang::Lang::En => format!($en),
        }
    };
}
