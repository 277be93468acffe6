//! Times of a real GPU: device events around the work, L2 flushed before each run. Not here: statistics over runs.

use std::sync::Arc;

use crate::driver::{Clock, DevPtr, Driver, EventId, Fill, StreamId};
use crate::{Error, Result};

/// Measures work on one stream of a device.
pub struct Timer {
    driver: Arc<dyn Driver>,
    stream: StreamId,
    start: EventId,
    end: EventId,
    flush: DevPtr,
    flush_bytes: usize,
}

impl Timer {
    /// For work on `stream`. Holds twice the L2 cache in device memory.
    ///
    /// # Errors
    /// What the driver says.
    pub fn new(driver: Arc<dyn Driver>, stream: StreamId) -> Result<Timer> {
        let flush_bytes = (2 * driver.props().l2_bytes as usize).max(4);
        let flush = driver.mem_alloc(flush_bytes)?;
        let (start, end) = (driver.event_create()?, driver.event_create()?);
        Ok(Timer { driver, stream, start, end, flush, flush_bytes })
    }

    /// Runs `work` between two events, behind a fill that pushes everything else out of L2. The fill is over before the first event.
    ///
    /// # Errors
    /// What `work` and the driver say.
    pub fn run(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.driver.fill(self.flush, Fill::U32(0), self.flush_bytes / 4, self.stream)?;
        self.driver.event_record(self.start, self.stream)?;
        work()?;
        self.driver.event_record(self.end, self.stream)?;
        Ok(self.driver.event_sync(self.end)?)
    }

    /// Seconds between the events of the last run.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on a virtual GPU: its clock is the host's.
    pub fn seconds(&self) -> Result<f64> {
        if self.driver.props().clock == Clock::Simulated {
            return Err(Error::Unsupported {
                what: format!("measuring times on {}", self.driver.props().device),
                place: None,
                hint: "a virtual GPU counts; `earlybird bench step --modelled` makes times of the counts".into(),
            });
        }
        Ok(f64::from(self.driver.event_elapsed(self.start, self.end)?) * 1e-3)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // Errors here are those of earlier work, which the next call reports.
        let _ = self.driver.mem_free(self.flush);
        let _ = self.driver.event_destroy(self.start);
        let _ = self.driver.event_destroy(self.end);
    }
}
