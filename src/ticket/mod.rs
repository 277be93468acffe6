//! The Early-Bird method: masks, distances, detector, search, surgery, training on.
//!
//! [`draw`] cuts masks from BN scales, [`Detector`] says when they have settled, [`plan_surgery`] removes what they prune.

mod detector;
mod mask;
mod spaces;
mod surgery;

pub use detector::{Criterion, Detector, DetectorOptions, Verdict};
pub use mask::{Cut, Mask, check_ratio, draw};
pub use spaces::{Space, Spaces};
pub use surgery::{LayerPlan, Surgery, SurgeryOptions, masked_state, plan_surgery};
