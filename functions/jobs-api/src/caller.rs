//! Who makes a request, by what API Gateway has verified: the claims of a token, or an IAM identity.
//!
//! The function reads `requestContext.authorizer`, which only API Gateway writes, and never a token itself. A request
//! without it is refused, so that a route that lost its authorizer, or another way to the function, opens nothing.

use std::collections::BTreeMap;

use postern_types::Tenant;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::config::Auth;
use crate::problem::Problem;

/// What a caller may do. Each role may see the tenant's jobs and workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Sees jobs and workers.
    Viewer,
    /// Starts and stops jobs, and controls workers.
    Operator,
    /// Approves and rejects.
    Approver,
}

impl Role {
    const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Approver];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
        }
    }
}

/// A caller: the tenant whose jobs it sees, and its roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) tenant: Tenant,
    pub(crate) roles: Vec<Role>,
}

#[derive(Deserialize)]
struct EventFields {
    #[serde(rename = "requestContext")]
    request_context: Option<RequestContext>,
}

#[derive(Deserialize)]
struct RequestContext {
    authorizer: Option<Authorizer>,
}

#[derive(Deserialize)]
struct Authorizer {
    jwt: Option<Jwt>,
    iam: Option<Iam>,
}

#[derive(Deserialize)]
struct Jwt {
    claims: BTreeMap<String, Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Iam {
    user_arn: String,
}

impl Caller {
    /// Reads the caller of an event.
    pub(crate) fn of_event(event: &RawValue, auth: Auth, default_tenant: &Tenant) -> Result<Self, Problem> {
        let fields: EventFields = serde_json::from_str(event.get()).map_err(|_| Problem::Unauthorized)?;
        let authorizer = fields.request_context.and_then(|context| context.authorizer);
        let authorizer = authorizer.ok_or(Problem::Unauthorized)?;

        match auth {
            Auth::Jwt => Self::of_claims(&authorizer.jwt.ok_or(Problem::Unauthorized)?.claims),
            // An event names the identity and not its tags. IAM policies on routes take the place of roles.
            Auth::Iam => match authorizer.iam {
                Some(iam) if !iam.user_arn.is_empty() => {
                    Ok(Self { tenant: default_tenant.clone(), roles: Role::ALL.to_vec() })
                }
                _ => Err(Problem::Unauthorized),
            },
        }
    }

    fn of_claims(claims: &BTreeMap<String, Box<RawValue>>) -> Result<Self, Problem> {
        let tenant = claims.get("tenant").and_then(|claim| serde_json::from_str::<String>(claim.get()).ok());
        let tenant = tenant.ok_or_else(|| Problem::Forbidden("the token has no claim tenant".into()))?;

        let tenant = Tenant::parse(&tenant)
            .map_err(|error| Problem::Forbidden(format!("the token's claim tenant is not valid: {error}")))?;

        let words: Vec<_> = ["roles", "cognito:groups"]
            .into_iter()
            .filter_map(|name| claims.get(name))
            .flat_map(|claim| words(claim))
            .collect();
        let roles: Vec<_> =
            Role::ALL.into_iter().filter(|role| words.iter().any(|word| word == role.name())).collect();

        if roles.is_empty() {
            return Err(Problem::Forbidden(
                "the token's claim roles has none of viewer, operator and approver".into(),
            ));
        }

        Ok(Self { tenant, roles })
    }

    /// Refuses a caller without a role. Every role includes [`Role::Viewer`].
    pub(crate) fn needs(&self, role: Role) -> Result<(), Problem> {
        if role == Role::Viewer || self.roles.contains(&role) {
            return Ok(());
        }
        Err(Problem::Forbidden(format!("this needs the role {}", role.name())))
    }
}

/// The words of a claim. API Gateway writes a list as one text, `[viewer operator]`.
fn words(claim: &RawValue) -> Vec<String> {
    let list = serde_json::from_str(claim.get()).or_else(|_| {
        serde_json::from_str::<String>(claim.get()).map(|text| {
            let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(&text);
            text.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        })
    });
    list.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn caller(auth: Auth, authorizer: &Value) -> Result<Caller, Problem> {
        let event = json!({"requestContext": {"authorizer": authorizer}});
        let event = RawValue::from_string(event.to_string()).unwrap();
        Caller::of_event(&event, auth, &Tenant::parse("tenant1").unwrap())
    }

    fn of_claims(claims: &Value) -> Result<Caller, Problem> {
        caller(Auth::Jwt, &json!({"jwt": {"claims": claims}}))
    }

    #[test]
    fn roles_come_as_a_list_a_text_or_the_groups_of_cognito() {
        for claims in [
            json!({"tenant": "t", "roles": "[viewer operator]"}),
            json!({"tenant": "t", "roles": "viewer operator"}),
            json!({"tenant": "t", "roles": ["viewer", "operator", "root"]}),
            json!({"tenant": "t", "roles": "viewer", "cognito:groups": "[operator]"}),
        ] {
            let caller = of_claims(&claims).unwrap();
            assert_eq!(caller.roles, [Role::Viewer, Role::Operator], "{claims}");
            assert!(caller.needs(Role::Operator).is_ok() && caller.needs(Role::Approver).is_err());
        }
    }

    #[test]
    fn a_token_without_a_valid_tenant_or_a_known_role_is_forbidden() {
        for claims in [
            json!({"roles": "viewer"}),
            json!({"tenant": "", "roles": "viewer"}),
            json!({"tenant": "+", "roles": "viewer"}),
            json!({"tenant": "a/b", "roles": "viewer"}),
            json!({"tenant": "a#DISPATCHED", "roles": "viewer"}),
            json!({"tenant": ["t"], "roles": "viewer"}),
            json!({"tenant": "t"}),
            json!({"tenant": "t", "roles": "viewers, Operator"}),
            json!({"tenant": "t", "roles": 7}),
        ] {
            assert!(matches!(of_claims(&claims), Err(Problem::Forbidden(_))), "{claims}");
        }
    }

    #[test]
    fn an_event_without_the_context_of_its_authorizer_is_unauthorized() {
        let iam = json!({"iam": {"userArn": "arn:aws:iam::1:user/u"}});
        let jwt = json!({"jwt": {"claims": {"tenant": "t", "roles": "viewer"}}});
        for (auth, authorizer) in [
            (Auth::Jwt, &json!(null)),
            (Auth::Jwt, &json!({})),
            (Auth::Jwt, &iam),
            (Auth::Jwt, &json!({"lambda": {"tenant": "t", "roles": "viewer"}})),
            (Auth::Iam, &json!(null)),
            (Auth::Iam, &jwt),
            (Auth::Iam, &json!({"iam": {"userArn": ""}})),
        ] {
            assert_eq!(caller(auth, authorizer), Err(Problem::Unauthorized), "{authorizer}");
        }
        assert_eq!(caller(Auth::Iam, &iam).unwrap().tenant.as_str(), "tenant1");
    }
}
