//! Turns a connection's errors into sentences for someone who can do something about them.

use std::error::Error;
use std::io::{self, ErrorKind};

use rumqttc::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode, SubscribeReasonCode};
use rumqttc::{ConnectionError, StateError};
use rustls::{AlertDescription, CertificateError};

use crate::dial::DialError;
use crate::proxy::Proxy;

/// Says why there is no connection, and what to check. `proxy` is the one that the connection goes through.
pub(crate) fn explain(error: &ConnectionError, proxy: Option<&Proxy>) -> String {
    if let Some(tls) = find::<rustls::Error>(error) {
        return explain_tls(tls, proxy);
    }
    if let Some(dial) = find::<DialError>(error) {
        return explain_dial(dial);
    }

    match error {
        ConnectionError::ConnectionRefused(code)
        | ConnectionError::MqttState(StateError::ConnFail { reason: code }) => explain_refusal(*code),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            explain_disconnect(*reason_code)
        }
        ConnectionError::Timeout(_) => explain_timeout(proxy),
        _ => match find::<io::Error>(error) {
            Some(io) => explain_io(io),
            None => format!("no connection: {error}"),
        },
    }
}

fn explain_timeout(proxy: Option<&Proxy>) -> String {
    let whom = proxy.map_or_else(|| "the endpoint".into(), |proxy| format!("the proxy {proxy}"));
    format!(
        "{whom} has not answered in time: a firewall drops the packets, or the port is blocked; AWS IoT Core takes \
         MQTT on ports 8883 and 443"
    )
}

fn explain_dial(error: &DialError) -> String {
    match error {
        DialError::Connect { address, source } => match source.kind() {
            ErrorKind::ConnectionRefused => {
                format!(
                    "nothing listens at {address} (connection refused): are the host name and the port right?"
                )
            }
            ErrorKind::TimedOut => explain_timeout(None),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                format!("there is no route to {address}: {source}")
            }
            _ => error.to_string(),
        },
        _ => error.to_string(),
    }
}

/// The first error of type `E` in the chain.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    if let Some(found) = error.downcast_ref::<E>() {
        return Some(found);
    }
    // These two do not return the error that they hold as their source.
    if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return find::<E>(inner);
    }
    if let Some(StateError::Deserialization(inner)) = error.downcast_ref() {
        return find::<E>(inner);
    }
    error.source().and_then(find::<E>)
}

fn explain_tls(error: &rustls::Error, proxy: Option<&Proxy>) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            let who = proxy.map_or_else(
                || "something on the way (a TLS-inspecting firewall)".into(),
                |proxy| format!("the proxy {proxy}"),
            );
            format!(
                "the endpoint's certificate is not signed by the configured CA. Either --ca is not the endpoint's CA \
                 (AWS IoT Core's is Amazon Root CA 1), or {who} intercepts TLS and presents a certificate of its own: \
                 exempt the endpoint from inspection, because mutual TLS cannot pass it"
            )
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the endpoint's certificate is for another host name: is --endpoint the output of `aws iot \
              describe-endpoint --endpoint-type iot:Data-ATS`?"
            .into(),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "the endpoint's certificate is not valid at this time: is this host's clock right?".into(),
        rustls::Error::AlertReceived(alert) => {
            let why = match alert {
                AlertDescription::CertificateExpired => "it has expired",
                AlertDescription::CertificateRevoked => "it was revoked",
                AlertDescription::UnknownCA | AlertDescription::CertificateUnknown => {
                    "it is not registered, or not active (`aws iot describe-certificate`)"
                }
                AlertDescription::CertificateRequired => "it received none",
                _ => "the alert says why",
            };
            format!("the endpoint refused the worker's certificate: {why} (TLS alert {alert:?})")
        }
        other => format!("TLS failed: {other}"),
    }
}

fn explain_refusal(code: ConnectReturnCode) -> String {
    match code {
        ConnectReturnCode::NotAuthorized | ConnectReturnCode::Banned | ConnectReturnCode::BadUserNamePassword => {
            "the broker refused the connection (not authorized): the certificate's IoT policy must allow \
             iot:Connect for this client id, which is the thing's name, and the certificate must be attached to \
             the thing"
                .into()
        }
        ConnectReturnCode::ClientIdentifierNotValid | ConnectReturnCode::BadClientId => {
            "the broker refused the client id: it must be the thing's name".into()
        }
        other => format!("the broker refused the connection: {other:?}"),
    }
}

fn explain_disconnect(code: DisconnectReasonCode) -> String {
    match code {
        DisconnectReasonCode::SessionTakenOver => {
            "another client connected with the same client id and took over the session: each worker needs a thing \
             and a client id of its own"
                .into()
        }
        DisconnectReasonCode::NotAuthorized => {
            "the broker closed the connection (not authorized): does the IoT policy allow iot:Publish on the \
             answer topic?"
                .into()
        }
        other => format!("the broker closed the connection: {other:?}"),
    }
}

fn explain_io(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::UnexpectedEof
        | ErrorKind::BrokenPipe => {
            "the broker closed the connection without a reason: AWS IoT Core does so when the IoT policy does not \
             allow what the worker did, or when another client uses the same client id"
                .into()
        }
        ErrorKind::TimedOut => explain_timeout(None),
        _ => format!("the connection failed: {error}"),
    }
}

/// Says why the broker granted no subscription.
pub(crate) fn explain_subscribe(filter: &str, code: Option<&SubscribeReasonCode>) -> String {
    match code {
        Some(
            SubscribeReasonCode::NotAuthorized
            | SubscribeReasonCode::Unspecified
            | SubscribeReasonCode::Failure,
        ) => {
            // A shared subscription receives on the topic itself.
            let topic =
                filter.splitn(3, '/').nth(2).filter(|_| filter.starts_with("$share/")).unwrap_or(filter);
            format!(
                "the broker does not allow a subscription to {filter}: the certificate's IoT policy must allow \
                 iot:Subscribe on topicfilter/{filter} and iot:Receive on topic/{topic}"
            )
        }
        Some(SubscribeReasonCode::Success(_)) => {
            format!("the broker granted {filter} at QoS 0 only; jobs need QoS 1")
        }
        other => format!("the broker refused the subscription to {filter}: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tls_error_is_found_inside_of_io_errors() {
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let hidden = io::Error::other(io::Error::new(ErrorKind::InvalidData, alert));
        let text = explain(&ConnectionError::Io(hidden), None);
        assert!(text.contains("it has expired"), "{text}");
    }

    #[test]
    fn a_foreign_certificate_is_blamed_on_the_proxy_if_there_is_one() {
        let error = || {
            let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
            ConnectionError::Io(io::Error::new(ErrorKind::InvalidData, unknown))
        };
        let proxy = "http://u:secret@proxy.example:3128".parse().unwrap();
        let text = explain(&error(), Some(&proxy));
        assert!(
            text.contains("the proxy proxy.example:3128 intercepts TLS") && !text.contains("secret"),
            "{text}"
        );
        assert!(explain(&error(), None).contains("firewall"));
    }

    #[test]
    fn a_policy_error_names_the_action_and_the_resource() {
        let text = explain_subscribe("$share/plant/t/to/worker", Some(&SubscribeReasonCode::NotAuthorized));
        assert!(text.contains("iot:Subscribe on topicfilter/$share/plant/t/to/worker"), "{text}");
        assert!(text.contains("iot:Receive on topic/t/to/worker"), "{text}");

        let refused = ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
        assert!(explain(&refused, None).contains("iot:Connect"));
    }

    #[test]
    fn a_port_without_a_listener_is_told_from_a_blocked_one() {
        let connect = |kind: ErrorKind| {
            let dial = DialError::Connect { address: "h:8883".into(), source: kind.into() };
            explain(&ConnectionError::Io(io::Error::other(dial)), None)
        };
        assert!(connect(ErrorKind::ConnectionRefused).contains("nothing listens at h:8883"));
        assert!(connect(ErrorKind::TimedOut).contains("blocked"));
        assert!(connect(ErrorKind::HostUnreachable).contains("no route to h:8883"));
    }
}
