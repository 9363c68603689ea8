//! PUT and GET of one object by a presigned URL, with a bounded part of it in memory.
//!
//! Each transfer has a connection of its own, through the worker's proxy if there is one. Nothing is tried again here.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use postern_types::Sha256Sum;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::spool::Spool;
use crate::dial::dial;
use crate::proxy::Proxy;

/// How long S3 may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a transfer may go without a byte.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// How much of a file is read at once.
const CHUNK: usize = 64 * 1024;

/// Why an object was not transferred. The texts contain no URL, because a presigned URL is a credential.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// S3 does not take the URL any more.
    #[error("S3 does not take the URL: it has expired, or its object is not there (HTTP 403)")]
    Expired,
    /// S3 refused the request for another reason than the URL's age.
    #[error("S3 refused the transfer: HTTP {0}")]
    Refused(u16),
    /// S3 failed, or the connection did.
    #[error("{0}")]
    Broken(String),
    /// The content is not what the job's message says.
    #[error("{0}")]
    Mismatch(String),
    /// The file on the worker's disk cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        error: std::io::Error,
    },
}

impl TransferError {
    fn broken(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Self::Broken(innermost.to_string())
    }
}

/// What a connection to S3 needs.
pub(crate) struct Transfers {
    tls: Arc<ClientConfig>,
    proxy: Option<Proxy>,
}

impl Transfers {
    pub(crate) fn new(tls: ClientConfig, proxy: Option<Proxy>) -> Self {
        Self { tls: Arc::new(tls), proxy }
    }

    /// Uploads a file of `bytes` bytes, with exactly these headers.
    pub(crate) async fn put<'a>(
        &self,
        url: &str,
        headers: impl Iterator<Item = (&'a String, &'a String)>,
        path: &Path,
        bytes: u64,
    ) -> Result<(), TransferError> {
        let file = File::open(path).await;
        let file = file.map_err(|error| TransferError::File { path: path.to_owned(), error })?;
        let sent = Arc::new(AtomicU64::new(0));
        let body = FileBody { file, left: bytes, sent: Arc::clone(&sent), chunk: vec![0; CHUNK] };

        let uri = address(url)?;
        let mut request = Request::put(uri.path_and_query().map_or("/", |path| path.as_str()));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(body).map_err(|error| TransferError::broken(&error))?;

        let response = tokio::select! {
            response = self.send(&uri, request) => response?,
            () = stalled(&sent) => return Err(TransferError::Broken(no_byte())),
        };
        accepted(response.status())
    }

    /// Downloads an object of `bytes` bytes into a file, and compares its sum if there is one.
    pub(crate) async fn get(
        &self,
        url: &str,
        spool: &Spool,
        path: &Path,
        bytes: u64,
        sha256: Option<Sha256Sum>,
    ) -> Result<(), TransferError> {
        let uri = address(url)?;
        let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()));
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| TransferError::broken(&error))?;
        let response = timeout(IDLE_TIMEOUT, self.send(&uri, request)).await;
        let response = response.map_err(|_| TransferError::Broken(no_byte()))??;
        accepted(response.status())?;

        let failed = |error| TransferError::File { path: path.to_owned(), error };
        let mut file = File::from_std(spool.create(path).map_err(failed)?);
        let sum = receive(response.into_body(), &mut file, bytes).await.map_err(|error| match error {
            Received::Transfer(error) => error,
            Received::File(error) => failed(error),
        })?;
        match sha256 {
            Some(expected) if expected != sum => Err(TransferError::Mismatch(format!(
                "the input has the SHA-256 {sum}; the job's message says {expected}"
            ))),
            _ => Ok(()),
        }
    }

    /// Sends a request over a connection of its own, and returns the head of the answer.
    async fn send<B>(&self, uri: &Uri, mut request: Request<B>) -> Result<Response<Incoming>, TransferError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let authority = uri.authority().map_or_else(String::new, ToString::to_string);
        let host = HeaderValue::try_from(authority).map_err(|error| TransferError::broken(&error))?;
        request.headers_mut().insert(HOST, host);

        let stream = timeout(CONNECT_TIMEOUT, self.connect(uri)).await;
        let stream = stream
            .map_err(|_| TransferError::Broken("S3 has not accepted the connection in time".into()))??;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| TransferError::broken(&error))?;
        // It ends with the answer's body, or with the error that the request or the body then has.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| TransferError::broken(&error))
    }

    async fn connect(&self, uri: &Uri) -> Result<Pin<Box<dyn Stream>>, TransferError> {
        let (host, secure) = (uri.host().unwrap_or_default(), uri.scheme_str() == Some("https"));
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let proxy = self.proxy.as_ref().filter(|_| !is_loopback(host));
        let stream =
            dial(host, port, proxy).await.map_err(|error| TransferError::Broken(error.to_string()))?;
        if !secure {
            return Ok(Box::pin(stream));
        }

        let name = ServerName::try_from(host.to_owned()).map_err(|error| TransferError::broken(&error))?;
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await;
        Ok(Box::pin(tls.map_err(|error| TransferError::broken(&error))?))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// Reads a URL. A request without TLS must stay on this machine, because its URL is a credential.
fn address(url: &str) -> Result<Uri, TransferError> {
    let broken = |reason: &str| TransferError::Broken(format!("the presigned URL {reason}"));
    let uri: Uri = url.parse().map_err(|_| broken("is not a URL"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => Ok(uri),
        (Some("http"), Some(host)) if is_loopback(host) => Ok(uri),
        _ => Err(broken("must begin with https://")),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn accepted(status: StatusCode) -> Result<(), TransferError> {
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::FORBIDDEN => Err(TransferError::Expired),
        // The credentials that signed the URL have ended: S3 calls that ExpiredToken.
        StatusCode::BAD_REQUEST => Err(TransferError::Refused(400)),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Err(TransferError::Broken(format!("S3 throttled the transfer: HTTP {}", status.as_u16())))
        }
        status if status.is_server_error() => {
            Err(TransferError::Broken(format!("S3 failed: HTTP {}", status.as_u16())))
        }
        status => Err(TransferError::Refused(status.as_u16())),
    }
}

/// Waits until no byte has gone for a while.
async fn stalled(sent: &AtomicU64) {
    let mut before = u64::MAX;
    loop {
        let now = sent.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
        sleep(IDLE_TIMEOUT).await;
    }
}

fn no_byte() -> String {
    format!("no byte has been transferred for {IDLE_TIMEOUT:?}")
}

enum Received {
    Transfer(TransferError),
    File(std::io::Error),
}

/// Writes a body to a file, and returns its sum. A body of another length is an error before it fills the disk.
async fn receive(mut body: Incoming, file: &mut File, bytes: u64) -> Result<Sha256Sum, Received> {
    let (mut sum, mut received) = (Sha256::new(), 0);
    loop {
        let frame = timeout(IDLE_TIMEOUT, body.frame()).await;
        let frame = frame.map_err(|_| Received::Transfer(TransferError::Broken(no_byte())))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| Received::Transfer(TransferError::broken(&error)))?;
        let Ok(data) = frame.into_data() else { continue };

        received += data.len() as u64;
        if received > bytes {
            break;
        }
        sum.update(&data);
        file.write_all(&data).await.map_err(Received::File)?;
    }

    if received != bytes {
        let what = if received > bytes { "more than " } else { "" };
        let problem =
            format!("the input has {what}{} bytes; the job's message says {bytes}", received.min(bytes));
        return Err(Received::Transfer(TransferError::Mismatch(problem)));
    }
    file.flush().await.map_err(Received::File)?;
    Ok(Sha256Sum::new(sum.finalize().into()))
}

/// The content of a file, whose length is known.
struct FileBody {
    file: File,
    left: u64,
    /// How much of the file the connection has taken.
    sent: Arc<AtomicU64>,
    chunk: Vec<u8>,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let this = &mut *self;
        if this.left == 0 {
            return Poll::Ready(None);
        }

        let most = usize::try_from(this.left).unwrap_or(CHUNK).min(CHUNK);
        let mut buffer = ReadBuf::new(&mut this.chunk[..most]);
        ready!(Pin::new(&mut this.file).poll_read(context, &mut buffer))?;
        let read = buffer.filled();
        if read.is_empty() {
            return Poll::Ready(Some(Err(std::io::Error::other("the file is shorter than it was"))));
        }

        this.left -= read.len() as u64;
        this.sent.fetch_add(read.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(read)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Reads a file that is small enough for the memory.
pub(crate) async fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path).await?.read_to_end(&mut content).await?;
    Ok(content)
}
