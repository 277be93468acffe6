//! Parameters, BN channels and operations of the models against PyTorch modules counted with hooks (`counts.json`).

use earlybird::graph::Op;
use earlybird::nn::{ModelOptions, build};
use serde_json::Value;

#[test]
fn counts_of_every_vgg_equal_those_of_the_pytorch_modules() {
    let text = std::fs::read_to_string(super::store::folder().join("counts.json")).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(rows.len(), 40);
    for row in rows {
        let number = |key: &str| row[key].as_u64().unwrap();
        let options = ModelOptions {
            classes: number("classes") as usize,
            width: row["width"].as_f64().unwrap(),
            ..ModelOptions::default()
        };
        let graph = build(row["model"].as_str().unwrap(), &options).unwrap();
        let widths: Vec<u64> = graph
            .nodes()
            .iter()
            .filter_map(|node| match &node.op {
                Op::Conv2d(conv) => Some(conv.out_channels as u64),
                _ => None,
            })
            .collect();
        let expected: Vec<u64> = row["widths"].as_array().unwrap().iter().map(|w| w.as_u64().unwrap()).collect();
        assert_eq!(widths, expected, "{row}");
        assert_eq!(graph.parameter_count() as u64, number("parameters"), "{row}");
        assert_eq!(graph.bn_channels() as u64, number("bn_channels"), "{row}");
        assert_eq!(graph.bn_layers().len() as u64, number("bn_layers"), "{row}");
        assert_eq!(graph.flops(), number("flops"), "{row}");
    }
}
