//! Made-up documents of every kind.

use gong::sheet::{Cover, Document, DoorKnock, Level, Notice, Report, blocks};

pub fn alert() -> Notice {
    Notice {
        issuer: "河口瑶族自治县防汛抗旱指挥部".into(),
        title: "关于红河、南溪河沿岸村组立即转移避险的暴雨洪水红色预警".into(),
        level: Some(Level { word: "暴雨红色预警".into(), colour: "red".into() }),
        body: blocks(
            "预计未来**6小时**，我县河口镇、南溪镇累计降雨量将达150毫米以上，红河、南溪河水位将超过警戒水位。\
             沿岸低洼地带、地质灾害隐患点群众须在今日18时前全部转移。",
        ),
        actions: vec![
            "立即转移到就近安置点，服从村组干部指挥，不要返回取物。".into(),
            "关闭电源和燃气，带好身份证件和常用药品。".into(),
            "远离河道、陡坡和危房，不涉水行走、不驾车过桥。".into(),
        ],
        facts: vec![
            ("影响范围".into(), "河口镇、南溪镇沿河各村民小组".into()),
            ("有效期".into(), "2026年7月1日9时至2026年7月2日9时".into()),
            ("咨询电话".into(), "0873-0000000".into()),
        ],
        unit: "河口瑶族自治县防汛抗旱指挥部".into(),
        date: "2026年7月1日".into(),
        place: "河口镇 · 城郊村 · 村委会公告栏".into(),
        serial: "HK-2026-000123".into(),
        qr: Some("https://gong.example.cn/s/HK-2026-000123".into()),
        ..Notice::default()
    }
}

pub fn publication() -> Notice {
    let mut body = "根据《农村最低生活保障工作规程》，经个人申请、入户调查、民主评议、乡镇审核，现将拟纳入农村最低生活保障的对象名单予以公示，接受群众监督。\n\n\
                    | 序号 | 户主 | 村民小组 | 人口 | 月保障金（元） | 备注 |\n|---|---|---|---|---|---|\n"
        .to_owned();
    let names = ["李喆", "王祎", "张珺", "赵堃", "盘文忠", "邓玉兰", "罗有福", "熊贵"];
    for i in 1..=60 {
        let (name, group, note) = (names[i % 8], i % 5 + 1, if i % 7 == 0 { "户主残疾，子女在校" } else { "" });
        let cells = [
            &i.to_string(),
            name,
            &format!("第{group}村民小组"),
            &(i % 6 + 1).to_string(),
            &(320 + i * 5).to_string(),
            note,
        ];
        body.extend(["| ", &cells.join(" | "), " |\n"]);
    }
    Notice {
        issuer: "南溪镇人民政府".into(),
        document_no: "南政公示〔2026〕5号".into(),
        title: "关于2026年第三季度南溪镇农村最低生活保障拟纳入对象名单的公示".into(),
        body: blocks(&body),
        facts: vec![
            ("公示期".into(), "7天（自2026年7月1日起）".into()),
            ("异议电话".into(), "0873-0000001".into()),
            ("咨询电话".into(), "0873-0000000".into()),
        ],
        unit: "南溪镇人民政府".into(),
        date: "2026年7月1日".into(),
        place: "南溪镇 · 芹菜塘村 · 村务公开栏".into(),
        serial: "NX-2026-000045".into(),
        qr: Some("https://gong.example.cn/s/NX-2026-000045".into()),
        ..Notice::default()
    }
}

pub fn policy() -> Notice {
    Notice {
        issuer: "河口瑶族自治县农业农村和科学技术局".into(),
        document_no: "河农发〔2026〕12号".into(),
        title: "关于做好2026年橡胶种植保险保费补贴申报工作的通知".into(),
        body: blocks(
            "各乡镇人民政府、各农场：\n\n为稳定胶农收入，根据省、州有关规定，现将2026年橡胶种植保险保费补贴申报有关事项通知如下。\n\n\
             # 一、补贴对象\n\n在我县境内种植橡胶**3亩以上**的农户、合作社和农场职工家庭。\n\n\
             # 二、补贴标准\n\n## （一）保费\n\n每亩保费60元，其中财政补贴48元，农户自付12元。\n\n## （二）保额\n\n每亩保险金额1000元，按*生长期*计算赔付。\n\n\
             # 三、申报办法\n\n1. 农户向村民委员会提出申请，提交以下材料：\n   - 身份证复印件；\n   - 土地承包合同或权属证明；\n   - 银行卡（社保卡）复印件。\n2. 村民委员会核实面积，公示7天。\n3. 乡镇审核后报县农业农村和科学技术局。\n\n\
             | 时间 | 事项 | 责任单位 |\n|---|---|---|\n| 7月1日至31日 | 农户申报 | 村民委员会 |\n| 8月1日至10日 | 公示 | 村民委员会 |\n| 8月20日前 | 审核上报 | 乡镇人民政府 |\n\n\
             申报表可在[县政府网站](https://www.example.gov.cn/tb)下载。",
        ),
        facts: vec![("咨询电话".into(), "0873-0000002".into())],
        unit: "河口瑶族自治县农业农村和科学技术局".into(),
        date: "2026年6月28日".into(),
        place: "坝洒农场 · 公告栏".into(),
        serial: "BS-2026-000007".into(),
        qr: Some("https://gong.example.cn/s/BS-2026-000007".into()),
        ..Notice::default()
    }
}

pub fn door_knock() -> DoorKnock {
    let row = |i: usize| {
        let name = format!("盘某{}", ["甲", "乙", "丙", "丁"][i % 4]);
        let reason = ["没有号码", "短信未送达", "无人接听", "老人独居"][i % 4];
        let cells = [&i.to_string(), &name, "大青树小组", "139****0000", reason, "", "", ""];
        cells.map(ToString::to_string).to_vec()
    };
    DoorKnock {
        title: "入户通知清单".into(),
        place: "河口镇 · 城郊村".into(),
        unit: "河口镇人民政府".into(),
        date: "2026年7月1日".into(),
        say: "县防汛抗旱指挥部发布暴雨红色预警，请立即转移到村小学安置点，带好证件和药品。".into(),
        heads: ["序号", "姓名", "小组", "电话", "原因", "结果", "时间", "签名"].map(Into::into).to_vec(),
        rows: (1..=36).map(row).collect(),
        foot: "结果填：已告知、不在家、已搬走、拒绝。填好后交村委会，由村委会拍照或录入。".into(),
    }
}

pub fn cover() -> Cover {
    let row = |i: usize| {
        [format!("HK-2026-{i:06}"), "城郊村".into(), format!("第{i}小组公告栏"), "139****0000".into(), "1".into()]
            .to_vec()
    };
    Cover {
        title: "暴雨红色预警张贴件清单".into(),
        town: "河口镇".into(),
        unit: "河口瑶族自治县防汛抗旱指挥部".into(),
        date: "2026年7月1日".into(),
        heads: ["序号", "村", "点位", "管理员电话", "页数"].map(Into::into).to_vec(),
        rows: (1..=14).map(row).collect(),
    }
}

pub fn report() -> Report {
    Report {
        issuer: String::new(),
        title: "关于暴雨红色预警发布情况的报告".into(),
        body: blocks(
            "县人民政府：\n\n截至7月1日12时，预警信息发布情况如下。\n\n# 一、总体情况\n\n应通知19,842人，已到达18,930人。\n\n\
             | 乡镇 | 应通知 | 到达 | 到达率 |\n|---|---|---|---|\n| 河口镇 | 8,012 | 7,700 | 96.1% |\n| 南溪镇 | 6,330 | 6,010 | 94.9% |\n",
        ),
        unit: "县防汛抗旱指挥部办公室".into(),
        date: "2026年7月1日".into(),
    }
}

pub fn samples() -> Vec<(&'static str, Document)> {
    let large = Notice { large: true, mark: "【演练】".into(), ..alert() };
    let lift = Notice {
        level: Some(Level { word: "解除暴雨红色预警".into(), colour: "none".into() }),
        title: "关于解除暴雨红色预警的通知".into(),
        relation: Some("《暴雨洪水红色预警》（序号 HK-2026-000123）已解除。旧件请撤下。".into()),
        actions: vec![],
        body: blocks("雨势已减弱，河道水位降至警戒水位以下，现解除暴雨红色预警。"),
        ..alert()
    };
    vec![
        ("alert", Document::Notice(Box::new(alert()))),
        ("publication", Document::Notice(Box::new(publication()))),
        ("policy", Document::Notice(Box::new(policy()))),
        ("large", Document::Notice(Box::new(large))),
        ("lift", Document::Notice(Box::new(lift))),
        ("door_knock", Document::DoorKnock(door_knock())),
        ("cover", Document::Cover(cover())),
        ("report", Document::Report(report())),
    ]
}
