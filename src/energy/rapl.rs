//! RAPL through the kernel's powercap files: energy of processor packages and memory.
//!
//! Since Linux 5.10 the files are readable by root only (CVE-2020-8694); then the reason says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::meter::{Component, Counter};

/// Where the kernel shows power zones.
pub const POWERCAP: &str = "/sys/class/powercap";

struct Zone {
    name: String,
    component: Component,
    file: PathBuf,
    range: Option<u64>,
}

impl Counter for Zone {
    fn name(&self) -> String {
        format!("RAPL {}", self.name)
    }

    fn component(&self) -> Component {
        self.component
    }

    fn read(&mut self) -> Result<u64, String> {
        number(&self.file)
    }

    fn range(&self) -> Option<u64> {
        self.range
    }

    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }
}

fn number(file: &Path) -> Result<u64, String> {
    let text = std::fs::read_to_string(file).map_err(|e| match e.kind() {
        std::io::ErrorKind::PermissionDenied => {
            format!("{} is not readable (since Linux 5.10 root only; chmod a+r it)", file.display())
        }
        _ => format!("{}: {e}", file.display()),
    })?;
    text.trim().parse().map_err(|_| format!("{} holds `{}`, no number", file.display(), text.trim()))
}

/// Counters of all packages and memories below `powercap`, and why a component has none.
pub fn open(powercap: &Path) -> (Vec<Box<dyn Counter>>, BTreeMap<Component, String>) {
    let mut zones: Vec<PathBuf> = match std::fs::read_dir(powercap) {
        // `intel-rapl-mmio:0` is the same package again.
        Ok(entries) => {
            let named =
                |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("intel-rapl:"));
            entries.flatten().map(|entry| entry.path()).filter(named).collect()
        }
        Err(e) => {
            let why = format!("no RAPL: {}: {e}", powercap.display());
            return (Vec::new(), BTreeMap::from([(Component::Cpu, why.clone()), (Component::Ram, why)]));
        }
    };
    zones.sort();
    let mut counters: Vec<Box<dyn Counter>> = Vec::new();
    let mut absent = BTreeMap::new();
    for zone in zones {
        let Ok(name) = std::fs::read_to_string(zone.join("name")) else { continue };
        // `core` and `uncore` are parts of the package, `psys` contains it.
        let component = match name.trim() {
            "dram" => Component::Ram,
            name if name.starts_with("package") => Component::Cpu,
            _ => continue,
        };
        let file = zone.join("energy_uj");
        match number(&file) {
            Ok(_) => {
                let range = number(&zone.join("max_energy_range_uj")).ok();
                counters.push(Box::new(Zone { name: name.trim().into(), component, file, range }));
            }
            Err(why) => drop(absent.insert(component, format!("RAPL: {why}"))),
        }
    }
    for component in [Component::Cpu, Component::Ram] {
        if !absent.contains_key(&component) && !counters.iter().any(|counter| counter.component() == component) {
            absent.insert(component, format!("no RAPL zone of it below {}", powercap.display()));
        }
    }
    // A component is known whole or not at all: a package that cannot be read makes the sum worthless.
    counters.retain(|counter| !absent.contains_key(&counter.component()));
    (counters, absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(root: &Path, zone: &str, name: &str, energy: &str) {
        let folder = root.join(zone);
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in [("name", name), ("energy_uj", energy), ("max_energy_range_uj", "262143328850\n")] {
            std::fs::write(folder.join(file), text).unwrap();
        }
    }

    #[test]
    fn packages_and_memory_are_found_and_nothing_is_counted_twice() {
        let root = tempfile::tempdir().unwrap();
        zone(root.path(), "intel-rapl:0", "package-0\n", "1000\n");
        zone(root.path(), "intel-rapl:0:0", "core\n", "400\n");
        zone(root.path(), "intel-rapl:0:1", "dram\n", "70\n");
        zone(root.path(), "intel-rapl:1", "package-1\n", "2000\n");
        zone(root.path(), "intel-rapl:2", "psys\n", "9000\n");
        zone(root.path(), "intel-rapl-mmio:0", "package-0\n", "1000\n");
        let (mut counters, absent) = open(root.path());
        let read: Vec<_> = counters.iter_mut().map(|c| (c.component(), c.read().unwrap(), c.range())).collect();
        let range = Some(262_143_328_850);
        assert_eq!(read, [(Component::Cpu, 1000, range), (Component::Ram, 70, range), (Component::Cpu, 2000, range)]);
        assert!(absent.is_empty());
    }

    #[test]
    fn what_is_missing_or_unreadable_has_a_reason() {
        let root = tempfile::tempdir().unwrap();
        let (counters, absent) = open(&root.path().join("nothing"));
        assert!(
            counters.is_empty() && absent[&Component::Cpu].contains("nothing") && absent.contains_key(&Component::Ram)
        );
        zone(root.path(), "intel-rapl:0", "package-0\n", "not a number");
        let (counters, absent) = open(root.path());
        assert!(counters.is_empty() && absent[&Component::Cpu].contains("no number"), "{absent:?}");
        assert!(absent[&Component::Ram].contains("no RAPL zone"));
    }
}
