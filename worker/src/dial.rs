//! Opens the TCP connection to the endpoint, directly or through an HTTP proxy, and says which step failed.

use std::io;

use tokio::net::{TcpSocket, TcpStream, lookup_host};

use crate::proxy::{Proxy, ProxyError};

/// Why there is no TCP connection to the endpoint.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The name of the endpoint or of the proxy has no address.
    #[error("the name {host} cannot be resolved: is it right, and does this host's DNS know it? ({source})")]
    Resolve { host: String, source: io::Error },
    /// The host does not take the connection.
    #[error("no connection to {address}: {source}")]
    Connect { address: String, source: io::Error },
    /// The proxy does not take the connection.
    #[error("no connection to the proxy {proxy}: {source}")]
    ConnectProxy { proxy: String, source: io::Error },
    /// The proxy takes the connection and opens no tunnel.
    #[error(transparent)]
    Tunnel(#[from] ProxyError),
}

/// What the kernel keeps of outgoing data. With its default of megabytes, a line of 100 kbit a second would look as if
/// the broker had stopped answering, long before the data is through.
const SEND_BUFFER: u32 = 64 * 1024;

/// Connects to `host` and `port`, through the proxy if there is one.
pub(crate) async fn dial(host: &str, port: u16, proxy: Option<&Proxy>) -> Result<TcpStream, DialError> {
    let Some(proxy) = proxy else {
        return connect(host, port).await;
    };

    let mut stream = connect(&proxy.host, proxy.port).await.map_err(|error| match error {
        DialError::Connect { source, .. } => DialError::ConnectProxy { proxy: proxy.to_string(), source },
        other => other,
    })?;
    proxy.open_tunnel(&mut stream, &format!("{host}:{port}")).await?;
    Ok(stream)
}

/// Tries the addresses of a host one after the other.
async fn connect(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let addresses =
        lookup_host((host, port)).await.map_err(|source| DialError::Resolve { host: host.into(), source })?;
    let mut last = None;
    for address in addresses {
        match connect_to(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }

    let source = last.unwrap_or_else(|| io::Error::other("it has no address"));
    Err(DialError::Connect { address: format!("{host}:{port}"), source })
}

async fn connect_to(address: std::net::SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_without_an_address_is_a_matter_of_dns() {
        let error = dial("endpoint.invalid", 8883, None).await.unwrap_err();
        assert!(matches!(error, DialError::Resolve { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_there_is_named() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let proxy = format!("http://u:secret@127.0.0.1:{port}").parse().unwrap();
        let error = dial("endpoint.invalid", 8883, Some(&proxy)).await.unwrap_err();
        assert!(matches!(error, DialError::ConnectProxy { .. }), "{error}");
        assert!(
            error.to_string().contains(&format!("127.0.0.1:{port}")) && !error.to_string().contains("secret")
        );
    }
}
