//! How the device is: battery and temperature, as Linux tells them. What a device does not have counts as well: a full
//! battery, no warmth.

use std::path::{Path, PathBuf};

/// Where Linux keeps what it knows of its devices.
const CLASS: &str = "/sys/class";

/// What is asked for the state of the device. Reads a few small files of the kernel, which do not block.
#[derive(Debug, Clone, Default)]
pub(super) struct Device {
    class: Option<PathBuf>,
}

impl Device {
    /// This machine.
    pub(super) fn here() -> Self {
        Self { class: Some(CLASS.into()) }
    }

    /// Charge of the battery, percent; 100 without one.
    pub(super) fn battery_percent(&self) -> u8 {
        let of = |supply: PathBuf| {
            let battery = read(&supply, "type").is_some_and(|kind| kind == "Battery");
            battery.then(|| read(&supply, "capacity")?.parse::<u8>().ok()).flatten()
        };
        self.entries("power_supply").filter_map(of).min().map_or(100, |percent| percent.min(100))
    }

    /// Temperature of the warmest part, hundredths of a degree Celsius; 0 if none is known.
    pub(super) fn temperature_centi(&self) -> i16 {
        let of = |zone: PathBuf| read(&zone, "temp")?.parse::<i64>().ok();
        let warmest = self.entries("thermal").filter_map(of).max();
        warmest.map_or(0, |milli| i16::try_from(milli / 10).unwrap_or(if milli < 0 { i16::MIN } else { i16::MAX }))
    }

    fn entries(&self, class: &str) -> impl Iterator<Item = PathBuf> {
        let listed = self.class.as_ref().and_then(|root| std::fs::read_dir(root.join(class)).ok());
        listed.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
    }
}

fn read(dir: &Path, name: &str) -> Option<String> {
    std::fs::read_to_string(dir.join(name)).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn the_emptiest_battery_and_the_warmest_zone_count() {
        let dir = tempfile::tempdir().unwrap();
        let device = Device { class: Some(dir.path().to_owned()) };
        assert_eq!((device.battery_percent(), device.temperature_centi()), (100, 0), "a device without either");
        file(dir.path(), "power_supply/AC/type", "Mains\n");
        file(dir.path(), "power_supply/AC/capacity", "1\n");
        file(dir.path(), "power_supply/BAT0/type", "Battery\n");
        file(dir.path(), "power_supply/BAT0/capacity", "87\n");
        file(dir.path(), "power_supply/BAT1/type", "Battery\n");
        file(dir.path(), "power_supply/BAT1/capacity", "nonsense\n");
        file(dir.path(), "thermal/thermal_zone0/temp", "41250\n");
        file(dir.path(), "thermal/thermal_zone1/temp", "-3000\n");
        file(dir.path(), "thermal/cooling_device0/type", "fan\n");
        assert_eq!((device.battery_percent(), device.temperature_centi()), (87, 4125));
        file(dir.path(), "thermal/thermal_zone1/temp", "99999999\n");
        assert_eq!(device.temperature_centi(), i16::MAX);
        assert_eq!((Device::default().battery_percent(), Device::default().temperature_centi()), (100, 0));
    }
}
