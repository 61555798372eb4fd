//! `gong init`: a new site, ready to use.

use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::words::{given_or_asked, name, phone, roles};
use super::{Context, Ended, output};
use crate::clock::Clock;
use crate::config::{Config, TEMPLATE};
use crate::say;
use crate::store::operators::Role;
use crate::store::{Store, owner};
use crate::vault::Vault;

const FILE: &str = "gong.toml";

/// Makes a new site: configuration, key, database, unit and operators.
#[derive(Debug, Args)]
#[command(after_help = "gong init --name 某县应急管理局 --phone 0873-3420000\n\
                        gong init site --name 某镇人民政府 --phone 0873-3420001 --operator 张三:author,dispatcher --operator 李四:reviewer")]
pub struct InitArgs {
    /// The folder; made where it does not exist.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The unit that answers for what this site sends.
    #[arg(long, value_name = "UNIT")]
    name: Option<String>,
    /// The number people call back.
    #[arg(long, value_name = "PHONE")]
    phone: Option<String>,
    /// A person and the roles held: author, reviewer, dispatcher, auditor, admin. May be repeated.
    #[arg(long = "operator", value_name = "NAME[:ROLE,ROLE]")]
    people: Vec<String>,
}

struct Made {
    unit_id: String,
    operators: Vec<(String, String, Vec<Role>)>,
    key: PathBuf,
    database: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, args: InitArgs) -> anyhow::Result<Ended> {
    let file = if args.dir == Path::new(".") { FILE.into() } else { args.dir.join(FILE) };
    let shown = file.display();
    anyhow::ensure!(
        !file.exists(),
        say!(
            "{shown} 已存在，没有改动任何东西。要检查现有站点，请执行：gong check --config {shown}",
            "{shown} exists already; nothing was changed. To look over that site, run: gong check --config {shown}"
        )
    );
    let (what_name, what_phone) = (say!("责任单位名称", "the unit's name"), say!("咨询电话", "the call-back phone"));
    let unit = name(&what_name, &given_or_asked(args.name, &what_name, "--name")?)?;
    let phone = phone(&given_or_asked(args.phone, &what_phone, "--phone")?)?;
    let people = people(&args.people)?;
    std::fs::create_dir_all(&args.dir).with_context(|| unwritable(&args.dir))?;
    write_new(&file, &settings(&unit, &phone))?;
    let made = match make(&file, &unit, &phone, people).await {
        Ok(made) => made,
        Err(error) => {
            // So that the same command can be given again.
            let _ = std::fs::remove_file(&file);
            return Err(error);
        }
    };
    report(context, &args.dir, &file, &made)?;
    Ok(Ended::Done)
}

fn unwritable(path: &Path) -> String {
    let path = path.display();
    say!("不能写入 {path}。请换一个有写权限的文件夹", "cannot write {path}. Choose a folder you may write to")
}

/// `张三:author,reviewer`; without roles an author who may send.
fn people(given: &[String]) -> anyhow::Result<Vec<(String, Vec<Role>)>> {
    if given.is_empty() {
        return Ok(vec![(say!("管理员", "admin"), vec![Role::Admin])]);
    }
    let what = say!("操作员姓名", "an operator's name");
    given
        .iter()
        .map(|one| {
            let (person, list) = one.split_once([':', '：']).unwrap_or((one, "author,dispatcher"));
            let held = roles(list)?;
            let person = name(&what, person)?;
            anyhow::ensure!(!held.is_empty(), say!("{person} 没有写角色", "no role is given for {person}"));
            Ok((person, held))
        })
        .collect()
}

/// The template with the unit's name and phone as TOML strings.
fn settings(unit: &str, phone: &str) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    TEMPLATE.replace("\"{{phone}}\"", &quoted(phone)).replace("\"{{name}}\"", &quoted(unit))
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = std::fs::File::create_new(path).with_context(|| unwritable(path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(|| unwritable(path))
}

fn private_folder(path: &Path) -> anyhow::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(|| unwritable(folder))
}

async fn make(file: &Path, unit: &str, phone: &str, people: Vec<(String, Vec<Role>)>) -> anyhow::Result<Made> {
    let config = Config::load(file)?;
    let key = config.path(&config.store.key_file);
    owner::check(&key)?;
    private_folder(&key)?;
    let url = config.store_url();
    if let Some(database) = url.strip_prefix("sqlite:") {
        owner::check(Path::new(database))?;
        private_folder(Path::new(database))?;
    }
    // A key that is there already may be the only one that opens the database.
    let vault = if key.exists() { Vault::open(&key)? } else { Vault::create(&key)? };
    let store = Store::open(&url, vault, Clock::System).await?;
    let unit_id = store.save_unit(unit, phone).await?;
    let mut operators = Vec::new();
    for (person, held) in people {
        let id = store.save_operator(&person, &unit_id, &held).await?;
        operators.push((id, person, held));
    }
    let database = store.file.clone();
    store.close().await;
    Ok(Made { unit_id, operators, key, database })
}

fn report(context: &Context, dir: &Path, file: &Path, made: &Made) -> anyhow::Result<()> {
    if context.global.json {
        let operators: Vec<_> = made
            .operators
            .iter()
            .map(|(id, name, held)| json!({ "id": id, "name": name, "roles": held.iter().map(|r| r.name()).collect::<Vec<_>>() }))
            .collect();
        return output::json(&json!({
            "config": file, "key": made.key, "database": made.database, "unit": made.unit_id, "operators": operators,
        }));
    }
    let (file, key) = (file.display(), made.key.display());
    let database = made.database.as_ref().map_or_else(|| "PostgreSQL".to_owned(), |d| d.display().to_string());
    let who: Vec<String> = made.operators.iter().map(|(_, name, _)| name.clone()).collect();
    let who = who.join("、");
    output::line(say!("配置    {file}", "settings   {file}"));
    output::line(say!(
        "密钥    {key}（请另存一份，没有它谁也读不出数据）",
        "key        {key} (keep a copy elsewhere: without it nothing can be read)"
    ));
    output::line(say!("数据库  {database}", "database   {database}"));
    output::line(say!("操作员  {who}", "operators  {who}"));
    if made.database.is_none() {
        // The file says nothing of it: whoever starts without the variable finds no database.
        output::note(say!(
            "数据库地址来自环境变量 GONG_STORE__URL。请写进 {file} 的 [store] url（不带口令），或让每个 gong 都带着这个变量",
            "the database's address came from GONG_STORE__URL. Put it into [store] url of {file}, without its password, or give every gong the variable"
        ));
    }
    let enter = if dir == Path::new(".") { String::new() } else { format!("  cd {}\n", dir.display()) };
    output::note(say!(
        "\n接下来：\n{enter}  gong check                        检查还缺什么\n  gong import regions 区域.csv      导入区域\n  gong item add 通知.md             录入第一个公开事项",
        "\nNext:\n{enter}  gong check                        what is still missing\n  gong import regions regions.csv   bring in the regions\n  gong item add notice.md           enter the first item"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_survives_in_the_settings() {
        for unit in ["某县应急管理局", "a\"b\\c", "it's {{phone}}", "# [x]"] {
            let table: toml::Table = toml::from_str(&settings(unit, "0873-3420000")).unwrap();
            assert_eq!(table["site"]["name"].as_str(), Some(unit));
            assert_eq!(table["site"]["phone"].as_str(), Some("0873-3420000"));
        }
    }

    #[test]
    fn people_have_roles() {
        let given = ["张三：拟稿，审核".to_owned(), "李四".to_owned()];
        let read = people(&given).unwrap();
        assert_eq!(read[0], ("张三".to_owned(), vec![Role::Author, Role::Reviewer]));
        assert_eq!(read[1].1, [Role::Author, Role::Dispatcher]);
        assert!(people(&["张三:".to_owned()]).is_err());
        assert_eq!(people(&[]).unwrap()[0].1, [Role::Admin]);
    }
}
