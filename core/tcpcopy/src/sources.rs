//! What `-i` names: devices, or capture files.

use std::path::Path;

use tcpcopy_net::file::Input;

/// The device name that means all devices.
const ANY_DEVICE: &str = "any";
/// The name that means standard input.
const STANDARD_INPUT: &str = "-";

/// Where packets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sources {
    /// These devices; empty for all.
    Devices(Vec<String>),
    /// These capture files, at least one.
    Files(Vec<Input>),
}

/// Why the names of `-i` make no sense together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourcesError {
    /// A device beside a file.
    #[error("-i names the device '{device}' and the file '{file}'; it takes either")]
    Mixed {
        /// A device among the names.
        device: String,
        /// A file among them.
        file: String,
    },
    /// Neither.
    #[error("there is no device and no file '{name}'; the devices are {present}")]
    Nothing {
        /// The name.
        name: String,
        /// The devices that exist.
        present: String,
    },
    /// Standard input beside itself.
    #[error("-i names standard input twice")]
    StandardInputTwice,
}

impl SourcesError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Mixed { .. } => {
                "capture on devices, or replay files; a file that is called like a device is \
                 written with its directory, such as ./eth0"
            }
            Self::Nothing { .. } => {
                "name one of these, or a file, or leave -i out to capture on all"
            }
            Self::StandardInputTwice => "leave out one '-'",
        }
    }
}

/// Tells devices from files: a name that is a device's is one; `-` and what `is_file` knows are
/// files.
///
/// # Errors
/// [`SourcesError`] if both are named, or something that is neither.
pub fn sources(
    names: &[String],
    devices: &[String],
    is_file: impl Fn(&Path) -> bool,
) -> Result<Sources, SourcesError> {
    let (mut named_devices, mut files): (Vec<String>, Vec<&String>) = (Vec::new(), Vec::new());
    for name in names {
        if name == ANY_DEVICE || devices.contains(name) {
            if !named_devices.contains(name) {
                named_devices.push(name.clone());
            }
        } else if name == STANDARD_INPUT || is_file(Path::new(name)) {
            files.push(name);
        } else {
            return Err(SourcesError::Nothing {
                name: name.clone(),
                present: devices.join(", "),
            });
        }
    }
    if let (Some(device), Some(file)) = (named_devices.first(), files.first()) {
        return Err(SourcesError::Mixed {
            device: device.clone(),
            file: (*file).clone(),
        });
    }
    if files.iter().filter(|name| **name == STANDARD_INPUT).count() > 1 {
        return Err(SourcesError::StandardInputTwice);
    }
    if files.is_empty() {
        let all = named_devices.iter().any(|name| name == ANY_DEVICE);
        return Ok(Sources::Devices(if all {
            Vec::new()
        } else {
            named_devices
        }));
    }
    let input = |name: &&String| match name.as_str() {
        STANDARD_INPUT => Input::StandardInput,
        path => Input::Path(path.into()),
    };
    Ok(Sources::Files(files.iter().map(input).collect()))
}

/// Whether there is something to read at a path: a file, or a pipe with a name.
#[must_use]
pub fn is_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &str) -> Result<Sources, SourcesError> {
        let list =
            |text: &str| -> Vec<String> { text.split_terminator(',').map(str::to_owned).collect() };
        let files = ["web.pcap", "./eth0", "eth0", "b.pcapng"];
        sources(&list(names), &list("lo,eth0,eth1"), |path| {
            files.iter().any(|file| Path::new(file) == path)
        })
    }

    fn files(names: &[&str]) -> Result<Sources, SourcesError> {
        let input = |name: &&str| match *name {
            "-" => Input::StandardInput,
            path => Input::Path(path.into()),
        };
        Ok(Sources::Files(names.iter().map(input).collect()))
    }

    fn devices(names: &[&str]) -> Result<Sources, SourcesError> {
        Ok(Sources::Devices(
            names.iter().map(|name| (*name).to_owned()).collect(),
        ))
    }

    #[test]
    fn devices_and_files_are_told_apart() {
        assert_eq!(found(""), devices(&[]));
        assert_eq!(found("any"), devices(&[]));
        assert_eq!(found("eth1,any"), devices(&[]));
        assert_eq!(found("eth1,eth0,eth1"), devices(&["eth1", "eth0"]));
        assert_eq!(found("web.pcap"), files(&["web.pcap"]));
        assert_eq!(
            found("b.pcapng,-,web.pcap"),
            files(&["b.pcapng", "-", "web.pcap"])
        );
        // A device keeps its name whatever lies in the present directory.
        assert_eq!(found("eth0"), devices(&["eth0"]));
        assert_eq!(found("./eth0"), files(&["./eth0"]));
    }

    #[test]
    fn nonsense_is_refused() {
        let mixed = found("eth0,web.pcap").unwrap_err();
        assert!(
            mixed.to_string().contains("'eth0' and the file 'web.pcap'"),
            "{mixed}"
        );
        let nothing = found("eth0,web.pcapng").unwrap_err();
        assert!(
            nothing
                .to_string()
                .contains("'web.pcapng'; the devices are lo, eth0, eth1")
        );
        assert_eq!(found("-,-"), Err(SourcesError::StandardInputTwice));
        for error in [mixed, nothing, SourcesError::StandardInputTwice] {
            assert!(!error.hint().is_empty());
        }
    }
}
