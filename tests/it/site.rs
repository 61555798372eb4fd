//! A site for tests: a folder with configuration, key and database, made-up people,
//! an approved item, and channels that lead to a loopback gateway over real sockets.
//!
//! Phones are made up, from 139 0000 0000 upwards.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use std::time::Duration;

use gong::app::prepare::Wish;
use gong::app::{App, Engine};
use gong::clock::Clock;
use gong::config::Config;
use gong::domain::item::{Format, parse};
use gong::import::table::Options;
use gong::import::{recipients, regions};
use gong::loopback::{Behaviour, Credentials, Loopback, Running};
use gong::store::dispatches::Dispatch;
use gong::store::items::ApprovalType;
use gong::store::operators::Role;
use gong::vault::Vault;
use jiff::tz::TimeZone;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::support::{Gong, postgres_server};

pub const ALERT: &str = "+++\nkind = \"alert\"\ntitle = \"暴雨红色预警\"\nlevel = \"red\"\nphone = \"0873-5550000\"\n\
    area_text = \"河口镇沿河各村\"\nactions = [\"立即转移到高处\"]\n+++\n请沿河各村立即转移。\n";
pub const NOTICE: &str =
    "+++\nkind = \"notice\"\ntitle = \"停水通知\"\nphone = \"0873-5550000\"\n+++\n明日八时至十二时停水。\n";

/// Tests do the same by night as by day, unless they are about the night.
const AWAKE: &str = "[quiet_hours]\nfrom = \"00:00\"\nto = \"00:00\"\n";

/// A site in a folder of its own.
pub struct Site {
    pub dir: TempDir,
    /// What `gong.toml` says beyond the necessary.
    extra: String,
    public: SocketAddr,
    listener: Option<TcpListener>,
}

/// An engine that serves callbacks, to be stopped.
pub struct Serving {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Serving {
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
    }
}

pub fn credentials() -> Credentials {
    Credentials { username: "gong".to_owned(), password: "pass".to_owned(), secret: "secret".to_owned() }
}

pub async fn gateway(behaviour: Behaviour) -> Running {
    Loopback::new(credentials(), behaviour).start("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

impl Site {
    pub async fn new() -> Self {
        // The first test of the process starts the logs; the others share them.
        let _ = gong::telemetry::start_logs("gong=warn", None);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        for (name, secret) in [("password", "pass"), ("token", "token"), ("key", "secret")] {
            std::fs::write(dir.path().join("data").join(name), secret).unwrap();
        }
        Vault::create(&dir.path().join("data/gong.key")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let public = listener.local_addr().unwrap();
        Self { dir, extra: String::new(), public, listener: Some(listener) }
    }

    /// Adds settings to `gong.toml`.
    pub fn with(mut self, toml: &str) -> Self {
        self.extra.push_str(toml);
        self.extra.push('\n');
        self
    }

    /// Adds the channel `sms`, over the Kannel format, to this gateway.
    pub fn with_kannel(self, gateway: SocketAddr, limits: &str) -> Self {
        self.with(&format!(
            "[channels.sms]\ngateway = \"kannel\"\nsignature = \"【河口应急】\"\n\
             vars = {{ url = \"http://{gateway}\", username = \"gong\" }}\n\
             secrets = {{ password = \"file:data/password\", token = \"file:data/token\" }}\nlimits = {{ {limits} }}"
        ))
    }

    /// Adds the channel `sms`, over the signed JSON format, to this gateway.
    pub fn with_json(self, gateway: SocketAddr, limits: &str) -> Self {
        self.with(&format!(
            "[channels.sms]\ngateway = \"json-hmac\"\nsignature = \"【河口应急】\"\n\
             vars = {{ url = \"http://{gateway}\" }}\nsecrets = {{ key = \"file:data/key\" }}\nlimits = {{ {limits} }}"
        ))
    }

    /// The same site in a schema of its own on PostgreSQL, where a server was named.
    pub async fn on_postgres(self) -> Option<Self> {
        let server = postgres_server()?;
        let schema = format!("it_{}", uuid::Uuid::now_v7().simple());
        let admin = crate::support::pool(&server).await;
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&admin).await.unwrap();
        admin.close().await;
        let joint = if server.contains('?') { '&' } else { '?' };
        Some(self.with(&format!("[store]\nurl = \"{server}{joint}options[search_path]={schema}\"")))
    }

    /// Gives the callbacks' port to another process.
    pub fn closed(mut self) -> Self {
        self.listener = None;
        self
    }

    /// Where its callbacks and its metrics are.
    pub fn address(&self) -> SocketAddr {
        self.public
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("data/gong.db")
    }

    pub fn write_config(&self) -> PathBuf {
        let path = self.dir.path().join("gong.toml");
        let public = self.public;
        let quiet = if self.extra.contains("[quiet_hours]") { "" } else { AWAKE };
        let text = format!(
            "[site]\nname = \"河口县应急管理局\"\nphone = \"0873-5550000\"\n[server]\nlisten = \"{public}\"\npublic_url = \"http://{public}\"\n[disk]\nreserve_mb = 0\n{quiet}{}",
            self.extra
        );
        // At once: a process started a moment ago may be reading it.
        let fresh = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        std::fs::write(fresh.path(), text).unwrap();
        fresh.persist(&path).unwrap();
        path
    }

    /// Opens it with the system's clock.
    pub async fn open(&self) -> App {
        self.open_at(Clock::System).await
    }

    pub async fn open_at(&self, clock: Clock) -> App {
        let app = App::open_with(Config::load(&self.write_config()).unwrap(), clock).await.unwrap();
        let unit = app.store.save_unit("河口县应急管理局", "0873-5550000").await.unwrap();
        app.store.save_operator("张三", &unit, &[Role::Author]).await.unwrap();
        app.store.save_operator("李四", &unit, &[Role::Reviewer, Role::Dispatcher]).await.unwrap();
        app
    }

    /// Runs the program in this site's folder, beside an engine that may be running.
    pub fn run(&self, args: &[&str]) -> crate::support::Run {
        Gong::beside(self.dir.path(), args)
    }

    /// Starts the engine and its callbacks.
    pub async fn serve(&mut self, app: &App) -> Serving {
        self.serve_engine(app.start_engine().await.unwrap()).await
    }

    /// Serves the callbacks of an engine.
    pub async fn serve_engine(&mut self, engine: Engine) -> Serving {
        let listener = match self.listener.take() {
            Some(listener) => listener,
            None => TcpListener::bind(self.public).await.unwrap(),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async move {
            let _ = stopped.await;
        };
        Serving { stop, task: tokio::spawn(engine.serve(listener, until)) }
    }

    /// Two towns with two villages each, and `n` people: every tenth without any phone,
    /// every tenth on the household's phone, the rest with their own.
    pub async fn settle(&self, app: &App, n: usize) {
        let regions = "code,name,parent,level\n532532000000,河口瑶族自治县,,county\n532532101000,河口镇,532532000000,town\n\
            532532102000,南溪镇,532532000000,town\n532532101200,城郊村,532532101000,village\n532532101201,北山村,532532101000,village\n\
            532532102200,南溪村,532532102000,village\n532532102201,安家河村,532532102000,village\n";
        let path = write(self.dir.path(), "regions.csv", regions);
        let mut table = regions::open(&path, &Options::default()).unwrap();
        let summary = regions::import(&app.store, &mut table, &gong::import::Run::default(), "2023-06-30", &mut |_| {})
            .await
            .unwrap();
        assert_eq!((summary.added, summary.rejected), (7, 0), "{summary:?}");
        let path = write(self.dir.path(), "people.csv", &people(n));
        let mut table = recipients::open(&path, &Options::default()).unwrap();
        let options = recipients::RecipientOptions::new(jiff::civil::date(2026, 6, 1));
        let summary = recipients::import(&app.store, &mut table, &gong::import::Run::default(), &options, &mut |_| {})
            .await
            .unwrap();
        assert_eq!((summary.read, summary.rejected), (n as u64, 0), "{summary:?}");
    }

    /// Enters an item and has it approved; returns its number.
    pub async fn approve(&self, app: &App, source: &str) -> String {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let content = parse(source, Format::Markdown, &zone).unwrap();
        let (author, reviewer) =
            (app.store.acting(Some("张三")).await.unwrap(), app.store.acting(Some("李四")).await.unwrap());
        let item = app.store.add_item(&content, &author).await.unwrap();
        app.store.approve_item(&item, ApprovalType::Review, &reviewer, "").await.unwrap();
        item.no.to_string()
    }

    /// Sends an approved item as it was prepared.
    pub async fn send(&self, app: &App, item: &str, wish: &Wish) -> Dispatch {
        let prepared = app.prepare(item, wish, "李四").await.unwrap();
        app.store.create_dispatch(&prepared.new).await.unwrap()
    }

    /// How many people have their own phone, the household's, none.
    pub fn shares(n: usize) -> (usize, usize, usize) {
        let none = (0..n).filter(|i| i % 10 == 9).count();
        let household = (0..n).filter(|i| i % 10 == 8).count();
        (n - none - household, household, none)
    }
}

/// Waits until the dispatch has finished.
pub async fn finished(app: &App, no: i64, limit: Duration) -> Dispatch {
    let end = tokio::time::Instant::now() + limit;
    loop {
        let dispatch = app.store.dispatch(&no.to_string()).await.unwrap();
        if dispatch.finished_at.is_some() {
            return dispatch;
        }
        assert!(tokio::time::Instant::now() < end, "not finished: {:?}", app.store.delivery_counts(no).await.unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many deliveries stand in a state, by its name.
pub async fn in_state(app: &App, no: i64, state: gong::domain::delivery::State) -> i64 {
    app.store.delivery_counts(no).await.unwrap().iter().filter(|c| c.state == state.code()).map(|c| c.n).sum()
}

pub fn wish(to: &str, plan: &str) -> Wish {
    Wish { to: Some(to.to_owned()), plan: Some(plan.to_owned()), ..Wish::default() }
}

fn people(n: usize) -> String {
    let villages = ["532532101200", "532532101201", "532532102200", "532532102201"];
    let mut text = String::from("外部编号,姓名,户号,手机,户主电话,常住地\n");
    for i in 0..n {
        let (household, village) = (i / 2, villages[i / 2 % 4]);
        let own = if i % 10 < 8 { format!("139{i:08}") } else { String::new() };
        let shared = if i % 10 == 8 { format!("138{household:08}") } else { String::new() };
        writeln!(
            text,
            "p{i},居民{i},{},{own},{shared},{village}",
            if i % 10 == 9 { String::new() } else { format!("h{household}") }
        )
        .unwrap();
    }
    text
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
