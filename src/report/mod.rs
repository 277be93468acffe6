//! What a run leaves behind: the run folder with metrics, mask draws, TensorBoard events, plots and a summary.
//!
//! Not here: checkpoints ([`crate::train::checkpoint`]) and what is written when ([`crate::cli`]'s recorder). All inputs are plain data.

mod folder;
pub mod html;
mod masklog;
mod metrics;
pub mod plot;
pub mod study;
mod summary;
pub mod table;
mod tensorboard;

pub use folder::{RunFolder, iso_time};
pub use masklog::{DrawRecord, MaskLog};
pub use metrics::{MetricsCsv, Row};
pub use summary::{Accuracy, Images, LayerSize, PhaseSeconds, Size, Summary, TicketSummary};
pub use tensorboard::EventFile;
