//! CloudFormation stacks: created or updated, described, and their functions' logs.

use std::collections::BTreeMap;
use std::time::Duration;

use postern_runtime::aws::SdkConfig;
use roxmltree::{Document, Node};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::api::Api;
use crate::error::Error;
use crate::outputs::{Outputs, machine_name};

const SERVICE: &str = "cloudformation";

/// A resource of a stack.
struct Resource {
    logical_id: String,
    physical_id: String,
    kind: String,
}

impl Outputs {
    /// The outputs and state machines of a stack, in AWS or in an emulator.
    pub async fn of_stack(config: &SdkConfig, stack: &str) -> Result<Self, Error> {
        describe(&Api::new(config.clone())?, stack).await
    }
}

/// Creates the stack from the template at a URL, or updates it if it exists, and waits for the end.
pub(crate) async fn apply(
    api: &Api,
    stack: &str,
    template: &str,
    parameters: &[(String, String)],
) -> Result<Outputs, Error> {
    let mut form: Vec<(String, &str)> = vec![
        ("StackName".into(), stack),
        ("TemplateURL".into(), template),
        ("Capabilities.member.1".into(), "CAPABILITY_IAM"),
        ("Capabilities.member.2".into(), "CAPABILITY_AUTO_EXPAND"),
    ];
    for (index, (name, value)) in (1..).zip(parameters) {
        form.push((format!("Parameters.member.{index}.ParameterKey"), name));
        form.push((format!("Parameters.member.{index}.ParameterValue"), value));
    }
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), *value)).collect();

    match api.query(SERVICE, "CreateStack", &form).await {
        Err(Error::Aws(why)) if why.contains("AlreadyExists") => {
            match api.query(SERVICE, "UpdateStack", &form).await {
                Err(Error::Aws(why)) if why.contains("No updates are to be performed") => {}
                other => drop(other?),
            }
        }
        other => drop(other?),
    }

    loop {
        let status = status(api, stack).await?;
        match status.as_str() {
            "CREATE_COMPLETE" | "UPDATE_COMPLETE" => return describe(api, stack).await,
            status if status.ends_with("_IN_PROGRESS") => sleep(Duration::from_millis(50)).await,
            status => return Err(failure(api, stack, status).await?),
        }
    }
}

async fn status(api: &Api, stack: &str) -> Result<String, Error> {
    let xml = api.query(SERVICE, "DescribeStacks", &[("StackName", stack)]).await?;
    let document = parse(&xml)?;

    Ok(document
        .descendants()
        .find(|node| node.tag_name().name() == "StackStatus")
        .map(text)
        .unwrap_or_default())
}

/// The error of a deployment: the resources that failed, in the order in which they failed.
async fn failure(api: &Api, stack: &str, status: &str) -> Result<Error, Error> {
    let xml = api.query(SERVICE, "DescribeStackEvents", &[("StackName", stack)]).await?;
    let document = parse(&xml)?;

    let mut reasons: Vec<String> = members(&document, "StackEvents")
        .filter(|event| child(*event, "ResourceStatus").ends_with("_FAILED"))
        .map(|event| (child(event, "LogicalResourceId"), child(event, "ResourceStatusReason")))
        .filter(|(_, reason)| !reason.is_empty())
        .map(|(resource, reason)| format!("{resource}: {reason}"))
        .collect();
    reasons.reverse();
    Ok(Error::Aws(format!("the stack {stack} is {status}: {}", reasons.join("; "))))
}

async fn describe(api: &Api, stack: &str) -> Result<Outputs, Error> {
    let xml = api.query(SERVICE, "DescribeStacks", &[("StackName", stack)]).await?;
    let document = parse(&xml)?;

    let values = members(&document, "Outputs")
        .map(|output| (child(output, "OutputKey"), child(output, "OutputValue")))
        .collect();
    let parameters = members(&document, "Parameters")
        .map(|parameter| (child(parameter, "ParameterKey"), child(parameter, "ParameterValue")))
        .collect();

    let resources = resources(api, stack).await?.into_iter();
    let machines: BTreeMap<String, String> = resources
        .filter(|resource| resource.kind == "AWS::StepFunctions::StateMachine")
        .map(|resource| (machine_name(&resource.logical_id), resource.physical_id))
        .collect();

    Ok(Outputs { stack: stack.into(), values, machines, parameters })
}

/// All resources of a stack, page by page.
async fn resources(api: &Api, stack: &str) -> Result<Vec<Resource>, Error> {
    let mut resources = Vec::new();
    let mut next = String::new();
    loop {
        let mut form = vec![("StackName", stack)];
        if !next.is_empty() {
            form.push(("NextToken", &next));
        }

        let xml = api.query(SERVICE, "ListStackResources", &form).await?;
        let document = parse(&xml)?;
        resources.extend(members(&document, "StackResourceSummaries").map(|resource| Resource {
            logical_id: child(resource, "LogicalResourceId"),
            physical_id: child(resource, "PhysicalResourceId"),
            kind: child(resource, "ResourceType"),
        }));

        let token = document.descendants().find(|node| node.tag_name().name() == "NextToken").map(text);
        match token.filter(|token| !token.is_empty()) {
            Some(token) => next = token,
            None => return Ok(resources),
        }
    }
}

/// All lines that the stack's functions and state machines have logged, log group by log group.
pub(crate) async fn logs(api: &Api, stack: &str) -> Result<String, Error> {
    let resources = resources(api, stack).await?;
    let of_kind = |kind: &'static str| resources.iter().filter(move |resource| resource.kind == kind);
    let groups = of_kind("AWS::Logs::LogGroup").map(|group| group.physical_id.clone());
    let functions = of_kind("AWS::Lambda::Function");
    let groups = groups.chain(functions.map(|function| format!("/aws/lambda/{}", function.physical_id)));

    let mut lines = String::new();
    for group in groups {
        match group_logs(api, &group, &mut lines).await {
            // A function that logs elsewhere or has not run yet has no group of its own.
            Err(Error::Aws(why)) if why.contains("ResourceNotFoundException") => {}
            other => other?,
        }
    }
    Ok(lines)
}

async fn group_logs(api: &Api, group: &str, lines: &mut String) -> Result<(), Error> {
    let mut input = json!({"logGroupName": group});
    loop {
        let page = api.json("logs", "Logs_20140328.FilterLogEvents", &input).await?;
        for event in page["events"].as_array().into_iter().flatten() {
            lines.push_str(event["message"].as_str().unwrap_or_default().trim_end_matches('\n'));
            lines.push('\n');
        }

        match &page["nextToken"] {
            Value::String(token) => input["nextToken"] = json!(token),
            _ => return Ok(()),
        }
    }
}

fn parse(xml: &str) -> Result<Document<'_>, Error> {
    Document::parse(xml).map_err(|error| Error::Aws(format!("CloudFormation: unexpected response: {error}")))
}

/// The `member` elements of a list.
fn members<'a>(document: &'a Document<'_>, list: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    document
        .descendants()
        .filter(move |node| node.tag_name().name() == list)
        .flat_map(|node| node.children())
        .filter(|node| node.tag_name().name() == "member")
}

fn child(node: Node<'_, '_>, name: &str) -> String {
    node.children().find(|child| child.tag_name().name() == name).map(text).unwrap_or_default()
}

fn text(node: Node<'_, '_>) -> String {
    node.text().unwrap_or_default().to_owned()
}
