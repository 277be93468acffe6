//! Special registers by name.

use crate::vgpu::ir::Special;
use crate::vgpu::ptx::ast::Ty;

/// The special register `name` (with `.x`, `.y`, `.z` where it has them) and its type.
pub(super) fn special(name: &str, component: Option<u8>) -> Option<(Special, Ty)> {
    let (base, component) = match (name.split_once('.'), component) {
        (Some((base, c)), None) => (base, Some(["x", "y", "z", "w"].iter().position(|n| *n == c)? as u8)),
        (None, component) => (name, component),
        _ => return None,
    };
    let axis = |xyz: [Special; 3], rest: Special| {
        let c = usize::from(component?);
        Some((xyz.get(c).copied().unwrap_or(rest), Ty::U32)).filter(|_| c < 4)
    };
    match base {
        "%tid" => return axis([Special::TidX, Special::TidY, Special::TidZ], Special::Zero),
        "%ntid" => return axis([Special::NtidX, Special::NtidY, Special::NtidZ], Special::One),
        "%ctaid" => return axis([Special::CtaidX, Special::CtaidY, Special::CtaidZ], Special::Zero),
        "%nctaid" => return axis([Special::NctaidX, Special::NctaidY, Special::NctaidZ], Special::One),
        // Without clusters every block is one of its own.
        "%clusterid" => return axis([Special::CtaidX, Special::CtaidY, Special::CtaidZ], Special::Zero),
        "%nclusterid" => return axis([Special::NctaidX, Special::NctaidY, Special::NctaidZ], Special::One),
        "%cluster_ctaid" => return axis([Special::Zero; 3], Special::Zero),
        "%cluster_nctaid" => return axis([Special::One; 3], Special::One),
        _ => {}
    }
    if component.is_some() {
        return None;
    }
    Some(match base {
        "%laneid" => (Special::Laneid, Ty::U32),
        "%warpid" => (Special::Warpid, Ty::U32),
        "%nwarpid" => (Special::Nwarpid, Ty::U32),
        "%smid" => (Special::Smid, Ty::U32),
        "%nsmid" => (Special::Nsmid, Ty::U32),
        "%gridid" => (Special::Gridid, Ty::U64),
        "%lanemask_eq" => (Special::LanemaskEq, Ty::U32),
        "%lanemask_le" => (Special::LanemaskLe, Ty::U32),
        "%lanemask_lt" => (Special::LanemaskLt, Ty::U32),
        "%lanemask_ge" => (Special::LanemaskGe, Ty::U32),
        "%lanemask_gt" => (Special::LanemaskGt, Ty::U32),
        "%clock" => (Special::Clock, Ty::U32),
        "%clock_hi" => (Special::ClockHi, Ty::U32),
        "%clock64" => (Special::Clock64, Ty::U64),
        "%globaltimer" => (Special::Globaltimer, Ty::U64),
        "%globaltimer_lo" => (Special::GlobaltimerLo, Ty::U32),
        "%globaltimer_hi" => (Special::GlobaltimerHi, Ty::U32),
        "%dynamic_smem_size" => (Special::DynamicSmemSize, Ty::U32),
        "%total_smem_size" => (Special::TotalSmemSize, Ty::U32),
        "%aggr_smem_size" => (Special::AggrSmemSize, Ty::U32),
        "%is_explicit_cluster" => (Special::Zero, Ty::Pred),
        "%cluster_ctarank" => (Special::Zero, Ty::U32),
        "%cluster_nctarank" => (Special::One, Ty::U32),
        "%current_graph_exec" => (Special::Zero, Ty::U64),
        _ => {
            let number = |prefix: &str, below: u32| {
                base.strip_prefix(prefix)?.parse::<u32>().ok().filter(|&n| n < below).map(|_| Ty::U32)
            };
            (Special::Zero, number("%envreg", 32).or(number("%pm", 8))?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(special("%tid", Some(1)), Some((Special::TidY, Ty::U32)));
        assert_eq!(special("%ctaid.z", None), Some((Special::CtaidZ, Ty::U32)));
        assert_eq!(special("%clock64", None), Some((Special::Clock64, Ty::U64)));
        assert_eq!(special("%envreg31", None), Some((Special::Zero, Ty::U32)));
        for name in ["%tid", "%envreg32", "%laneid.x", "%nothing", "%tid.q", "tid.x"] {
            assert_eq!(special(name, None), None, "{name}");
        }
    }
}
