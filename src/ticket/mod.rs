//! The Early-Bird method: masks, distances, detector, search, surgery, training on.
//!
//! [`draw`] cuts masks from BN scales, [`Detector`] says when they have settled, [`plan_surgery`] removes what they prune; [`MaskTracker`] watches a network that
//! is trained elsewhere.

mod averaging;
mod detector;
mod file;
mod mask;
mod ring;
mod run;
mod shrink;
mod snapshot;
mod spaces;
mod streams;
mod surgery;
mod tracker;

pub use detector::{Criterion, Detector, DetectorOptions, Verdict};
pub use file::{Ticket, TicketInfo, ratio_label, ticket_path};
pub use mask::{Cut, Mask, check_ratio, draw};
pub use run::{DrawReport, EpochReport, Observer, Outcome, Quiet, Run, RunOptions, Start, Task};
pub use snapshot::{Phase, Progress, Seconds, Snapshot, Watched};
pub use spaces::{Space, Spaces};
pub use surgery::{LayerPlan, Policy, Surgery, SurgeryOptions, masked_state, plan_surgery};
pub use tracker::{MaskTracker, Observation};
