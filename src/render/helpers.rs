//! The helpers of templates: signatures, encodings, dates and small string work.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, JsonRender as _, Output, RenderContext, RenderErrorReason,
    ScopedJson,
};
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;

use crate::clock::{Clock, Millis};
use crate::say;
use crate::vault::hex;

/// What handlebars brings.
pub(super) const BUILT_IN: &[&str] =
    &["if", "unless", "each", "with", "lookup", "eq", "ne", "gt", "gte", "lt", "lte", "and", "or", "not", "len"];

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

type Made = Result<Json, RenderErrorReason>;
type Make = fn(&Call<'_, '_>) -> Made;

/// Name, function, and whether its result is written as it is: an encoder's is.
const OURS: &[(&str, Make, bool)] = &[
    ("hmac", hmac, false),
    ("md5", |c| digest::<md5::Md5>(c), false),
    ("sha1", |c| digest::<sha1::Sha1>(c), false),
    ("sha256", |c| digest::<sha2::Sha256>(c), false),
    ("base64", |c| Ok(STANDARD.encode(c.text(0)?.as_bytes()).into()), false),
    ("json", |c| Ok(c.value(0)?.to_string().into()), true),
    ("form", |c| Ok(form(&c.text(0)?).into()), true),
    ("pct", |c| Ok(percent(&c.text(0)?).into()), true),
    ("join", join, false),
    (
        "concat",
        |c| (0..c.helper.params().len()).map(|i| c.text(i)).collect::<Result<String, _>>().map(Json::from),
        false,
    ),
    ("lower", |c| Ok(c.text(0)?.to_lowercase().into()), false),
    ("upper", |c| Ok(c.text(0)?.to_uppercase().into()), false),
    ("date", date, false),
    ("left", left, false),
];

/// Whether gong has a helper of this name in every engine.
pub(super) fn is_ours(name: &str) -> bool {
    OURS.iter().any(|(ours, ..)| *ours == name)
}

pub(super) fn register(registry: &mut Handlebars<'static>, zone: &TimeZone) {
    for (name, make, bare) in OURS {
        let def = Def { name, make: *make, bare: *bare, zone: zone.clone(), clock: None };
        registry.register_helper(name, Box::new(def));
    }
}

pub(super) fn register_now(registry: &mut Handlebars<'static>, zone: &TimeZone, clock: &Clock) {
    let def = Def { name: "now", make: now, bare: false, zone: zone.clone(), clock: Some(clock.clone()) };
    registry.register_helper("now", Box::new(def));
}

struct Def {
    name: &'static str,
    make: Make,
    bare: bool,
    zone: TimeZone,
    clock: Option<Clock>,
}

/// One call of a helper.
struct Call<'a, 'rc> {
    name: &'static str,
    helper: &'a Helper<'rc>,
    zone: &'a TimeZone,
    now: Option<Millis>,
}

impl Call<'_, '_> {
    fn value(&self, index: usize) -> Result<&Json, RenderErrorReason> {
        let given = self.helper.param(index).ok_or(RenderErrorReason::ParamNotFoundForIndex(self.name, index))?;
        if given.is_value_missing() {
            return Err(RenderErrorReason::MissingVariable(given.relative_path().cloned()));
        }
        Ok(given.value())
    }

    fn text(&self, index: usize) -> Result<Cow<'_, str>, RenderErrorReason> {
        Ok(match self.value(index)? {
            Json::String(text) => Cow::Borrowed(text),
            other => Cow::Owned(other.render()),
        })
    }

    /// A parameter that has a default.
    fn choice(&self, index: usize, default: &'static str) -> Result<Cow<'_, str>, RenderErrorReason> {
        if self.helper.param(index).is_some() { self.text(index) } else { Ok(Cow::Borrowed(default)) }
    }

    fn wrong(&self, zh: &str, en: &str) -> RenderErrorReason {
        let name = self.name;
        RenderErrorReason::Other(say!("函数 {name}：{zh}", "helper {name}: {en}"))
    }

    fn not_base64(&self) -> RenderErrorReason {
        self.wrong("密钥不是 base64", "the key is not base64")
    }
}

impl Def {
    fn value(&self, helper: &Helper<'_>, data: &Context) -> Made {
        let now = self.clock.as_ref().map(|clock| {
            // One request has one time, however often it asks.
            data.data().get("now").and_then(Json::as_i64).unwrap_or_else(|| clock.now())
        });
        (self.make)(&Call { name: self.name, helper, zone: &self.zone, now })
    }
}

impl HelperDef for Def {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        data: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, handlebars::RenderError> {
        Ok(ScopedJson::Derived(self.value(helper, data)?))
    }

    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        data: &'rc Context,
        state: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let text = self.value(helper, data)?.render();
        if self.bare || state.is_disable_escape() {
            out.write(&text)?;
        } else {
            out.write(&registry.get_escape_fn()(&text))?;
        }
        Ok(())
    }
}

/// `{{hmac ALGORITHM KEY DATA [hex|base64] [key_encoding="hex|base64|whsec"]}}` (RFC 2104).
/// `whsec` is base64 after the prefix of Standard Webhooks, which may lack.
fn hmac(c: &Call<'_, '_>) -> Made {
    let (algorithm, key, data, encoding) = (c.text(0)?, c.text(1)?, c.text(2)?, c.choice(3, "hex")?);
    let encoding_of_key = c.helper.hash_get("key_encoding").and_then(|v| v.value().as_str()).unwrap_or_default();
    let key = match encoding_of_key {
        "" => key.as_bytes().to_vec(),
        "hex" => unhex(&key).ok_or_else(|| c.wrong("密钥不是十六进制", "the key is not hexadecimal"))?,
        "base64" => STANDARD.decode(key.as_bytes()).map_err(|_| c.not_base64())?,
        "whsec" => STANDARD.decode(key.strip_prefix("whsec_").unwrap_or(&key)).map_err(|_| c.not_base64())?,
        _ => return Err(c.wrong("密钥编码只有 hex、base64、whsec", "a key's encoding is hex, base64 or whsec")),
    };
    let made = match algorithm.as_ref() {
        "sha256" => mac::<Hmac<sha2::Sha256>>(&key, data.as_bytes()),
        "sha1" => mac::<Hmac<sha1::Sha1>>(&key, data.as_bytes()),
        "md5" => mac::<Hmac<md5::Md5>>(&key, data.as_bytes()),
        _ => return Err(c.wrong("算法只有 sha256、sha1、md5", "the algorithm is sha256, sha1 or md5")),
    };
    encoded(c, &made, &encoding)
}

fn mac<M: Mac + hmac::digest::KeyInit>(key: &[u8], data: &[u8]) -> Vec<u8> {
    <M as Mac>::new_from_slice(key)
        .map(|mut mac| {
            mac.update(data);
            mac.finalize().into_bytes().to_vec()
        })
        .unwrap_or_default()
}

fn digest<D: md5::Digest>(c: &Call<'_, '_>) -> Made {
    let made = D::digest(c.text(0)?.as_bytes());
    encoded(c, &made, &c.choice(1, "hex")?)
}

fn encoded(c: &Call<'_, '_>, bytes: &[u8], encoding: &str) -> Made {
    match encoding {
        "hex" => Ok(hex(bytes).into()),
        "base64" => Ok(STANDARD.encode(bytes).into()),
        _ => Err(c.wrong("编码只有 hex、base64", "the encoding is hex or base64")),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
}

fn join(c: &Call<'_, '_>) -> Made {
    let list = c.value(0)?.as_array().ok_or_else(|| c.wrong("第一项不是列表", "the first value is not a list"))?;
    let separator = c.choice(1, ",")?;
    let mut out = String::new();
    for (index, entry) in list.iter().enumerate() {
        if index > 0 {
            out.push_str(&separator);
        }
        out.push_str(&entry.render());
    }
    Ok(out.into())
}

/// `{{left TEXT N}}`: the first N characters.
fn left(c: &Call<'_, '_>) -> Made {
    let count = c.value(1)?.as_u64().ok_or_else(|| c.wrong("第二项不是字数", "the second value is not a count"))?;
    Ok(c.text(0)?.chars().take(usize::try_from(count).unwrap_or(usize::MAX)).collect::<String>().into())
}

/// `{{date MILLIS [strftime format]}}` in the site's time zone; 6月1日14时 without a format.
fn date(c: &Call<'_, '_>) -> Made {
    let time = c
        .value(0)?
        .as_i64()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .ok_or_else(|| c.wrong("不是时间（应为毫秒数）", "not a time (expected epoch milliseconds)"))?
        .to_zoned(c.zone.clone());
    let default = if time.minute() == 0 { "%-m月%-d日%-H时" } else { "%-m月%-d日%-H时%-M分" };
    jiff::fmt::strtime::format(c.choice(1, default)?.as_ref(), &time)
        .map(Json::from)
        .map_err(|_| c.wrong("时间格式有误（strftime）", "the format is not a strftime format"))
}

/// `{{now [unix|unix_ms|rfc3339|compact|strftime format]}}`.
fn now(c: &Call<'_, '_>) -> Made {
    let ms = c.now.unwrap_or_default();
    let time = Timestamp::from_millisecond(ms).unwrap_or_default();
    let format = c.choice(0, "unix")?;
    let local = time.to_zoned(c.zone.clone());
    Ok(match format.as_ref() {
        "unix" => ms.div_euclid(1000).to_string().into(),
        "unix_ms" => ms.to_string().into(),
        "rfc3339" => {
            jiff::fmt::strtime::format("%Y-%m-%dT%H:%M:%SZ", &time.to_zoned(TimeZone::UTC)).unwrap_or_default().into()
        }
        "compact" => jiff::fmt::strtime::format("%Y%m%d%H%M%S", &local).unwrap_or_default().into(),
        other => jiff::fmt::strtime::format(other, &local)
            .map_err(|_| c.wrong("时间格式有误", "the format is not known"))?
            .into(),
    })
}

/// Percent-encodes all but unreserved characters (RFC 3986 §2.3).
pub(super) fn percent(text: &str) -> String {
    // Most of what is sent is Chinese: three bytes a letter, three characters a byte.
    let mut out = String::with_capacity(3 * text.len());
    out.extend(utf8_percent_encode(text, RESERVED));
    out
}

/// Encodes for `application/x-www-form-urlencoded`: as [`percent`], a space as `+`.
pub(super) fn form(text: &str) -> String {
    percent(text).replace("%20", "+").replace('~', "%7E")
}

/// Escapes for the inside of a JSON string (RFC 8259 §7).
pub(super) fn json_inner(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for ch in text.chars() {
        match ch {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}
