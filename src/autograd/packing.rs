//! How the 8-bit optimiser treats each parameter, and where the packed weights of the integer products lie.

use std::collections::HashMap;

use super::layout::{Arena, Layout};
use super::precision::{Precision, Products};
use crate::graph::{Graph, NodeId, Op};
use crate::ops::ParameterKind;
use crate::ops::sgd::{Format, Segment, Sgd, SgdI8};
use crate::quant::layout::{Role, pad, tensor};
use crate::quant::philox;
use crate::{Error, Result};

/// Every packed tensor begins at a multiple of this many bytes: a line, and more than any vector load wants.
const ALIGN: usize = 256;

/// The packed weights of one convolution: first byte of each tensor, see [`Segment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Mantissas `[K][taps][pad C]`.
    pub weights: usize,
    /// Transposed mantissas `[C][flipped taps][pad K]`.
    pub transposed: usize,
    /// Exponents `[K]`.
    pub exponents: usize,
}

/// Precision and seed of a session, and the memory that they ask for.
#[derive(Clone, Debug, Default)]
pub struct Packing {
    /// Arithmetic of the training step.
    pub precision: Precision,
    /// The run's seed, which keys all rounding.
    pub seed: u64,
    /// One segment per trained parameter; empty in f32.
    pub table: Vec<Segment>,
    /// Bytes of packed weights.
    pub bytes: usize,
    convolutions: HashMap<NodeId, Packed>,
}

impl Packing {
    /// For `graph`, laid out as `layout` says.
    ///
    /// # Errors
    /// [`Error::Graph`] where packed weights have more bytes than a kernel can address.
    pub fn new(graph: &Graph, layout: &Layout, precision: Precision, seed: u64) -> Result<Packing> {
        let mut packing = Packing { precision, seed, ..Packing::default() };
        if precision == Precision::F32 {
            return Ok(packing);
        }
        let mut end = 0;
        let mut take = |bytes: usize| {
            let start = usize::next_multiple_of(end, ALIGN);
            end = start + bytes;
            start
        };
        for placed in layout.entries().iter().filter(|placed| placed.arena == Arena::Parameters) {
            let (parameter, elements) = (&placed.parameter, placed.parameter.elements());
            let mut segment = Segment::plain(placed.offset as u32, elements as u32);
            if packing.rounds_elements() {
                segment.format = Format::Elements as u32;
            }
            if let ([rows, dims @ ..], ParameterKind::ConvWeight | ParameterKind::LinearWeight) =
                (&parameter.dims[..], parameter.kind)
            {
                segment.rows = *rows as u32;
                segment.columns = dims.iter().product::<usize>() as u32;
                segment.format = Format::Rows as u32;
                if let ([r, s, c], true) = (dims, packing.has_integer_products(graph, parameter.node)) {
                    let packed = Packed {
                        weights: take(rows * r * s * pad(*c)),
                        transposed: take(c * r * s * pad(*rows)),
                        exponents: take(*rows),
                    };
                    segment.format = Format::Conv as u32;
                    (segment.taps, segment.c) = ((r * s) as u32, *c as u32);
                    (segment.weights, segment.transposed) = (packed.weights as u32, packed.transposed as u32);
                    segment.exponents = packed.exponents as u32;
                    packing.convolutions.insert(parameter.node, packed);
                }
            }
            packing.table.push(segment);
        }
        packing.bytes = end;
        if end > u32::MAX as usize {
            let what = format!("its packed weights have {end} bytes, a kernel can address 2^32");
            return Err(Error::Graph { node: graph.name().into(), op: "graph", what });
        }
        Ok(packing)
    }

    /// Whether parameters of one dimension are rounded, too.
    fn rounds_elements(&self) -> bool {
        match self.precision {
            Precision::F32 => false,
            Precision::Eb8 => true,
            Precision::Int8(options) => options.scales_int8,
        }
    }

    /// Whether a convolution has products in integer arithmetic: one without a bias. (With one, all of it is f32: a bias is of no use where a batchnorm follows, and
    /// no network of [`crate::nn`] but the official ResNet-50 has any.)
    fn has_integer_products(&self, graph: &Graph, node: NodeId) -> bool {
        matches!((self.precision, &graph.node(node).op), (Precision::Int8(options), Op::Conv2d(attr))
            if !attr.bias && options.f32_products != Products::ALL)
    }

    /// The packed weights of a convolution that has any.
    pub fn convolution(&self, node: NodeId) -> Option<Packed> {
        self.convolutions.get(&node).copied()
    }

    /// Constants of the 8-bit step: `sgd`'s, and what this adds to them; `None` in f32.
    pub fn sgd(&self, sgd: Sgd) -> Option<SgdI8> {
        let master_f32 = match self.precision {
            Precision::F32 => return None,
            Precision::Eb8 => false,
            Precision::Int8(options) => options.master_f32,
        };
        Some(SgdI8 {
            sgd,
            segments: self.table.len() as u32,
            master_f32: u32::from(master_f32),
            round_gradients: 1,
            seed: self.key(),
            // Node 0 is the input, which has no parameters: these numbers are free.
            tensors: [Role::W, Role::V, Role::G].map(|role| tensor(0, role)),
        })
    }

    /// Whether weights are rounded when they are loaded. The official code leaves them as they are until the first step.
    pub fn rounds_loaded(&self) -> bool {
        matches!(self.precision, Precision::Int8(_))
    }

    /// The seed as kernels take it.
    pub fn key(&self) -> [u32; 2] {
        philox::key(self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::precision::Int8Options;
    use super::*;
    use crate::nn::{ModelOptions, build};

    #[test]
    fn segments_cover_every_parameter_and_packed_tensors_are_apart() {
        let graph = build("preresnet20", &ModelOptions { width: 0.4, ..Default::default() }).unwrap();
        let layout = Layout::new(&graph);
        let packing = Packing::new(&graph, &layout, Precision::Int8(Int8Options::default()), 1).unwrap();
        let elements: usize = packing.table.iter().map(|s| (s.rows * s.columns) as usize).sum();
        assert_eq!(elements, graph.parameter_count());
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        for s in packing.table.iter().filter(|s| s.format == Format::Conv as u32) {
            let (rows, taps, c) = (s.rows as usize, s.taps as usize, s.c as usize);
            let lengths = [rows * taps * pad(c), c * taps * pad(rows), rows];
            pieces.extend([s.weights, s.transposed, s.exponents].map(|at| at as usize).into_iter().zip(lengths));
        }
        pieces.sort_unstable();
        assert!(pieces.len() > 50);
        assert!(pieces.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        assert!(pieces.iter().all(|(at, length)| at % ALIGN == 0 && at + length <= packing.bytes));
    }

    #[test]
    fn nothing_is_packed_where_no_product_is_an_integers() {
        let graph = build("vgg11", &ModelOptions::default()).unwrap();
        let layout = Layout::new(&graph);
        let f32_products = Products::ALL;
        for precision in
            [Precision::F32, Precision::Eb8, Precision::Int8(Int8Options { f32_products, ..Default::default() })]
        {
            let packing = Packing::new(&graph, &layout, precision, 1).unwrap();
            assert_eq!((packing.bytes, packing.table.is_empty()), (0, precision == Precision::F32));
        }
    }
}
