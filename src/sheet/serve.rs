//! The child process: reads jobs, prints them, answers, until its input ends.

use std::io::{Read, Write};

use super::engine::Engine;
use super::wire::{Answer, Head, Job, length, read_length};
use super::{PressError, PressSettings, Printed};

/// The most address space a child may take, in bytes: a document that asks for more
/// ends the child and not the machine.
const ADDRESS_SPACE: u64 = 3 << 30;

/// Serves until `input` ends.
///
/// # Errors
/// When the other side is gone, or does not speak as agreed.
pub fn serve(mut input: impl Read, mut output: impl Write) -> std::io::Result<()> {
    bound_memory();
    let Some(settings) = read(&mut input)? else { return Ok(()) };
    let settings: PressSettings = serde_json::from_slice(&settings)?;
    let engine = Engine::new(&settings);
    while let Some(job) = read(&mut input)? {
        let job: Job = serde_json::from_slice(&job)?;
        answer(&mut output, engine.print(&job.documents, job.wants))?;
    }
    Ok(())
}

fn answer(output: &mut impl Write, printed: Result<Printed, PressError>) -> std::io::Result<()> {
    match printed {
        Ok(printed) => {
            let head = Head { pages: printed.pages, missing: printed.missing, jpg: printed.jpg.is_some() };
            write(output, &serde_json::to_vec(&Answer::Ok(head))?)?;
            write(output, &printed.pdf)?;
            if let Some(jpg) = printed.jpg {
                write(output, &jpg)?;
            }
        }
        Err(error) => write(output, &serde_json::to_vec(&Answer::Err(error))?)?,
    }
    output.flush()
}

/// One frame; none where the input ends before it.
fn read(input: &mut impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = [0; 4];
    match input.read_exact(&mut bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut frame = vec![0; read_length(bytes)?];
    input.read_exact(&mut frame)?;
    Ok(Some(frame))
}

fn write(output: &mut impl Write, frame: &[u8]) -> std::io::Result<()> {
    output.write_all(&length(frame)?)?;
    output.write_all(frame)
}

/// Where the system refuses, the press still watches the time.
fn bound_memory() {
    let limit = rustix::process::Rlimit { current: Some(ADDRESS_SPACE), maximum: Some(ADDRESS_SPACE) };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::As, limit) {
        tracing::debug!(%error, "the memory of the press is not bounded");
    }
}
