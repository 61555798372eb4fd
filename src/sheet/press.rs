//! The press: hands documents to child processes (`gong press`), which hold the fonts
//! and the typesetter, so that the server stays small and outlives a bad layout.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::wire::{Answer, JobRef, length, read_length};
use super::{Document, PressError, Printed, Wants};
use crate::lang::{self, Lang};
use crate::say;

/// A child that has nothing to do for so long is ended.
const IDLE: Duration = Duration::from_mins(1);
/// How long a job may take, and what each document adds to it.
const JOB: Duration = Duration::from_mins(1);
const EACH: Duration = Duration::from_millis(500);
/// Documents after which a child is replaced: what the typesetter remembers stays small.
const RETIRE: usize = 1_000;

/// What a press works with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PressSettings {
    /// The site's own layouts; they win over the shipped ones.
    pub templates: Option<PathBuf>,
    /// The site's own fonts, files or folders; searched before the system's.
    pub fonts: Vec<PathBuf>,
    /// Leaves the system's fonts out, so that pages are the same on every machine.
    pub own_fonts_only: bool,
    /// Children at most; 0 means one.
    pub workers: usize,
    /// The `gong` to start; this very program where none is named.
    pub program: Option<PathBuf>,
}

/// Prints documents, in child processes so that this one stays small. Cheap to clone.
#[derive(Clone)]
pub struct Press {
    pool: Arc<Pool>,
}

struct Pool {
    settings: PressSettings,
    /// As many permits as there may be children.
    permits: Semaphore,
    idle: Mutex<Vec<Worker>>,
}

/// A child that waits for work, or works.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    documents: usize,
    since: Instant,
}

impl Default for Press {
    fn default() -> Self {
        Self::new(PressSettings::default())
    }
}

impl Press {
    #[must_use]
    pub fn new(settings: PressSettings) -> Self {
        let permits = Semaphore::new(settings.workers.max(1));
        Self { pool: Arc::new(Pool { settings, permits, idle: Mutex::default() }) }
    }

    /// What it works with.
    #[must_use]
    pub fn settings(&self) -> &PressSettings {
        &self.pool.settings
    }

    /// Prints one document.
    pub async fn print(&self, document: &Document, wants: Wants) -> Result<Printed, PressError> {
        self.bind(std::slice::from_ref(document), wants).await
    }

    /// Prints several documents as one, each from a new page; a picture is of the first.
    pub async fn bind(&self, documents: &[Document], wants: Wants) -> Result<Printed, PressError> {
        if cfg!(not(feature = "sheets")) {
            return Err(PressError::NotBuilt);
        }
        let job = serde_json::to_vec(&JobRef { documents, wants }).map_err(|e| broken(&e))?;
        let Ok(_permit) = self.pool.permits.acquire().await else {
            return Err(PressError::Process(say!("已停止", "it has stopped")));
        };
        let waiting = self.pool.take();
        let fresh = waiting.is_none();
        let mut worker = match waiting {
            Some(worker) => worker,
            None => Worker::start(&self.pool.settings).await?,
        };
        let limit = JOB + EACH.saturating_mul(u32::try_from(documents.len()).unwrap_or(u32::MAX));
        let answer = match worker.work(&job, limit).await {
            // It may have died of something else while it waited: that is no fault of the job.
            Err(Failure::Gone(_)) if !fresh => {
                worker = Worker::start(&self.pool.settings).await?;
                worker.work(&job, limit).await
            }
            other => other,
        };
        match answer {
            Ok(printed) => {
                worker.documents += documents.len();
                self.pool.put(worker);
                printed
            }
            Err(Failure::Gone(why)) => Err(PressError::Process(worker.end(why).await)),
            Err(Failure::Slow) => {
                let seconds = limit.as_secs();
                Err(PressError::Process(say!("{seconds} 秒内没有排完", "not done within {seconds} seconds")))
            }
        }
    }

    /// The process ids of the children that wait; for those who measure.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        self.pool.idle().iter().filter_map(|w| w.child.id()).collect()
    }
}

impl Pool {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Worker>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn take(&self) -> Option<Worker> {
        self.idle().pop()
    }

    fn put(self: &Arc<Self>, mut worker: Worker) {
        if worker.documents >= RETIRE {
            return;
        }
        worker.since = Instant::now();
        self.idle().push(worker);
        tokio::spawn(end_idle(Arc::downgrade(self)));
    }
}

/// Ends, after a while, the children that have had nothing to do all that while.
async fn end_idle(pool: Weak<Pool>) {
    tokio::time::sleep(IDLE).await;
    if let Some(pool) = pool.upgrade() {
        pool.idle().retain(|worker| worker.since.elapsed() < IDLE);
    }
}

/// Why a child has no answer.
enum Failure {
    Gone(std::io::Error),
    Slow,
}

impl Worker {
    async fn start(settings: &PressSettings) -> Result<Self, PressError> {
        // Names the running program even where its file has been replaced.
        let program = settings.program.clone().unwrap_or_else(|| "/proc/self/exe".into());
        let lang = if lang::current() == Lang::En { "en" } else { "zh" };
        let mut child = Command::new(&program)
            .args(["press", "--lang", lang])
            // One core a child: how many there are is the site's choice.
            .env("RAYON_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| PressError::Process(format!("{}: {error}", program.display())))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(PressError::Process(say!("没有管道", "it has no pipes")));
        };
        let mut worker = Self { child, input, output, documents: 0, since: Instant::now() };
        let hello = serde_json::to_vec(settings).map_err(|e| broken(&e))?;
        match worker.write(&hello).await {
            Ok(()) => Ok(worker),
            Err(error) => Err(PressError::Process(worker.end(error).await)),
        }
    }

    async fn work(&mut self, job: &[u8], limit: Duration) -> Result<Result<Printed, PressError>, Failure> {
        match tokio::time::timeout(limit, self.exchange(job)).await {
            Ok(done) => done.map_err(Failure::Gone),
            Err(_) => Err(Failure::Slow),
        }
    }

    async fn exchange(&mut self, job: &[u8]) -> std::io::Result<Result<Printed, PressError>> {
        self.write(job).await?;
        let answer: Answer = serde_json::from_slice(&self.read().await?)?;
        let head = match answer {
            Ok(head) => head,
            Err(error) => return Ok(Err(error)),
        };
        let pdf = self.read().await?;
        let jpg = if head.jpg { Some(self.read().await?) } else { None };
        Ok(Ok(Printed { pdf, jpg, pages: head.pages, missing: head.missing }))
    }

    async fn write(&mut self, frame: &[u8]) -> std::io::Result<()> {
        self.input.write_all(&length(frame)?).await?;
        self.input.write_all(frame).await?;
        self.input.flush().await
    }

    async fn read(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = [0; 4];
        self.output.read_exact(&mut bytes).await?;
        let mut frame = vec![0; read_length(bytes)?];
        self.output.read_exact(&mut frame).await?;
        Ok(frame)
    }

    /// Ends it, and says how it ended where it did so by itself.
    async fn end(mut self, why: std::io::Error) -> String {
        drop(self.input);
        let ended = tokio::time::timeout(Duration::from_secs(1), self.child.wait()).await;
        match ended {
            Ok(Ok(status)) if !status.success() => {
                say!(
                    "它意外结束了（{status}）。日志里有原因；常见的是内存不足",
                    "it ended unexpectedly ({status}). The log says why; often memory ran out"
                )
            }
            _ => why.to_string(),
        }
    }
}

fn broken(error: &serde_json::Error) -> PressError {
    PressError::Process(error.to_string())
}
