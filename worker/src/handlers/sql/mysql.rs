//! MySQL and MariaDB.

mod values;

use std::path::PathBuf;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Opts, OptsBuilder, Params, SslOpts, Value};
use postern_types::TaskFailure;
use tokio::time::timeout;

use super::pool::Connect;
use super::rows::{Rows, affected};
use super::session::{ANSWERS, Call, Key, Session, causes, refused, unavailable};
use crate::config::handlers::Secret;

/// How long the server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest packet that is read, which bounds a row.
const MAX_PACKET: usize = 16 * 1024 * 1024;

/// What a connection needs.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) url: Secret,
    pub(super) ca: Option<PathBuf>,
}

/// A connection. Dropping it closes it.
pub(super) struct Connection {
    conn: Conn,
    options: Opts,
}

impl Connection {
    /// Lets the server check the statement, for `doctor`.
    pub(super) async fn check(&mut self, text: &str) -> Result<(), TaskFailure> {
        self.conn.prep(text).await.map(|_| ()).map_err(|error| failure(&error))
    }

    async fn command(&mut self, text: &str) -> Result<(), TaskFailure> {
        self.conn.query_drop(text).await.map_err(|error| failure(&error))
    }
}

async fn connect(options: &Opts) -> Result<Conn, TaskFailure> {
    match timeout(CONNECT_TIMEOUT, Conn::new(options.clone())).await {
        Ok(opened) => opened.map_err(|error| failure(&error)),
        Err(_) => Err(unavailable("the database has not accepted the connection in time")),
    }
}

impl Connect for Connection {
    type Options = Options;

    async fn open(options: &Options) -> Result<Self, TaskFailure> {
        let url = options.url.read().map_err(|error| unavailable(format!("url: {error}")))?;
        // The parser's own message may show a part of the URL.
        let given = Opts::from_url(&url)
            .map_err(|_| unavailable("url: it is not mysql://USER:PASSWORD@HOST:PORT/DATABASE"))?;
        let mut builder = OptsBuilder::from_opts(given)
            .max_allowed_packet(Some(MAX_PACKET))
            // A row that is there already and stays as it is does not count as affected.
            .client_found_rows(false)
            // Behind a tunnel that ends on this host, the server's socket may be that of another server here.
            .prefer_socket(false)
            // A TIMESTAMP is shown in the zone of the session.
            .setup(vec!["SET time_zone = '+00:00'"]);
        if let Some(ca) = &options.ca {
            let tls =
                SslOpts::default().with_root_certs(vec![ca.clone().into()]).with_disable_built_in_roots(true);
            builder = builder.ssl_opts(tls);
        }

        let options = Opts::from(builder);
        let conn = connect(&options).await?;
        Ok(Self { conn, options })
    }

    /// Asks the server to end the statement, over another connection. Nothing is wrong if it has ended by itself.
    fn cancel(&self) -> impl Future<Output = ()> + Send + 'static {
        let (id, options) = (self.conn.id(), self.options.clone());
        async move {
            let cancelled = async {
                let mut other = connect(&options).await?;
                other.query_drop(format!("KILL QUERY {id}")).await.map_err(|error| failure(&error))
            };
            if let Err(failure) = cancelled.await {
                tracing::warn!("a statement cannot be cancelled on the server: {}", failure.cause());
            }
        }
    }
}

impl Session for Connection {
    async fn begin(&mut self, read_only: bool) -> Result<(), TaskFailure> {
        let access = if read_only { "READ ONLY" } else { "READ WRITE" };
        // CREATE, DROP and their like commit the transaction before they are checked: the session refuses them.
        self.command(&format!("SET SESSION TRANSACTION {access}")).await?;
        self.command(&format!("START TRANSACTION {access}")).await
    }

    async fn claim(&mut self, key: &Key) -> Result<Option<String>, TaskFailure> {
        let columns = (&key.kind, &key.idempotency_key);
        let insert =
            format!("INSERT IGNORE INTO {ANSWERS} (kind, idempotency_key, answer) VALUES (?, ?, '')");
        self.conn.exec_drop(insert, columns).await.map_err(|error| failure(&error))?;
        if self.conn.affected_rows() == 1 {
            return Ok(None);
        }

        // A plain SELECT would read the snapshot of this transaction, which may be older than the answer.
        let select =
            format!("SELECT answer FROM {ANSWERS} WHERE kind = ? AND idempotency_key = ? FOR UPDATE");
        let answer: Option<String> =
            self.conn.exec_first(select, columns).await.map_err(|error| failure(&error))?;
        match answer {
            Some(answer) => Ok(Some(answer)),
            None => Err(TaskFailure::new("Sql.Statement", format!("{ANSWERS} does not take the job's key"))),
        }
    }

    async fn execute(&mut self, call: &Call) -> Result<String, TaskFailure> {
        let statement = self.conn.prep(&call.statement.text).await.map_err(|error| failure(&error))?;
        let arguments = call.statement.order.iter().map(|index| values::parameter(&call.arguments[*index]));
        let parameters: Vec<Value> = arguments.collect();
        let parameters = if parameters.is_empty() { Params::Empty } else { Params::Positional(parameters) };

        let mut rows = self.conn.exec_iter(&statement, parameters).await.map_err(|error| failure(&error))?;
        let Some(columns) = rows.columns().filter(|columns| !columns.is_empty()) else {
            return Ok(affected(rows.affected_rows()));
        };
        let names: Vec<_> = columns.iter().map(|column| column.name_str().into_owned()).collect();
        let mut result = Rows::new(names.iter().map(String::as_str), call.max_rows, call.csv.as_ref())?;
        while let Some(row) = rows.next().await.map_err(|error| failure(&error))? {
            result
                .add(columns.iter().zip(row.unwrap()).map(|(column, value)| values::cell(column, value)))?;
        }
        Ok(result.end())
    }

    async fn remember(&mut self, key: &Key, answer: &str) -> Result<(), TaskFailure> {
        let update = format!("UPDATE {ANSWERS} SET answer = ? WHERE kind = ? AND idempotency_key = ?");
        let updated = self.conn.exec_drop(update, (answer, &key.kind, &key.idempotency_key)).await;
        updated.map_err(|error| failure(&error))
    }

    async fn commit(&mut self) -> Result<(), TaskFailure> {
        self.command("COMMIT").await
    }

    async fn rollback(&mut self) -> Result<(), TaskFailure> {
        self.command("ROLLBACK").await
    }
}

fn failure(error: &Error) -> TaskFailure {
    match error {
        Error::Server(refusal) => {
            let message = format!("{} (error {})", refusal.message, refusal.code);
            // These have a general SQLSTATE, or one that means something else.
            let state = match refusal.code {
                1205 | 1213 => "40001",
                1792 | 1836 => "25006",
                1044 | 1045 | 1142 | 1143 | 1227 => "28000",
                1053 | 1927 => "08S01",
                _ => refusal.state.as_str(),
            };
            refused(state, &message)
        }
        other => unavailable(causes(other)),
    }
}
