//! The report and the unreached as CSV that spreadsheets open safely.

use super::{level, proof, yuan};
use crate::domain::reach::{ChannelRow, People, ReachReport};
use crate::say;
use crate::store::reach::UnreachedRow;

/// One table for spreadsheets: the total, then regions, groups and channels, told
/// apart by the first column. Money is in yuan. No byte-order mark.
#[must_use]
pub fn csv(report: &ReachReport) -> String {
    let (all, region, group, channel) =
        (say!("合计", "all"), say!("区域", "region"), say!("人群", "group"), say!("渠道", "channel"));
    let mut lines = vec![csv_head()];
    let households = Some((report.households, report.covered_households));
    lines.push(csv_people([all, String::new(), String::new(), report.mode.clone()], &report.people, households));
    for r in &report.by_region {
        let head = [region.clone(), r.code.clone().unwrap_or_default(), r.name.clone(), level(&r.level)];
        lines.push(csv_people(head, &r.people, Some((r.households, r.covered_households))));
    }
    for g in &report.by_group {
        lines.push(csv_people([group.clone(), String::new(), g.name.clone(), String::new()], &g.people, None));
    }
    for c in &report.by_channel {
        lines.push(csv_channel(&channel, c));
    }
    lines.iter().map(|cells| line(cells)).collect()
}

/// The headings over the lines of [`csv_row`].
#[must_use]
pub fn csv_row_head(masked: bool) -> String {
    line(&[
        say!("序号", "ordinal"),
        say!("对象编号", "recipient"),
        say!("姓名", "name"),
        say!("区域", "region"),
        say!("户编号", "household"),
        say!("是否外出", "away"),
        say!("未到达原因", "reason"),
        say!("最近渠道", "last channel"),
        if masked { say!("地址（已遮盖）", "address (masked)") } else { say!("地址", "address") },
    ])
}

/// One unreached member as a CSV line.
#[must_use]
pub fn csv_row(row: &UnreachedRow) -> String {
    line(&[
        row.ordinal.to_string(),
        row.recipient_no.to_string(),
        row.name.clone().unwrap_or_default(),
        row.region.clone(),
        row.household_no.map(|no| no.to_string()).unwrap_or_default(),
        if row.away { say!("是", "yes") } else { say!("否", "no") },
        row.reason.words(),
        row.channel.clone().unwrap_or_default(),
        row.address.clone().unwrap_or_default(),
    ])
}

fn csv_head() -> Vec<String> {
    let mut head = vec![
        say!("类别", "kind"),
        say!("代码", "code"),
        say!("名称", "name"),
        say!("级别", "level"),
        say!("发布对象", "audience"),
        say!("有地址", "addressable"),
        say!("已提交", "handed over"),
        say!("到达", "reached"),
        say!("本人号码到达", "reached directly"),
        say!("户内共用号码到达", "reached via household"),
        say!("当面告知", "told in person"),
        say!("知悉", "informed"),
        say!("已读或已确认", "seen"),
        say!("未到达", "unreached"),
        say!("无回执", "accept-only"),
    ];
    head.extend(People::default().unreached_by_reason.list().map(|(why, _)| why.words()));
    head.extend([
        say!("户数", "households"),
        say!("覆盖户数（估算）", "covered households (estimate)"),
        say!("发送记录", "deliveries"),
        say!("记录已提交", "deliveries handed over"),
        say!("记录到达", "deliveries reached"),
        say!("条数", "parts"),
        say!("费用（元）", "cost (yuan)"),
    ]);
    head
}

const PEOPLE_COLUMNS: usize = 18;
const DELIVERY_COLUMNS: usize = 5;

fn csv_people(head: [String; 4], p: &People, households: Option<(i64, i64)>) -> Vec<String> {
    let counts = [
        p.audience,
        p.addressable,
        p.handed_over,
        p.reached,
        p.reached_direct,
        p.reached_via_household,
        p.told_in_person,
        p.informed,
        p.seen,
        p.unreached,
        p.accept_only,
    ];
    let mut cells: Vec<String> = head.into();
    cells.extend(counts.map(|n| n.to_string()));
    cells.extend(p.unreached_by_reason.list().map(|(_, n)| n.to_string()));
    cells
        .extend(households.map_or([String::new(), String::new()], |(h, covered)| [h.to_string(), covered.to_string()]));
    cells.extend(vec![String::new(); DELIVERY_COLUMNS]);
    cells
}

fn csv_channel(kind: &str, c: &ChannelRow) -> Vec<String> {
    let mut cells = vec![kind.to_owned(), String::new(), c.channel.clone(), proof(c.evidence)];
    cells.extend(vec![String::new(); PEOPLE_COLUMNS + 2]);
    cells.extend([c.deliveries, c.handed_over, c.reached, c.parts].map(|n| n.to_string()));
    cells.push(yuan(c.cost_milli));
    cells
}

/// One CSV line (RFC 4180) whose cells no spreadsheet takes for a formula.
#[must_use]
pub fn line(cells: &[String]) -> String {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    // A vector takes every byte and the cells are UTF-8, so neither step can fail.
    let _ = writer.write_record(cells.iter().map(|cell| safe(cell)));
    writer.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Spreadsheets run a cell that begins like a formula, full-width signs included
/// (OWASP, CSV injection); an apostrophe makes it text.
fn safe(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']) {
        format!("'{cell}")
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;
    use crate::domain::reach::facts::Unreached;

    #[test]
    fn every_line_has_every_column_and_no_formula() {
        let text = csv(&report());
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let columns = reader.headers().unwrap().len();
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 1 + 2 + 1 + 1);
        assert!(rows.iter().all(|r| r.len() == columns));
        assert_eq!(&rows[3][2], "'=cmd()");
        assert_eq!(&rows[4][columns - 1], "1.045");
    }

    #[test]
    fn cells_that_begin_like_formulas_become_text() {
        for cell in ["=1", "+1", "-1", "@a", "\ta", "\ra", "＝1"] {
            assert_eq!(safe(cell), format!("'{cell}"));
        }
        assert_eq!(safe("139****1234"), "139****1234");
    }

    #[test]
    fn an_unreached_member_is_a_line() {
        let row = UnreachedRow {
            ordinal: 9,
            recipient_no: 12,
            name: Some("张,三".into()),
            region: "河口县/东村".into(),
            household_no: None,
            away: true,
            reason: Unreached::NoWord,
            channel: Some("sms".into()),
            address: Some("139****1234".into()),
        };
        assert_eq!(csv_row(&row), "9,12,\"张,三\",河口县/东村,,是,已提交尚无回执,sms,139****1234\r\n");
        assert_eq!(csv_row_head(true).split(',').count(), 9);
    }
}
