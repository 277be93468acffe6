//! Graphs, batches and states that do not fit: clear errors that name the node and the shapes.

use std::sync::Arc;

use earlybird::Error;
use earlybird::autograd::{Hyper, Layout, Mode, Packing, Session, lower};
use earlybird::backend::cpu::Cpu;
use earlybird::graph::{Graph, Node, NodeId, Op};
use earlybird::ops::Shape;
use earlybird::ops::conv2d::Conv2dAttr;
use earlybird::ops::pool::Window;
use earlybird::ops::relu::ReluAttr;

use crate::random::{batch, network, state};

fn says<T>(result: Result<T, Error>, words: &[&str]) {
    let Err(error) = result else { panic!("must be refused: {words:?}") };
    let message = error.to_string();
    assert_eq!(error.exit_code(), 2, "{message}");
    words.iter().for_each(|word| assert!(message.contains(word), "`{message}` should say `{word}`"));
}

fn start() -> (Graph, NodeId) {
    let mut g = Graph::new("test");
    let x = g.input(Shape::new(8, 6, 4));
    (g, x)
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let (mut g, x) = start();
    let y = g.conv2d(x, "narrow", Conv2dAttr::square(3, 3, 1, 1)).unwrap();
    says(g.add(x, y, "sum"), &["sum (add)", "8x6x4", "8x6x3"]);
    says(g.conv2d(x, "large", Conv2dAttr::square(3, 9, 1, 0)), &["large (conv2d)", "9x9", "8x6x4"]);
    says(g.conv2d(x, "none", Conv2dAttr::square(0, 3, 1, 1)), &["none (conv2d)"]);
    says(g.conv2d(x, "still", Conv2dAttr::square(3, 3, 0, 1)), &["still (conv2d)", "stride"]);
    says(g.maxpool(x, "pool", Window { kernel: 7, stride: 1, padding: 0 }), &["pool (maxpool)", "7x7", "8x6x4"]);
    says(g.maxpool(x, "pool", Window { kernel: 2, stride: 2, padding: 2 }), &["pool (maxpool)", "padding"]);
    says(g.avgpool(x, "pool", Window { kernel: 0, stride: 1, padding: 0 }), &["pool (avgpool)", "kernel"]);
    says(g.linear(x, "head", 0), &["head (linear)"]);
    for channels in [vec![], vec![4], vec![1, 1], vec![2, 1]] {
        says(g.select(x, "pick", channels), &["pick (select)", "below 4"]);
    }
    assert_eq!(g.nodes().len(), 2, "a refused node leaves nothing behind");
}

#[test]
fn unknown_inputs_wrong_counts_and_taken_names_are_named() {
    let (mut g, x) = start();
    says(g.relu(NodeId(7), "relu"), &["relu (relu)", "input 7"]);
    says(g.add_node("relu", Op::Relu(ReluAttr {}), &[x, x]), &["relu (relu)", "one input, has 2"]);
    says(g.add_node("relu", Op::Relu(ReluAttr {}), &[]), &["relu (relu)", "has 0"]);
    says(g.add_node("second", Op::Input(Shape::new(1, 1, 1)), &[]), &["second (input)", "one input node"]);
    g.relu(x, "relu").unwrap();
    says(g.relu(x, "relu"), &["relu (relu)", "taken"]);
    says(g.push(Node { name: "input".into(), op: Op::Relu(ReluAttr {}), inputs: vec![x] }), &["taken"]);
}

#[test]
fn graphs_from_files_are_checked_like_built_ones() {
    let read = |text: String| serde_json::from_str::<Graph>(&text).map_err(|e| e.to_string());
    let good = serde_json::to_string(&network(3, 10)).unwrap();
    assert_eq!(read(good.clone()).unwrap(), network(3, 10));
    let input = |shape: &str| format!(r#"{{"name":"input","op":"input",{shape},"inputs":[]}}"#);
    let conv = r#"{"name":"c","op":"conv2d","out_channels":K,"kernel":[1,1],"stride":[1,1],"padding":[0,0],"bias":false,"inputs":[I]}"#;
    let graph = |nodes: &[String]| read(format!(r#"{{"name":"x","nodes":[{}]}}"#, nodes.join(",")));
    let image = input(r#""h":2,"w":2,"c":2"#);
    assert!(graph(&[image.clone(), conv.replace('K', "3").replace('I', "0")]).is_ok());
    for (k, i, word) in [("3", "1", "input 1"), ("99999999999", "0", "too large"), ("0", "0", "at least 1")] {
        let message = graph(&[image.clone(), conv.replace('K', k).replace('I', i)]).unwrap_err();
        assert!(message.contains(word) && message.contains("c (conv2d)"), "{message}");
    }
    for shape in [r#""h":0,"w":2,"c":2"#, r#""h":18446744073709551615,"w":2,"c":2"#, r#""h":1048576,"w":1048576,"c":2"#]
    {
        assert!(graph(&[input(shape)]).unwrap_err().contains("empty or too large"), "{shape}");
    }
    assert!(graph(&[image.replace("input\",\"h", "fft\",\"h")]).is_err(), "unknown operator");
}

#[test]
fn what_is_no_classifier_is_refused_before_anything_is_allocated() {
    let open = |g: Graph| Session::new(Arc::new(g), Cpu::new(), Hyper::default()).map(|_| ());
    says(open(Graph::new("nothing")), &["nothing", "no nodes"]);
    let (mut g, x) = start();
    g.relu(x, "relu").unwrap();
    says(open(g), &["relu (relu)", "1x1", "8x6x4"]);
    let (mut g, x) = start();
    g.relu(x, "loose").unwrap();
    g.linear(x, "head", 3).unwrap();
    says(open(g), &["loose (relu)", "nothing reads"]);
    let (mut g, x) = start();
    g.linear(x, "head", 1).unwrap();
    says(open(g), &["head (linear)", "two classes"]);
}

#[test]
fn tensors_beyond_32_bits_are_refused() {
    let (mut g, x) = start();
    g.linear(x, "head", 3).unwrap();
    let layout = Layout::new(&g);
    for batch in [0, 1 << 30, usize::MAX] {
        says(lower(&g, &layout, &Packing::default(), batch, Mode::Train, &|_| 0), &["input", "8x6x4"]);
    }
}

#[test]
fn batches_and_states_of_another_network_are_refused() {
    let g = Arc::new(network(3, 10));
    let mut session = Session::new(g.clone(), Cpu::new(), Hyper::default()).unwrap();
    let good = state(&g, 1);
    session.load_state(&good).unwrap();
    let (images, labels) = batch(&g, 2, 1);
    says(session.step(&images[1..], &labels, 0.1), &["batch", &g.input_shape().to_string()]);
    says(session.step(&[], &[], 0.1), &["batch"]);
    says(session.step(&images, &[0, 3], 0.1), &["label 3", "3 classes"]);
    let name = "stem.weight".to_string();
    let mut bad = good.clone();
    let dims = bad[&name].dims.clone();
    bad.get_mut(&name).unwrap().dims.push(1);
    says(session.load_state(&bad), &["stem.weight", &format!("{dims:?}")]);
    bad.remove(&name);
    says(session.load_state(&bad), &["stem.weight", "missing"]);
    session.step(&images, &labels, 0.1).unwrap();
}
