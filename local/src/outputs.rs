//! A deployed stack, as its outputs and resources describe it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The state machine that runs unless another is named.
pub const DEFAULT_MACHINE: &str = "on-prem-job";

/// A stack's name, outputs and state machines.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outputs {
    pub(crate) stack: String,
    pub(crate) values: BTreeMap<String, String>,
    pub(crate) machines: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Outputs {
    /// The value of an output, or an empty text if the stack has no output of that name.
    pub fn get(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// The name of the stack.
    pub fn stack(&self) -> &str {
        &self.stack
    }

    /// The value of a parameter, or an empty text if the template has no parameter of that name.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// The names of all state machines of the stack, in alphabetical order.
    pub fn machine_names(&self) -> impl Iterator<Item = &str> {
        self.machines.keys().map(String::as_str)
    }

    /// The ARN of a state machine, by the name of its file in `statemachines/` without `.asl.json`, or by its logical
    /// id in the template.
    pub fn find_machine(&self, name: &str) -> Result<&str, Error> {
        let machine = self.machines.get(name).or_else(|| self.machines.get(&machine_name(name)));
        machine.map(String::as_str).ok_or_else(|| {
            let names: Vec<&str> = self.machines.keys().map(String::as_str).collect();
            Error::Invalid(format!(
                "The stack {} has no state machine {name}. It has: {}.",
                self.stack,
                names.join(", ")
            ))
        })
    }

    /// The ARN of a state machine, or an empty text if the stack has no machine of that name.
    pub fn machine(&self, name: &str) -> &str {
        self.find_machine(name).unwrap_or_default()
    }

    /// The ARN of the state machine that runs one job on premises.
    pub fn state_machine(&self) -> &str {
        self.machine(DEFAULT_MACHINE)
    }
}

/// The short name of a state machine's logical id: `FanOutStateMachine` is `fan-out`.
pub(crate) fn machine_name(logical_id: &str) -> String {
    let words = logical_id.strip_suffix("StateMachine").unwrap_or(logical_id);
    let mut name = String::new();
    for letter in words.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs() -> Outputs {
        let machines = ["fan-out", "dojo"].map(|name| (name.to_owned(), format!("arn:{name}")));
        let (values, parameters) = (BTreeMap::new(), BTreeMap::new());
        Outputs { stack: "postern".into(), values, machines: machines.into(), parameters }
    }

    #[test]
    fn a_machine_is_found_by_its_file_name_and_by_its_logical_id() {
        assert_eq!(outputs().find_machine("fan-out").unwrap(), "arn:fan-out");
        assert_eq!(outputs().find_machine("FanOutStateMachine").unwrap(), "arn:fan-out");
    }

    #[test]
    fn an_unknown_machine_is_answered_with_the_list_of_machines() {
        let error = outputs().find_machine("dojjo").unwrap_err().to_string();
        assert_eq!(error, "The stack postern has no state machine dojjo. It has: dojo, fan-out.");
    }
}
