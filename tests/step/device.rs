//! GPUs whose calls are counted, sessions on them, and a backend that does not record.

use std::sync::Arc;

use earlybird::autograd::{Hyper, Session, StateDict};
use earlybird::backend::Backend;
use earlybird::backend::cuda::Cuda;
use earlybird::driver;
use earlybird::driver::observe::Observed;
use earlybird::driver::trace::{Counts, Trace, trace};
use earlybird::graph::Graph;
use earlybird::nn::init;
use earlybird::ops::Shape;
use earlybird::ops::conv2d::Conv2dAttr;
use earlybird::ops::pool::Window;

/// A backend with the driver underneath, which counts.
pub struct Counted {
    pub backend: Arc<dyn Backend>,
    driver: Arc<Observed<Trace>>,
}

impl Counted {
    pub fn open(name: &str) -> Counted {
        let driver = Arc::new(trace(driver::open(name).unwrap()));
        Counted { backend: Arc::new(Cuda::new(driver.clone()).unwrap()), driver }
    }

    /// What `work` asked of the driver.
    pub fn count(&self, work: impl FnOnce()) -> Counts {
        self.driver.observer().reset();
        work();
        self.driver.observer().counts()
    }
}

/// A small network with every operator of a classifier that trains, for images of 8x8x3 and 4 classes.
pub fn network() -> Arc<Graph> {
    let mut g = Graph::new("small");
    let x = g.input(Shape::new(8, 8, 3));
    let x = g.conv2d(x, "stem", Conv2dAttr::square(8, 3, 1, 1)).unwrap();
    let x = g.batchnorm(x, "bn").unwrap();
    let x = g.relu(x, "relu").unwrap();
    let y = g.select(x, "select", vec![0, 2, 3, 7]).unwrap();
    let y = g.conv2d(y, "inner", Conv2dAttr { bias: true, ..Conv2dAttr::square(8, 3, 1, 1) }).unwrap();
    let x = g.add(x, y, "add").unwrap();
    let x = g.maxpool(x, "max", Window { kernel: 2, stride: 2, padding: 0 }).unwrap();
    let x = g.conv2d(x, "last", Conv2dAttr::square(12, 3, 1, 1)).unwrap();
    let x = g.batchnorm(x, "bn2").unwrap();
    let x = g.relu(x, "relu2").unwrap();
    let x = g.global_avgpool(x, "global").unwrap();
    g.linear(x, "head", 4).unwrap();
    Arc::new(g)
}

/// A session with the same initial weights every time.
pub fn session(backend: &Arc<dyn Backend>) -> Session {
    let graph = network();
    let mut session = Session::new(graph.clone(), backend.clone(), Hyper::default()).unwrap();
    session.load_state(&init(&graph, 5)).unwrap();
    session
}

/// Every number that training moves, as bits.
pub fn bits(session: &Session) -> Vec<(String, Vec<u32>)> {
    let flat = |kind: &str, state: StateDict| -> Vec<(String, Vec<u32>)> {
        let bits = |data: &[f32]| data.iter().map(|v| v.to_bits()).collect();
        state.iter().map(|(name, tensor)| (format!("{kind} {name}"), bits(&tensor.data))).collect()
    };
    let mut all = flat("state", session.state_dict().unwrap());
    all.extend(flat("momentum", session.momenta().unwrap()));
    all
}
