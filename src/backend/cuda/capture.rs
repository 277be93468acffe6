//! Captured graphs: a series of operator calls recorded once, and run by one call of the driver.
//!
//! A thread that records has a stream of its own for that time, so that other threads' work on the same device goes on undisturbed and never ends up in the recording.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use super::device::Cuda;
use crate::backend::{Memory, Replay, Span};
use crate::driver::{Driver, GraphId, StreamId};
use crate::{Error, Result};

/// The threads that record now.
#[derive(Default)]
pub(super) struct Recordings(Mutex<HashMap<ThreadId, Recording>>);

struct Recording {
    stream: StreamId,
    /// First address and the one behind the last of the memory that the recording keeps.
    kept: Vec<(u64, u64)>,
}

impl Recordings {
    fn lock(&self) -> MutexGuard<'_, HashMap<ThreadId, Recording>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream that this thread records from, if it does.
    pub(super) fn stream(&self) -> Option<StreamId> {
        let all = self.lock();
        if all.is_empty() { None } else { all.get(&thread::current().id()).map(|recording| recording.stream) }
    }

    /// Refuses what cannot be recorded.
    pub(super) fn refuse(&self, what: &'static str) -> Result<()> {
        match self.stream() {
            None => Ok(()),
            Some(_) => Err(defect(format!("{what} cannot be recorded"))),
        }
    }

    /// Checks that a recording keeps the memory it names: it will be used long after this call.
    pub(super) fn check(&self, op: &str, spans: &[Span]) -> Result<()> {
        let all = self.lock();
        if all.is_empty() {
            return Ok(());
        }
        let Some(recording) = all.get(&thread::current().id()) else { return Ok(()) };
        let inside = |span: &Span| {
            let (start, end) = (span.address(), span.address() + span.bytes() as u64);
            recording.kept.iter().any(|(first, behind)| *first <= start && end <= *behind)
        };
        match spans.iter().position(|span| span.bytes() > 0 && !inside(span)) {
            None => Ok(()),
            Some(i) => Err(defect(format!("span {i} of {op} lies in memory that the recording does not keep"))),
        }
    }
}

fn defect(what: String) -> Error {
    Error::Graph { node: "capture".into(), op: "cuda", what }
}

/// A captured graph with the memory it works on.
struct Captured {
    driver: Arc<dyn Driver>,
    graph: GraphId,
    stream: StreamId,
    _keep: Vec<Memory>,
}

impl Replay for Captured {
    fn run(&self) -> Result<()> {
        Ok(self.driver.graph_launch(self.graph, self.stream)?)
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        let _ = self.driver.graph_destroy(self.graph); // nothing is left to tell of an error here
    }
}

/// Records what `work` issues on this thread, see [`crate::backend::Backend::capture`].
pub(super) fn capture(
    cuda: &Cuda,
    keep: &[&Memory],
    work: &mut (dyn FnMut() -> Result<()> + Send),
) -> Result<Box<dyn Replay>> {
    cuda.recordings().refuse("a recording")?;
    let driver = cuda.driver();
    let stream = driver.stream_create()?;
    let graph = record(cuda, stream, keep, work);
    let destroyed = driver.stream_destroy(stream);
    let graph = graph?;
    let captured = Captured {
        driver: Arc::clone(driver),
        graph,
        stream: cuda.stream(),
        _keep: keep.iter().copied().chain([cuda.tickets_memory()]).cloned().collect(),
    };
    destroyed?;
    Ok(Box::new(captured))
}

fn record(
    cuda: &Cuda,
    stream: StreamId,
    keep: &[&Memory],
    work: &mut (dyn FnMut() -> Result<()> + Send),
) -> Result<GraphId> {
    let (driver, thread) = (cuda.driver(), thread::current().id());
    let range = |memory: &&Memory| {
        let all = memory.all();
        (all.address(), all.address() + all.bytes() as u64)
    };
    let kept = keep.iter().map(range).collect();
    driver.capture_begin(stream)?;
    cuda.recordings().lock().insert(thread, Recording { stream, kept });
    let done = work();
    cuda.recordings().lock().remove(&thread);
    // Whatever happened, the stream must stop capturing.
    let graph = driver.capture_end(stream);
    match (done, graph) {
        (Ok(()), graph) => Ok(graph?),
        (Err(error), graph) => {
            if let Ok(graph) = graph {
                let _ = driver.graph_destroy(graph); // the first error is the one to tell
            }
            Err(error)
        }
    }
}
