//! Made-up names, from characters that are common in names. Whoever bears one of
//! them in life is not meant.

use super::county::Folk;
use super::dice::Dice;

const HAN: &[&str] = &[
    "王", "李", "张", "刘", "陈", "杨", "赵", "黄", "周", "吴", "徐", "孙", "胡", "朱", "高", "林", "何", "郭", "马",
    "罗", "梁", "宋", "郑", "谢", "韩", "唐", "冯", "董", "肖", "程", "曹", "袁", "许", "傅", "沈", "曾", "彭", "吕",
    "苏", "卢",
];
const YAO: &[&str] = &["盘", "邓", "李", "黄", "赵", "蒋", "冯", "龙"];
const MIAO: &[&str] = &["熊", "杨", "陶", "古", "侯", "马", "王", "项"];
const ZHUANG: &[&str] = &["陆", "韦", "农", "黄", "罗", "梁", "覃", "莫"];

const MIDDLE: &[&str] = &[
    "", "", "", "文", "志", "国", "建", "小", "晓", "春", "秀", "玉", "美", "永", "光", "家", "正", "云", "金", "成",
    "天", "海", "德", "世",
];
const MEN: &[&str] = &[
    "强", "军", "平", "伟", "明", "勇", "华", "林", "辉", "斌", "涛", "刚", "峰", "贵", "福", "才", "发", "祥", "松",
    "波", "荣", "生", "亮", "宏",
];
const WOMEN: &[&str] = &[
    "芳", "英", "兰", "梅", "琼", "艳", "霞", "萍", "丽", "珍", "仙", "凤", "燕", "莲", "香", "静", "娟", "慧", "芬",
    "花", "琳", "洁", "红", "雪",
];

/// The surname of a household.
pub fn surname(folk: Folk, dice: &mut Dice) -> &'static str {
    let all = match folk {
        Folk::Han => HAN,
        Folk::Yao => YAO,
        Folk::Miao => MIAO,
        Folk::Zhuang => ZHUANG,
    };
    dice.pick::<&'static str>(all)
}

/// A name of two or three characters.
pub fn full(surname: &str, woman: bool, dice: &mut Dice) -> String {
    let (middle, last) = (*dice.pick(MIDDLE), *dice.pick(if woman { WOMEN } else { MEN }));
    format!("{surname}{middle}{last}")
}
