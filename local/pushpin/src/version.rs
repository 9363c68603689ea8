//! Which Pushpin runs, and how new it is: some tests need a newer one than others.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

/// The environment variable with the path of another Pushpin than the one in the PATH.
const PROGRAM: &str = "POSTERN_PUSHPIN";

/// A version of Pushpin, without its last part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// A version.
    pub fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// The installed version: the one that [`Pushpin::start`](crate::Pushpin::start) runs. `None` if Pushpin is not
    /// installed, or does not report a version.
    pub fn installed() -> Option<Self> {
        let output = Command::new(program()?).arg("--version").output().ok()?;
        Self::parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// Reads the output of `pushpin --version`, such as `pushpin 1.36.0`.
    fn parse(output: &str) -> Option<Self> {
        let mut numbers = output.trim().rsplit(' ').next()?.split(['.', '-']);
        let mut next = || numbers.next()?.parse().ok();
        Some(Self { major: next()?, minor: next()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The path of the Pushpin to start.
pub(crate) fn program() -> Option<PathBuf> {
    std::env::var_os(PROGRAM).map(PathBuf::from).or_else(|| installed("pushpin"))
}

/// The path of a program in the PATH.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_and_compared_by_its_numbers() {
        let read = |text| Version::parse(text).unwrap();
        assert_eq!(read("pushpin 1.36.0\n"), Version::new(1, 36));
        assert_eq!(read("pushpin 2.0.0-dev"), Version::new(2, 0));
        assert!(read("pushpin 1.9.0") < read("pushpin 1.36.0") && Version::new(1, 41) < Version::new(2, 0));

        for text in ["", "pushpin", "pushpin x.1", "pushpin 1"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
