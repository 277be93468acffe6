//! `study compare --paper-settings --dry-run`: the total training FLOPs of the paper's own settings, counted anew from the networks and held against the printed tables.

use super::super::{DONE, FINDINGS, say};
use crate::Result;
use crate::energy::flops::{self, PAPER, PaperSetting};
use crate::nn;
use crate::ops::Shape;

/// Forward operations of an image, counted from the network.
fn forward(setting: &PaperSetting) -> Result<u64> {
    let (side, classes) = setting.input;
    let options = nn::ModelOptions { classes, input: Shape::new(side, side, 3), width: 1.0 };
    Ok(nn::build(setting.model, &options)?.flops())
}

/// Prints one line per setting. Exit code 1 where a total is not the printed one.
pub fn run() -> Result<u8> {
    say(
        "total training FLOPs of the unpruned networks: 3 x forward FLOPs of an image (to 0.01 GFLOP, as printed) x images x epochs",
    );
    let mut code = DONE;
    for setting in PAPER {
        let forward = forward(&setting)?;
        let (printed, unit, name) = setting.printed;
        let total = flops::training_as_printed(forward, setting.images, setting.epochs) / unit;
        let fits = (total - printed).abs() < 0.005;
        if !fits {
            code = FINDINGS;
        }
        say(format_args!(
            "{:20} {:10.2} {name:9} the paper prints {printed} {}  ({forward} FLOPs an image, counted from the network; {} images, {} epochs)",
            setting.name,
            total,
            if fits { "(equal)" } else { "(DIFFERENT)" },
            setting.images,
            setting.epochs
        ));
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_totals_come_out_to_the_printed_digit() {
        for setting in PAPER {
            let (printed, unit, _) = setting.printed;
            let total = flops::training_as_printed(forward(&setting).unwrap(), setting.images, setting.epochs) / unit;
            assert!((total - printed).abs() < 0.005, "{}: {total} for {printed}", setting.name);
        }
    }
}
