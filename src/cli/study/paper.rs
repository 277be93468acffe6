//! `study compare --paper-settings --dry-run`: the total training FLOPs of the paper's own settings, counted anew from the networks and held against the printed tables.

use super::super::{DONE, FINDINGS, say};
use crate::Result;
use crate::energy::flops::{self, PAPER};
use crate::nn;
use crate::ops::Shape;

/// Prints one line per setting. Exit code 1 where a total is not the printed one.
pub fn run() -> Result<u8> {
    say(
        "total training FLOPs of the unpruned networks: 3 x forward FLOPs of an image (to 0.01 GFLOP, as printed) x images x epochs",
    );
    let mut code = DONE;
    for setting in PAPER {
        let (side, classes) = setting.input;
        let known = nn::MODELS.contains(&setting.model);
        let (forward, from) = if known {
            let options = nn::ModelOptions { classes, input: Shape::new(side, side, 3), width: 1.0 };
            (nn::build(setting.model, &options)?.flops(), "counted from the network")
        } else {
            (setting.forward, "a documented constant: this build does not have the network")
        };
        let (printed, unit, name) = setting.printed;
        let total = flops::training_as_printed(forward, setting.images, setting.epochs) / unit;
        let fits = (total - printed).abs() < 0.005;
        if !fits {
            code = FINDINGS;
        }
        say(format_args!(
            "{:20} {:10.2} {name:9} the paper prints {printed} {}  ({forward} FLOPs an image, {from}; {} images, {} epochs)",
            setting.name,
            total,
            if fits { "(equal)" } else { "(DIFFERENT)" },
            setting.images,
            setting.epochs
        ));
    }
    Ok(code)
}
