//! Mutants that make no difference, and why: by module, what was taken out, and what the line of the source says.

use earlybird::vgpu::mutate::Cut;

/// (module, cut, part of the source line, reason).
const REASONS: &[(&str, Cut, &str, &str)] = &[];

/// Why a mutant makes no difference; `None` where nobody has said so.
pub fn reason(module: &str, cut: Cut, line: &str) -> Option<&'static str> {
    let fits = |r: &&(&str, Cut, &str, &'static str)| r.0 == module && r.1 == cut && line.contains(r.2);
    REASONS.iter().find(fits).map(|r| r.3)
}
