//! TLS to real servers: a private CA is trusted and nothing else is, and no side that demands TLS goes on without it.

use std::path::PathBuf;

use serde_json::json;

use super::servers::Tls;
use super::*;
use crate::handlers::tests::authority::Authority;

const ENGINES: [Engine; 2] = [Engine::Postgres, Engine::Mariadb];

/// A CA, and the certificate of a server called `localhost`.
struct Pki {
    authority: Authority,
    tls: Tls,
}

impl Pki {
    fn new() -> Self {
        let authority = Authority::new();
        let (server, key) = authority.issue("localhost");
        let tls = Tls { certificate: server.pem(), key: key.serialize_pem(), demanded: true };
        Self { authority, tls }
    }

    fn ca(&self) -> PathBuf {
        self.authority.path("ca.pem")
    }

    async fn start(&self, engine: Engine) -> Secure {
        let Tls { certificate, key, demanded } = &self.tls;
        let tls = Tls { certificate: certificate.clone(), key: key.clone(), demanded: *demanded };
        let server = tokio::task::spawn_blocking(move || Server::start(engine, Some(&tls))).await.unwrap();
        Secure { server, engine }
    }
}

/// A server with a certificate.
struct Secure {
    server: Server,
    engine: Engine,
}

impl Secure {
    /// The server's first database, at a name of this host.
    fn url(&self, host: &str, query: &str) -> String {
        let (port, database) = (self.server.port(), self.server.first_database());
        match self.engine {
            Engine::Postgres => format!("postgres://postgres@{host}:{port}/{database}{query}"),
            _ => format!("mysql://tester:hunter2@{host}:{port}/{database}{query}"),
        }
    }

    /// A statement that says whether its own connection is encrypted.
    fn is_encrypted(&self) -> &'static str {
        match self.engine {
            Engine::Postgres => "select ssl as encrypted from pg_stat_ssl where pid = pg_backend_pid()",
            _ => {
                "select variable_value <> '' as encrypted from information_schema.session_status \
                 where variable_name = 'SSL_CIPHER'"
            }
        }
    }
}

fn handler(url: String, ca: Option<PathBuf>, statement: &str) -> Sql {
    let config = config::Sql {
        url: Secret::Text(url),
        statement: statement.into(),
        read_only: true,
        max_rows: None,
        format: config::Format::Json,
        ca,
        policy: None,
        timeout_seconds: 60,
    };
    Sql::new("test", config).unwrap()
}

#[tokio::test]
async fn a_private_ca_is_trusted_and_the_connection_is_encrypted() {
    let pki = Pki::new();
    for engine in ENGINES {
        let secure = pki.start(engine).await;
        // MariaDB has no booleans.
        let yes = if engine == Engine::Postgres { json!(true) } else { json!(1) };
        let modes: &[&str] = match engine {
            Engine::Postgres => {
                &["", "?sslmode=prefer", "?sslmode=require", "?sslmode=verify-ca", "?sslmode=verify-full"]
            }
            _ => &["", "?require_ssl=true"],
        };
        for mode in modes {
            let handler = handler(secure.url("localhost", mode), Some(pki.ca()), secure.is_encrypted());
            let result = run(&handler, json!({})).await;
            assert_eq!(result.unwrap(), json!([{"encrypted": yes}]), "{engine:?} {mode}");
            assert!(handler.check().await.unwrap().starts_with("ok"), "{engine:?} {mode}");
        }
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_or_for_another_name_is_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    for engine in ENGINES {
        let secure = pki.start(engine).await;
        let demanding = if engine == Engine::Postgres { "?sslmode=verify-full" } else { "?require_ssl=true" };
        for (host, ca) in
            [("localhost", Some(other.ca())), ("localhost", None), ("127.0.0.1", Some(pki.ca()))]
        {
            let handler = handler(secure.url(host, demanding), ca.clone(), "select 1 as n");
            let failure = run(&handler, json!({})).await.unwrap_err();
            assert_eq!(failure.error(), "Sql.Unavailable", "{engine:?} {host} {ca:?}");
            assert!(failure.cause().contains("certificate"), "{engine:?} {host}: {}", failure.cause());
            assert!(!failure.cause().contains("hunter2"), "{}", failure.cause());
        }
    }
}

#[tokio::test]
async fn a_worker_that_demands_tls_sends_nothing_to_a_server_without_it() {
    let pki = Pki::new();
    for engine in ENGINES {
        let db = Db::new(engine).await;
        let port = db.server.port();
        let urls = match engine {
            Engine::Postgres => [
                (format!("postgres://postgres@localhost:{port}/{}", db.name), Some(pki.ca())),
                (format!("postgres://postgres@localhost:{port}/{}?sslmode=require", db.name), None),
            ],
            _ => [
                (format!("mysql://tester:hunter2@localhost:{port}/{}", db.name), Some(pki.ca())),
                (format!("mysql://tester:hunter2@localhost:{port}/{}?require_ssl=true", db.name), None),
            ],
        };
        for (url, ca) in urls {
            let failure = run(&handler(url, ca, "select 1 as n"), json!({})).await.unwrap_err();
            assert_eq!(failure.error(), "Sql.Unavailable", "{engine:?}: {}", failure.cause());
            let cause = failure.cause().to_lowercase();
            assert!(cause.contains("tls") || cause.contains("ssl"), "{engine:?}: {cause}");
        }
    }
}

#[tokio::test]
async fn a_server_that_demands_tls_refuses_a_worker_without_it() {
    let pki = Pki::new();
    for engine in ENGINES {
        let secure = pki.start(engine).await;
        let plain = if engine == Engine::Postgres { "?sslmode=disable" } else { "" };
        let handler = handler(secure.url("localhost", plain), None, "select 1 as n");
        let failure = run(&handler, json!({})).await.unwrap_err();
        // Versions of MariaDB differ in the error.
        let names =
            if engine == Engine::Postgres { &["Sql.Denied"][..] } else { &["Sql.Denied", "Sql.Unavailable"] };
        assert!(names.contains(&failure.error()), "{engine:?}: {failure:?}");
    }
}

#[tokio::test]
async fn a_statement_is_cancelled_over_tls_as_well() {
    let pki = Pki::new();
    for engine in ENGINES {
        let secure = pki.start(engine).await;
        let (sleep, sleepers) = match engine {
            Engine::Postgres => (
                "select 'x' from pg_sleep(1000)",
                "select count(*) as n from pg_stat_activity \
                 where state = 'active' and query like '%pg_sleep%' and pid <> pg_backend_pid()",
            ),
            _ => (
                "select sleep(1000) as n",
                "select count(*) as n from information_schema.processlist where state like 'User sleep%'",
            ),
        };
        let sleepers = handler(secure.url("localhost", ""), Some(pki.ca()), sleepers);
        let sleeping = handler(secure.url("localhost", ""), Some(pki.ca()), sleep);
        let (context, cancel) = job("key", &json!({}));
        let running = tokio::spawn(async move { sleeping.run(context).await });
        while run(&sleepers, json!({})).await.unwrap() != json!([{"n": 1}]) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        cancel.cancel();
        assert_eq!(running.await.unwrap().unwrap_err().error(), "Worker.Cancelled", "{engine:?}");
        assert_eq!(run(&sleepers, json!({})).await.unwrap(), json!([{"n": 0}]), "{engine:?}");
    }
}
