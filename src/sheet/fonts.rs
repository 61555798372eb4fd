//! The fonts at hand: found in the site's and the system's folders, ranked by the part
//! they play in an official document, read when a page first needs them.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};
use typst::foundations::Bytes;
use typst::text::{Font, FontBook, FontInfo};
use typst::utils::LazyHash;

use crate::lang::{self, Lang};

/// Where systems keep fonts; a home folder's come with the settings.
const SYSTEM: [&str; 2] = ["/usr/share/fonts", "/usr/local/share/fonts"];
/// Folders below the first one that are looked into.
const DEPTH: usize = 6;

/// A part that a font plays (GB/T 9704-2012), and the families that play it, the best
/// first; what follows those of the part itself stands in for it.
struct Part {
    name: &'static str,
    zh: &'static str,
    /// How many of `families` are of the part itself.
    own: usize,
    families: &'static [&'static str],
}

const PARTS: [Part; 5] = [
    Part {
        name: "title",
        zh: "小标宋",
        own: 10,
        families: &[
            "FZXiaoBiaoSong-B05S",
            "FZXiaoBiaoSong-B05",
            "FZXiaoBiaoSong-B05 GBK",
            "方正小标宋简体",
            "方正小标宋_GBK",
            "STZhongsong",
            "Source Han Serif SC",
            "Source Han Serif CN",
            "Noto Serif CJK SC",
            "FandolSong",
            "SimSun",
            "AR PL SungtiL GB",
            "AR PL UMing CN",
        ],
    },
    Part {
        name: "fang",
        zh: "仿宋",
        own: 9,
        families: &[
            "FangSong_GB2312",
            "仿宋_GB2312",
            "FangSong",
            "STFangsong",
            "FZFangSong-Z02S",
            "FZFangSong-Z02",
            "方正仿宋_GBK",
            "FandolFang",
            "Fandol Fang R",
            "Noto Serif CJK SC",
            "Source Han Serif SC",
            "FandolSong",
            "SimSun",
            "AR PL SungtiL GB",
            "AR PL UMing CN",
        ],
    },
    Part {
        name: "hei",
        zh: "黑体",
        own: 10,
        families: &[
            "SimHei",
            "FZHei-B01S",
            "FZHei-B01",
            "STHeiti",
            "FandolHei",
            "Source Han Sans SC",
            "Noto Sans CJK SC",
            "Noto Sans SC",
            "WenQuanYi Micro Hei",
            "WenQuanYi Zen Hei",
        ],
    },
    Part {
        name: "kai",
        zh: "楷体",
        own: 9,
        families: &[
            "KaiTi_GB2312",
            "楷体_GB2312",
            "KaiTi",
            "STKaiti",
            "FZKai-Z03S",
            "FandolKai",
            "AR PL UKai CN",
            "AR PL KaitiM GB",
            "LXGW WenKai",
        ],
    },
    Part {
        name: "song",
        zh: "宋体",
        own: 6,
        families: &[
            "SimSun",
            "Noto Serif CJK SC",
            "Source Han Serif SC",
            "FandolSong",
            "AR PL SungtiL GB",
            "AR PL UMing CN",
        ],
    },
];

/// What plays a part on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// 仿宋 / fang.
    pub part: String,
    /// The family that comes first; none where no Chinese font is at hand.
    pub family: Option<String>,
    /// Whether it is one made for the part, and not a stand-in.
    pub fits: bool,
}

/// Every face at hand.
pub struct Fonts {
    book: LazyHash<FontBook>,
    faces: Vec<Face>,
    /// Files read so far; the faces of a collection share theirs.
    files: Mutex<HashMap<PathBuf, Bytes>>,
    /// Families with Chinese characters, in the order they were found.
    chinese: Vec<String>,
}

struct Face {
    file: PathBuf,
    index: u32,
    font: OnceLock<Option<Font>>,
}

impl Fonts {
    /// Looks through `own`, then the system's folders unless there shall be no others.
    #[must_use]
    pub fn find(own: &[PathBuf], only: bool) -> Self {
        let mut files = Vec::new();
        let system = SYSTEM.iter().filter(|_| !only).map(Path::new);
        for place in own.iter().map(PathBuf::as_path).chain(system) {
            collect(place, DEPTH, &mut files);
        }
        let (mut book, mut faces, mut chinese) = (FontBook::new(), Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for file in files.into_iter().filter(|f| seen.insert(f.clone())) {
            let Ok(bytes) = std::fs::read(&file) else { continue };
            for (index, info) in (0..).zip(FontInfo::iter(&bytes)) {
                if info.coverage.contains(u32::from('的')) && !chinese.contains(&info.family) {
                    chinese.push(info.family.clone());
                }
                book.push(info);
                faces.push(Face { file: file.clone(), index, font: OnceLock::new() });
            }
        }
        Self { book: LazyHash::new(book), faces, files: Mutex::default(), chinese }
    }

    pub(super) fn book(&self) -> &LazyHash<FontBook> {
        &self.book
    }

    pub(super) fn font(&self, index: usize) -> Option<Font> {
        let face = self.faces.get(index)?;
        face.font.get_or_init(|| Font::new(self.read(&face.file)?, face.index)).clone()
    }

    fn read(&self, file: &Path) -> Option<Bytes> {
        let mut files = self.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bytes) = files.get(file) {
            return Some(bytes.clone());
        }
        let bytes = Bytes::new(std::fs::read(file).ok()?);
        files.insert(file.to_owned(), bytes.clone());
        Some(bytes)
    }

    /// Whether there is anything to print Chinese with.
    #[must_use]
    pub fn has_chinese(&self) -> bool {
        !self.chinese.is_empty()
    }

    /// What plays each part.
    #[must_use]
    pub fn parts(&self) -> Vec<Found> {
        let name = |part: &Part| if lang::current() == Lang::Zh { part.zh } else { part.name };
        let found = |part: &Part| Found {
            part: name(part).to_owned(),
            family: self.chain(part).into_iter().next(),
            fits: self.fits(part),
        };
        PARTS.iter().map(found).collect()
    }

    fn fits(&self, part: &Part) -> bool {
        part.families.iter().take(part.own).any(|family| self.has(family))
    }

    fn has(&self, family: &str) -> bool {
        self.book.contains_family(&family.to_lowercase())
    }

    /// The families of a part in order, then every other one with Chinese characters,
    /// so that a character the first ones lack still comes from somewhere.
    fn chain(&self, part: &Part) -> Vec<String> {
        let mut chain: Vec<String> = part.families.iter().filter(|f| self.has(f)).map(|f| (*f).to_owned()).collect();
        for family in &self.chinese {
            if !chain.iter().any(|f| f.eq_ignore_ascii_case(family)) {
                chain.push(family.clone());
            }
        }
        chain
    }

    /// What the layouts read as `/fonts.json`.
    pub(super) fn chains(&self) -> Value {
        let mut all: serde_json::Map<String, Value> =
            PARTS.iter().map(|part| (part.name.to_owned(), json!(self.chain(part)))).collect();
        let title = self.chain(&PARTS[0]);
        let heaviest = title.first().map_or(0, |family| self.heaviest(family));
        // A 小标宋 is heavy as it is; of the others the bold face comes close to it.
        let heavy = title.first().is_some_and(|f| PARTS[0].families[..6].contains(&f.as_str()));
        all.insert("title_heavy".to_owned(), json!(heavy));
        all.insert("title_bold".to_owned(), json!(!heavy && heaviest >= 600));
        all.insert("has_kai".to_owned(), json!(self.fits(&PARTS[3])));
        Value::Object(all)
    }

    fn heaviest(&self, family: &str) -> u16 {
        let weights = self.book.select_family(&family.to_lowercase()).filter_map(|i| self.book.info(i));
        weights.map(|info| info.variant.weight.to_number()).max().unwrap_or(0)
    }
}

/// Font files at or below `place`, in the order of their names.
fn collect(place: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    if place.is_dir() {
        let Ok(entries) = std::fs::read_dir(place) else { return };
        let mut inside: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
        inside.sort();
        if depth > 0 {
            for path in &inside {
                collect(path, depth - 1, files);
            }
        }
    } else if place.extension().and_then(|e| e.to_str()).is_some_and(is_font) {
        files.push(place.to_owned());
    }
}

fn is_font(extension: &str) -> bool {
    ["ttf", "otf", "ttc", "otc"].iter().any(|e| e.eq_ignore_ascii_case(extension))
}
