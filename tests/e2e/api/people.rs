//! People who sign in: the issuer, and the authorization code flow with PKCE as the page does it.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use postern_local::{Issuer, Project};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use ureq::Agent;

/// The page's address. The issuer accepts every address of this machine.
const REDIRECT: &str = "http://console.localhost/";

/// An issuer whose users are those of the local stack, and one whose tokens have expired.
pub(super) struct People {
    pub(super) issuer: Issuer,
    agent: Agent,
}

impl People {
    pub(super) async fn start(project: &Project, folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let users = fs::read_to_string(project.file("local/issuer/users.json")).unwrap();
        let mut users: Value = serde_json::from_str(&users).unwrap();
        users["expired"] = json!({"tenant": "tenant1", "roles": ["viewer"], "lifetime": -60});
        let file = folder.join("users.json");
        fs::write(&file, users.to_string()).unwrap();

        let issuer = Issuer::start(project, folder, Some(&file), false).await.unwrap();
        let agent = Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
        Self { issuer, agent }
    }

    /// Signs in, and returns the access token.
    pub(super) fn token(&self, user: &str) -> String {
        let verifier = "a-verifier-of-at-least-forty-three-characters";
        let challenge = BASE64.encode(digest(&SHA256, verifier.as_bytes()));
        let choice = [
            ("response_type", "code"),
            ("client_id", "console"),
            ("redirect_uri", REDIRECT),
            ("state", "some-state"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("user", user),
        ];
        let redirect = self.post("authorize", &choice).await;
        let address = redirect.headers()["location"].to_str().unwrap();
        let (page, query) = address.split_once('?').unwrap();
        assert!(page == REDIRECT && query.contains("state=some-state"), "{address}");
        let code = query.split('&').find_map(|pair| pair.strip_prefix("code=")).unwrap();

        let exchange = async |verifier| {
            let form = [
                ("grant_type", "authorization_code"),
                ("code", code),
                ("redirect_uri", REDIRECT),
                ("client_id", "console"),
                ("code_verifier", verifier),
            ];
            self.post("token", &form).await
        };
        let tokens = exchange(verifier).await.body_mut().read_to_string().unwrap();
        let tokens: Value = serde_json::from_str(&tokens).unwrap();
        assert_eq!(exchange(verifier).await.status(), 400, "a code works once");
        tokens["access_token"].as_str().unwrap().to_owned()
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> ureq::http::Response<ureq::Body> {
        let address = format!("{}/{path}", self.issuer.url());
        let form: Vec<_> =
            form.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();

        let agent = self.agent.clone();
        let answer = tokio::task::spawn_blocking(move || agent.post(address).send_form(form).unwrap());
        answer.await.unwrap()
    }
}
