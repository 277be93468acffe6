//! Reverse-mode differentiation over the graph, the memory plan, and the session that runs both.
//!
//! [`lower`] turns a [`crate::graph::Graph`] and a batch size into calls of [`crate::backend::Backend`]; [`plan()`] gives every value its place;
//! [`Session`] owns the memory and runs the calls.

mod execute;
mod feed;
mod layout;
mod packing;
mod plan;
mod precision;
mod program;
mod recorded;
mod session;
mod state;
mod step;

pub use execute::execute;
pub use feed::{Feed, Resident, Take};
pub use layout::{Arena, Layout, Placed};
pub use packing::{Packed, Packing};
pub use plan::{Plan, plan};
pub use precision::{Int8Options, Precision, Products};
pub use program::{Mode, Place, Program, ValueInfo, lower};
pub use session::{Hyper, Session, StepEvent, StepHook};
pub use state::{StateDict, Tensor, torch_dims};
pub use step::{Issue, Part};
