//! The keys that footage is sealed with: who makes them, where they lie, how they are destroyed.
//!
//! Three levels. The *master key* lies in a file of mode 0600 or with a KMS that two commands ask ([`Settings`]). It wraps a *day key* for
//! each footage day (the day on which a body expires). That wraps the *data keys*, one for each recorder and footage day,
//! random and never derived, so that one can be destroyed and all others stay. A KMS is so asked once for each day and not for each
//! recorder: at midnight ten thousand recorders begin a new day within a second.
//!
//! A footage day has one file, `DATA/keys/<day>.keys` (`file` draws it): its head holds the wrapped day key, its slots the wrapped data
//! keys. It lies outside the store, so that no copy of the store holds a key, and is plain and safe to copy at any time: it only grows,
//! or is replaced as a whole. `mirror` keeps a copy elsewhere that follows destructions.
//!
//! Promises: a key is durable before [`Ring::keys`] gives it away to seal with; what was destroyed is overwritten, taken away and
//! durably gone on return. Key material has no `Debug`, is wiped from memory, and leaves this room only inside a [`Key`]. It must never
//! replace a master key on its own, and never make one where wrapped keys lie without theirs.

mod command;
mod file;
mod key;
mod master;
mod mirror;
mod ring;
mod rotate;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

pub use key::{Key, OVERHEAD_BYTES};
pub use mirror::{Destruction, Mirrored, Told, mirror, put_back, put_master};
pub use ring::{Counts, Ring};
pub use rotate::rotate;

/// Where the keys lie within a data directory.
pub const DIR: &str = "keys";

/// How footage is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether footage is sealed that arrives from now on. What is sealed already is read either way. Default true.
    pub footage: bool,
    /// Where the wrapped keys lie; `None` for beside the store.
    pub dir: Option<PathBuf>,
    /// The file of the master key; `None` for `master.key` beside the wrapped keys.
    pub master_key: Option<PathBuf>,
    /// A command that wraps: 32 bytes on its standard input, 1 to 4,096 on its standard output. Empty for the file.
    pub wrap_command: Vec<String>,
    /// The command that undoes it.
    pub unwrap_command: Vec<String>,
    /// How long a command may take. 10 s.
    pub command_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            footage: true,
            dir: None,
            master_key: None,
            wrap_command: Vec::new(),
            unwrap_command: Vec::new(),
            command_timeout: Duration::from_secs(10),
        }
    }
}
