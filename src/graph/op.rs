//! The closed list of operators a network may hold, so that a network can be written to a file and read back.

use serde::{Deserialize, Serialize};

use crate::ops::add::AddAttr;
use crate::ops::batchnorm::BatchNormAttr;
use crate::ops::conv2d::Conv2dAttr;
use crate::ops::linear::LinearAttr;
use crate::ops::pool::{AvgPoolAttr, GlobalAvgPoolAttr, MaxPoolAttr};
use crate::ops::relu::ReluAttr;
use crate::ops::select::SelectAttr;
use crate::ops::{Operator, Shape};

/// An operator with its attributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// The image.
    Input(Shape),
    /// Convolution.
    Conv2d(Conv2dAttr),
    /// Batch normalisation.
    #[serde(rename = "batchnorm")]
    BatchNorm(BatchNormAttr),
    /// ReLU.
    Relu(ReluAttr),
    /// Maximum over windows.
    #[serde(rename = "maxpool")]
    MaxPool(MaxPoolAttr),
    /// Mean over windows.
    #[serde(rename = "avgpool")]
    AvgPool(AvgPoolAttr),
    /// Mean over the image.
    #[serde(rename = "global_avgpool")]
    GlobalAvgPool(GlobalAvgPoolAttr),
    /// Fully connected.
    Linear(LinearAttr),
    /// Elementwise sum.
    Add(AddAttr),
    /// Channel gather.
    Select(SelectAttr),
}

impl Op {
    /// The operator's rules; `None` for the input, which has none.
    pub fn operator(&self) -> Option<&dyn Operator> {
        match self {
            Op::Input(_) => None,
            Op::Conv2d(op) => Some(op),
            Op::BatchNorm(op) => Some(op),
            Op::Relu(op) => Some(op),
            Op::MaxPool(op) => Some(op),
            Op::AvgPool(op) => Some(op),
            Op::GlobalAvgPool(op) => Some(op),
            Op::Linear(op) => Some(op),
            Op::Add(op) => Some(op),
            Op::Select(op) => Some(op),
        }
    }

    /// The operator's one word.
    pub fn stem(&self) -> &'static str {
        self.operator().map_or("input", |op| op.stem())
    }
}
