//! The columns of tables of points and of duty officers.

use crate::import::table::Field;

/// The columns of a table of points.
pub const FIELDS: &[Field] = &[
    Field {
        key: "name",
        names: &["名称", "点位名称", "公告栏名称", "name"],
        required: true,
        help_zh: "点位名称，同一区域内不重复",
        help_en: "name of the point, unique within its region",
    },
    Field {
        key: "kind",
        names: &["类型", "点位类型", "类别", "kind", "type"],
        required: false,
        help_zh: "公告栏、电子屏、大喇叭或便民服务点；留空为公告栏",
        help_en: "board, screen, loudspeaker or desk; a board when empty",
    },
    Field {
        key: "region",
        names: &["区域", "所在村", "村", "所属区域", "region"],
        required: true,
        help_zh: "所在区域：代码、名称或路径",
        help_en: "region: code, name or path",
    },
    Field {
        key: "code",
        names: &["编号", "点位编号", "代码", "code"],
        required: false,
        help_zh: "点位编号",
        help_en: "code of the point",
    },
    Field {
        key: "keeper",
        names: &["管理员", "管护人", "负责人", "保管人", "keeper"],
        required: false,
        help_zh: "管护人姓名",
        help_en: "name of the keeper",
    },
    Field {
        key: "phone",
        names: &["电话", "联系电话", "管护人电话", "手机", "phone"],
        required: false,
        help_zh: "管护人电话",
        help_en: "phone of the keeper",
    },
    Field {
        key: "households",
        names: &["服务户", "服务户号", "覆盖户", "户号", "households"],
        required: false,
        help_zh: "所服务的户号，多个用、隔开",
        help_en: "household numbers it serves, several separated by ;",
    },
    Field {
        key: "regions",
        names: &["服务区域", "覆盖区域", "serves", "regions"],
        required: false,
        help_zh: "所服务的区域（不列户号时），多个用、隔开",
        help_en: "regions it serves where no households are listed, several separated by ;",
    },
];

/// The columns of a table of duty officers.
pub const OFFICER_FIELDS: &[Field] = &[
    Field {
        key: "region",
        names: &["区域", "所在村", "村", "所属区域", "region"],
        required: true,
        help_zh: "区域：代码、名称或路径",
        help_en: "region: code, name or path",
    },
    Field {
        key: "role",
        names: &["职务", "岗位", "角色", "role"],
        required: false,
        help_zh: "职务，如 防汛责任人",
        help_en: "role, such as flood duty officer",
    },
    Field {
        key: "place",
        names: &["顺序", "叫应顺序", "序号", "order", "place"],
        required: false,
        help_zh: "叫应顺序，1 最先；留空为 1",
        help_en: "order in which they are called, 1 first; 1 when empty",
    },
    Field { key: "name", names: &["姓名", "责任人", "name"], required: true, help_zh: "姓名", help_en: "name" },
    Field {
        key: "phone",
        names: &["电话", "手机", "联系电话", "手机号", "phone"],
        required: true,
        help_zh: "手机或带区号的固定电话",
        help_en: "mobile, or landline with its area code",
    },
];
