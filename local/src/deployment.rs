//! A description of a stack to deploy: `template.yml`, with parameters and, for tests, with edits.

use crate::error::Error;

/// A stack to deploy.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub(crate) name: String,
    pub(crate) parameters: Vec<(String, String)>,
    edits: Vec<Edit>,
}

/// A replacement in one of the stack's files.
#[derive(Debug, Clone)]
struct Edit {
    file: String,
    from: String,
    to: String,
}

impl Deployment {
    /// A stack of this name, with the template's default parameters.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), parameters: Vec::new(), edits: Vec::new() }
    }

    /// Sets a parameter of the template.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// Replaces `from` by `to` in one of the stack's files. The deployment fails unless `from` occurs exactly once.
    #[must_use]
    pub fn edit(mut self, file: &str, from: &str, to: &str) -> Self {
        self.edits.push(Edit { file: file.into(), from: from.into(), to: to.into() });
        self
    }

    /// The text of a file after its edits.
    pub(crate) fn edited(&self, file: &str, mut text: String) -> Result<String, Error> {
        for Edit { from, to, .. } in self.edits.iter().filter(|edit| edit.file == file) {
            let count = text.matches(from).count();
            if count != 1 {
                return Err(Error::Invalid(format!(
                    "{file}: {from:?} occurs {count} times; it must occur once"
                )));
            }
            text = text.replace(from, to);
        }
        Ok(text)
    }
}
