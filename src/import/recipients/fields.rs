//! The columns of a table of recipients, and how rosters call them.

use crate::import::table::Field;

// Tables of members and lists know people by these, too.
pub(in crate::import) const EXT_ID: Field = Field {
    key: "ext_id",
    names: &["外部编号", "编号", "人员编号", "ext_id", "external id", "id"],
    required: false,
    help_zh: "本系统以外的编号，用来认出同一个对象；只存加密摘要",
    help_en: "the source's own id, by which a recipient is known again; only a keyed hash is kept",
};

pub(in crate::import) const ID_NUMBER: Field = Field {
    key: "id_number",
    names: &["身份证号", "身份证号码", "公民身份号码", "身份证", "证件号码", "id number", "id card"],
    required: false,
    help_zh: "18 位（或旧 15 位）公民身份号码；只存加密摘要，出生日期由它得出",
    help_en: "citizen's ID number of 18 (or 15) places; only a keyed hash is kept, the birth date is taken from it",
};

pub(in crate::import) const NAME: Field = Field {
    key: "name",
    names: &["姓名", "名称", "户主姓名", "单位名称", "name"],
    required: false,
    help_zh: "姓名或名称",
    help_en: "name",
};

pub(in crate::import) const PHONE: Field = Field {
    key: "phone",
    names: &["手机", "手机号", "手机号码", "电话", "联系电话", "联系方式", "本人电话", "phone", "mobile", "tel"],
    required: false,
    help_zh: "本人手机，多个用 / 隔开",
    help_en: "own mobile number, several separated by /",
};

pub(in crate::import) const HOUSEHOLD: Field = Field {
    key: "household",
    names: &["户号", "户编号", "家庭编号", "农户编号", "household", "household id"],
    required: false,
    help_zh: "所属户的编号；未知的户会建立",
    help_en: "number of the household; made when unknown",
};

pub(in crate::import) const REGION: Field = Field {
    key: "region",
    names: &[
        "常住地",
        "区域",
        "所在村",
        "村",
        "村（社区）",
        "居住地",
        "现住地",
        "所属区域",
        "区划代码",
        "region",
        "residence",
    ],
    required: false,
    help_zh: "常住地：12 位代码、名称或路径（县/镇/村）",
    help_en: "residence: 12-digit code, name or path (county/town/village)",
};

/// Every column that the importer reads.
pub const FIELDS: &[Field] = &[
    EXT_ID,
    ID_NUMBER,
    NAME,
    Field {
        key: "kind",
        names: &["类型", "对象类型", "类别", "kind", "type"],
        required: false,
        help_zh: "个人、户或单位；留空为个人",
        help_en: "person, household or organisation; a person when empty",
    },
    PHONE,
    Field {
        key: "email",
        names: &["邮箱", "电子邮箱", "电子邮件", "邮件", "email", "e-mail", "mail"],
        required: false,
        help_zh: "电子邮箱，多个用 ; 隔开",
        help_en: "e-mail address, several separated by ;",
    },
    HOUSEHOLD,
    Field {
        key: "household_phone",
        names: &["户主电话", "户主手机", "家庭电话", "household phone"],
        required: false,
        help_zh: "户主或家里的电话：通过它通知全户",
        help_en: "phone of the household's head",
    },
    Field {
        key: "guardian_phone",
        names: &["监护人电话", "监护人手机", "监护人联系电话", "家长电话", "guardian phone"],
        required: false,
        help_zh: "监护人电话",
        help_en: "phone of the guardian",
    },
    Field {
        key: "agent_phone",
        names: &["代收人电话", "联系人电话", "帮扶人电话", "agent phone"],
        required: false,
        help_zh: "代为转告的人的电话",
        help_en: "phone of someone who passes messages on",
    },
    REGION,
    Field {
        key: "hukou",
        names: &["户籍地", "户口所在地", "户籍", "hukou"],
        required: false,
        help_zh: "户籍地：代码、名称或路径",
        help_en: "registered home: code, name or path",
    },
    Field {
        key: "born",
        names: &["出生日期", "出生年月日", "生日", "born", "birth date", "birthday"],
        required: false,
        help_zh: "出生日期，如 1950-03-07",
        help_en: "birth date such as 1950-03-07",
    },
    Field {
        key: "age",
        names: &["年龄", "age"],
        required: false,
        help_zh: "周岁；只在没有出生日期和身份证号时使用",
        help_en: "age in years; used only without a birth date and an ID number",
    },
    Field {
        key: "away",
        names: &["外出", "是否外出", "外出务工", "away"],
        required: false,
        help_zh: "是否外出：是、否",
        help_en: "away from home: yes or no",
    },
    Field {
        key: "status",
        names: &["状态", "人员状态", "status"],
        required: false,
        help_zh: "正常、迁出或死亡；留空不变",
        help_en: "active, moved or dead; unchanged when empty",
    },
    Field {
        key: "languages",
        names: &["语言", "使用语言", "languages", "language"],
        required: false,
        help_zh: "听得懂的语言，多个用、隔开",
        help_en: "languages understood, several separated by ;",
    },
    Field {
        key: "needs",
        names: &["需求", "特殊需求", "残疾类别", "needs", "need"],
        required: false,
        help_zh: "听力、视力、行动等不便，多个用、隔开",
        help_en: "hearing, sight, mobility; several separated by ;",
    },
    Field {
        key: "areas",
        names: &["片区", "所属片区", "areas", "area"],
        required: false,
        help_zh: "片区，多个用、隔开；没有的会建立",
        help_en: "areas, several separated by ;; made when unknown",
    },
    Field {
        key: "groups",
        names: &["人群", "组", "分组", "人群标签", "groups", "group"],
        required: false,
        help_zh: "加入的人群，多个用、隔开",
        help_en: "groups to join, several separated by ;",
    },
    Field {
        key: "source",
        names: &["来源", "数据来源", "source"],
        required: false,
        help_zh: "数据来源",
        help_en: "where the data comes from",
    },
    Field {
        key: "purpose",
        names: &["用途", "使用目的", "purpose"],
        required: false,
        help_zh: "数据用途",
        help_en: "what the data is for",
    },
];
