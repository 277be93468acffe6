//! From search to prune, retrain, eval, masks and export.

use earlybird::ticket::Ticket;

use super::{Place, small};

#[test]
fn search_prune_and_retrain_step_by_step() {
    let place = Place::new();
    place.ok(&small(&["search"], &[]));
    let summary = place.json("run/summary.json");
    assert_eq!((&summary["outcome"], &summary["after"]), (&"found".into(), &serde_json::Value::Null));
    assert!(place.text("run/channels.svg").contains("Channels kept"), "what the first ticket would keep");
    for ratio in ["p50", "p30"] {
        let ticket = Ticket::load(&place.path(&format!("run/ticket-{ratio}.safetensors"))).unwrap();
        assert_eq!(ticket.mask.len(), 172);
        assert!(ticket.info.distances.len() == 2 && ticket.info.distances.iter().all(|d| *d < 0.3));
        assert_eq!(ticket.kept().len(), 8);
    }
    let ticket = "run/ticket-p50.safetensors";
    let out = place.ok(&["prune", ticket, "--out", "small.safetensors", "--min-channels", "3", "--round-to", "8"]);
    assert!(out.contains("channels    172 ->") && out.contains("wrote small.safetensors"), "{out}");
    let dry = place.ok(&["prune", ticket, "--out", "dry.safetensors", "--dry-run"]);
    assert!(dry.contains("FLOPs") && !place.path("dry.safetensors").exists(), "{dry}");
    place.refuses(&["prune", ticket, "--out", "x", "--min-channels", "0"], &["--min-channels"]);
    place.refuses(&["prune", "run/model.safetensors", "--out", "x"], &["model.safetensors", "earlybird.ticket"]);
    place.ok(&["eval", "small.safetensors", "--data", "digits"]);
    place.ok(&["eval", ticket]);

    // Retraining the ticket is what `train` does after its search.
    place.ok(&small(&["retrain", ticket], &["--out", "retrained"]));
    place.ok(&small(&["train"], &["--out", "trained"]));
    let (a, b) = (place.read("retrained/model.safetensors"), place.read("trained/model.safetensors"));
    assert!(a == b, "retrain and train end in the same weights");
    place.refuses(&small(&["retrain", ticket], &["--start", "rewind", "--out", "r"]), &["--start rewind"]);
    place.ok(&small(&["retrain", ticket], &["--start", "reinit", "--out", "fresh"]));
    assert!(place.read("fresh/model.safetensors") != a);
}

#[test]
fn masks_writes_the_matrix_as_csv_and_svg() {
    let place = Place::new();
    place.ok(&small(&["search"], &[]));
    for ratio in ["p50", "p30"] {
        for end in ["csv", "svg"] {
            std::fs::remove_file(place.path(&format!("run/mask-distance-{ratio}.{end}"))).unwrap();
        }
    }
    let out = place.ok(&["masks", "run"]);
    assert!(out.contains("mask-distance-p50.svg"), "{out}");
    let csv = place.text("run/mask-distance-p50.csv");
    let rows: Vec<Vec<f64>> =
        csv.lines().skip(1).map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect()).collect();
    assert_eq!(rows.len(), 4, "the start and three epochs: {csv}");
    for (i, row) in rows.iter().enumerate() {
        assert_eq!((row.len(), row[i + 1]), (5, 0.0), "nothing differs from itself");
        for (j, other) in rows.iter().enumerate() {
            assert_eq!(row[j + 1], other[i + 1], "symmetric");
        }
    }
    let ticket = Ticket::load(&place.path("run/ticket-p50.safetensors")).unwrap();
    assert_eq!(rows[3][3], ticket.info.distances[0], "neighbours are what the detector judged");
    place.refuses(&["masks", "nowhere"], &["nowhere"]);
}

#[test]
fn export_writes_weights_network_and_loader() {
    let place = Place::new();
    place.ok(&small(&["train"], &[]));
    let out = place.ok(&["export", "run/model.safetensors", "--torch", "--out", "for-torch"]);
    assert!(out.contains("load.py"), "{out}");
    let weights = earlybird::train::checkpoint::Checkpoint::load(&place.path("for-torch/weights.safetensors")).unwrap();
    let model = earlybird::train::checkpoint::Checkpoint::load(&place.path("run/model.safetensors")).unwrap();
    assert_eq!(weights.tensors, model.tensors);
    assert!(place.json("for-torch/network.json")["nodes"].as_array().unwrap().len() > 20);
    assert!(place.text("for-torch/load.py").contains("def load("));
    place.ok(&["export", "run/ticket-p50.safetensors", "--torch", "--out", "dense"]);
    let dense = earlybird::train::checkpoint::Checkpoint::load(&place.path("dense/weights.safetensors")).unwrap();
    assert!(dense.tensors.keys().all(|name| !name.contains("momentum")), "a ticket's momenta stay behind");
    place.refuses(&["export", "for-torch/weights.safetensors", "--torch", "--out", "x"], &["carries no network"]);
}

#[test]
fn init_starts_from_a_pytorch_state_dict() {
    let place = Place::new();
    place.ok(&small(&["train"], &["--steps", "0", "--out", "start"]));
    place.ok(&["export", "start/model.safetensors", "--torch", "--out", "torch"]);
    place.ok(&small(&["train"], &["--steps", "5", "--out", "a"]));
    place.ok(&small(&["train"], &["--steps", "5", "--init", "torch/weights.safetensors", "--out", "b"]));
    assert!(place.read("a/model.safetensors") == place.read("b/model.safetensors"));
}
