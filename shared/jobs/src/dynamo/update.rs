//! Builds the body of an `UpdateItem`.

use std::collections::BTreeMap;

use postern_types::Tenant;
use serde_json::{Map, Value, json};

use crate::attributes::Attribute;
use crate::state::{Rank, State};

/// An update of one item. Each attribute's name is `#Name` in expressions, because some names are reserved words, and its
/// value is `:Name`.
pub(super) struct Update {
    tenant: String,
    range: String,
    names: BTreeMap<String, String>,
    values: BTreeMap<String, Attribute>,
    sets: Vec<String>,
    removes: Vec<String>,
    condition: Option<&'static str>,
}

impl Update {
    pub(super) fn of(tenant: &Tenant, range: &str) -> Self {
        Self {
            tenant: tenant.as_str().to_owned(),
            range: range.to_owned(),
            names: BTreeMap::new(),
            values: BTreeMap::new(),
            sets: Vec::new(),
            removes: Vec::new(),
            condition: None,
        }
    }

    /// Sets the state, if its rank is higher than the item's.
    pub(super) fn state(self, tenant: &Tenant, state: State, rank: Rank) -> Self {
        self.set("State", state.as_str())
            .set("Rank", Attribute::number(rank.number()))
            .set("TenantState", format!("{tenant}#{state}"))
            .when("attribute_not_exists(#Rank) OR #Rank < :Rank", &[])
    }

    pub(super) fn set(self, name: &str, value: impl Into<Attribute>) -> Self {
        self.assign(name, value.into(), format!("#{name} = :{name}"))
    }

    pub(super) fn set_some(self, name: &str, value: Option<impl Into<Attribute>>) -> Self {
        match value {
            Some(value) => self.set(name, value),
            None => self,
        }
    }

    /// Sets the attribute, or removes what an earlier state left in it.
    pub(super) fn set_or_remove(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            return self.set(name, value);
        }
        self.name(name);
        self.removes.push(format!("#{name}"));
        self
    }

    /// Sets an attribute that the item does not have.
    pub(super) fn set_new(self, name: &str, value: impl Into<Attribute>) -> Self {
        self.assign(name, value.into(), format!("#{name} = if_not_exists(#{name}, :{name})"))
    }

    /// Appends to a list.
    pub(super) fn append(self, name: &str, list: Attribute) -> Self {
        let set = format!("#{name} = list_append(if_not_exists(#{name}, :empty), :{name})");
        self.value("empty", Attribute::L(Vec::new())).assign(name, list, set)
    }

    /// Adds a value for the condition.
    pub(super) fn value(mut self, name: &str, value: impl Into<Attribute>) -> Self {
        self.values.insert(format!(":{name}"), value.into());
        self
    }

    /// Adds the condition, with the attributes that it names and the update does not.
    pub(super) fn when(mut self, condition: &'static str, names: &[&str]) -> Self {
        for name in names {
            self.name(name);
        }
        self.condition = Some(condition);
        self
    }

    /// The request. Its answer contains the whole item after the update.
    pub(super) fn into_body(self, table: &str) -> String {
        let mut expression = format!("SET {}", self.sets.join(", "));
        if !self.removes.is_empty() {
            expression += &format!(" REMOVE {}", self.removes.join(", "));
        }

        let mut body = Map::from_iter([
            ("TableName".to_owned(), json!(table)),
            ("Key".to_owned(), json!({"Tenant": {"S": self.tenant}, "JobId": {"S": self.range}})),
            ("UpdateExpression".to_owned(), json!(expression)),
            ("ExpressionAttributeNames".to_owned(), json!(self.names)),
            ("ExpressionAttributeValues".to_owned(), json!(self.values)),
            ("ReturnValues".to_owned(), json!("ALL_NEW")),
        ]);
        if let Some(condition) = self.condition {
            body.insert("ConditionExpression".to_owned(), json!(condition));
        }
        Value::Object(body).to_string()
    }

    fn name(&mut self, name: &str) {
        self.names.insert(format!("#{name}"), name.to_owned());
    }

    fn assign(mut self, name: &str, value: Attribute, set: String) -> Self {
        self.name(name);
        self.sets.push(set);
        self.value(name, value)
    }
}
