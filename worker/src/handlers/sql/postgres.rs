//! PostgreSQL. Parameters travel as text, which the server parses as the type that it has found for each of them.

mod parameters;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use postern_types::TaskFailure;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::pool::Connect;
use super::rows::{Rows, affected};
use super::session::{ANSWERS, Call, Key, Session, causes, refused, unavailable};
use crate::config::handlers::Secret;
use crate::tls;

/// How long the server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a connection needs.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) url: Secret,
    pub(super) ca: Option<PathBuf>,
}

/// A connection. Dropping it closes it.
pub(super) struct Connection {
    client: Client,
    tls: Option<MakeRustlsConnect>,
}

impl Connection {
    /// Lets the server check the statement, for `doctor`.
    pub(super) async fn check(&self, text: &str) -> Result<(), TaskFailure> {
        let statement = self.client.prepare(text).await.map_err(|error| failure(&error))?;
        values::check(&statement)
    }

    async fn command(&self, text: &str) -> Result<(), TaskFailure> {
        self.client.batch_execute(text).await.map_err(|error| failure(&error))
    }
}

/// The URL with `sslmode=require` in the place of `verify-ca` and `verify-full`, which the parser does not know. The
/// certificate and its name are checked with `require` as well.
fn known_mode(url: &str) -> String {
    let Some((place, query)) = url.split_once('?') else { return url.to_owned() };
    let known = |option| match option {
        "sslmode=verify-ca" | "sslmode=verify-full" => "sslmode=require",
        other => other,
    };
    format!("{place}?{}", query.split('&').map(known).collect::<Vec<_>>().join("&"))
}

async fn opening<T>(connect: impl Future<Output = Result<T, Error>>) -> Result<T, TaskFailure> {
    match timeout(CONNECT_TIMEOUT, connect).await {
        Ok(opened) => opened.map_err(|error| failure(&error)),
        Err(_) => Err(unavailable("the database has not accepted the connection in time")),
    }
}

impl Connect for Connection {
    type Options = Options;

    async fn open(options: &Options) -> Result<Self, TaskFailure> {
        let url = options.url.read().map_err(|error| unavailable(format!("url: {error}")))?;
        // The parser's own message may show a part of the URL.
        let mut config: Config = known_mode(&url)
            .parse()
            .map_err(|_| unavailable("url: it is not postgres://USER:PASSWORD@HOST:PORT/DATABASE"))?;
        config.application_name("postern-worker").connect_timeout(CONNECT_TIMEOUT);
        if options.ca.is_some() {
            config.ssl_mode(SslMode::Require);
        }

        if config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = opening(config.connect(NoTls)).await?;
            tokio::spawn(connection);
            return Ok(Self { client, tls: None });
        }
        let tls = tls::service_config(options.ca.as_deref(), None)
            .map_err(|error| unavailable(error.to_string()))?;
        let tls = MakeRustlsConnect::new(tls);
        let (client, connection) = opening(config.connect(tls.clone())).await?;
        // It ends when the client is dropped, or with the error that the client then reports.
        tokio::spawn(connection);
        Ok(Self { client, tls: Some(tls) })
    }

    /// Asks the server to end the statement. Nothing is wrong if it has ended by itself.
    fn cancel(&self) -> impl Future<Output = ()> + Send + 'static {
        let (token, tls) = (self.client.cancel_token(), self.tls.clone());
        async move {
            let cancelled = match tls {
                Some(tls) => token.cancel_query(tls).await,
                None => token.cancel_query(NoTls).await,
            };
            if let Err(error) = cancelled {
                tracing::warn!("a statement cannot be cancelled on the server: {}", causes(&error));
            }
        }
    }
}

impl Session for Connection {
    async fn begin(&mut self, read_only: bool) -> Result<(), TaskFailure> {
        self.command(if read_only { "BEGIN READ ONLY" } else { "BEGIN READ WRITE" }).await
    }

    async fn claim(&mut self, key: &Key) -> Result<Option<String>, TaskFailure> {
        let columns: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&key.kind, &key.idempotency_key];
        let insert = format!(
            "INSERT INTO {ANSWERS} (kind, idempotency_key, answer) VALUES ($1::text, $2::text, '') ON CONFLICT DO NOTHING"
        );
        if self.client.execute(&insert, &columns).await.map_err(|error| failure(&error))? == 1 {
            return Ok(None);
        }

        let select = format!(
            "SELECT answer::text FROM {ANSWERS} WHERE kind = $1::text AND idempotency_key = $2::text"
        );
        let row = self.client.query_one(&select, &columns).await.map_err(|error| failure(&error))?;
        row.try_get(0).map(Some).map_err(|error| failure(&error))
    }

    async fn execute(&mut self, call: &Call) -> Result<String, TaskFailure> {
        let statement = self.client.prepare(&call.statement.text).await.map_err(|error| failure(&error))?;
        values::check(&statement)?;
        let names = statement.params().iter().zip(&call.statement.names);
        let parameters = names
            .zip(&call.arguments)
            .map(|((of_type, name), argument)| parameters::parameter(name, argument, of_type))
            .collect::<Result<Vec<_>, _>>()?;

        let rows = self.client.query_raw(&statement, &parameters).await.map_err(|error| failure(&error))?;
        let mut rows = std::pin::pin!(rows);
        let columns = statement.columns();
        let mut result =
            Rows::new(columns.iter().map(tokio_postgres::Column::name), call.max_rows, call.csv.as_ref())?;
        while let Some(row) = rows.try_next().await.map_err(|error| failure(&error))? {
            result.add(values::cells(&row)?)?;
        }

        if columns.is_empty() { Ok(affected(rows.rows_affected().unwrap_or(0))) } else { Ok(result.end()) }
    }

    async fn remember(&mut self, key: &Key, answer: &str) -> Result<(), TaskFailure> {
        let update = format!(
            "UPDATE {ANSWERS} SET answer = $3::text WHERE kind = $1::text AND idempotency_key = $2::text"
        );
        let updated = self.client.execute(&update, &[&key.kind, &key.idempotency_key, &answer]).await;
        updated.map(|_| ()).map_err(|error| failure(&error))
    }

    async fn commit(&mut self) -> Result<(), TaskFailure> {
        self.command("COMMIT").await
    }

    async fn rollback(&mut self) -> Result<(), TaskFailure> {
        self.command("ROLLBACK").await
    }
}

fn failure(error: &Error) -> TaskFailure {
    match error.as_db_error() {
        Some(refusal) => {
            let detail = refusal.detail().map(|detail| format!("; {detail}")).unwrap_or_default();
            refused(refusal.code().code(), &format!("{}{detail}", refusal.message()))
        }
        None => unavailable(causes(error)),
    }
}
