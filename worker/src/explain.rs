//! What the MQTT client and TLS say, in the words of someone who can do something about it.

use std::error::Error;
use std::io::{self, ErrorKind};

use rumqttc::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode, SubscribeReasonCode};
use rumqttc::{ConnectionError, StateError};
use rustls::{AlertDescription, CertificateError};

/// Why there is no connection, and what to look at.
pub(crate) fn explain(error: &ConnectionError) -> String {
    if let Some(tls) = find::<rustls::Error>(error) {
        return explain_tls(tls);
    }
    match error {
        ConnectionError::ConnectionRefused(code)
        | ConnectionError::MqttState(StateError::ConnFail { reason: code }) => explain_refusal(*code),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            explain_disconnect(*reason_code)
        }
        ConnectionError::Timeout(_) => {
            "no answer from the endpoint in time: does a firewall let this host out to it?".into()
        }
        _ => match find::<io::Error>(error) {
            Some(io) => explain_io(io),
            None => format!("no connection: {error}"),
        },
    }
}

/// The first error of type `E` in the chain.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    if let Some(found) = error.downcast_ref::<E>() {
        return Some(found);
    }
    // Two that do not give what they hold as their source.
    if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return find::<E>(inner);
    }
    if let Some(StateError::Deserialization(inner)) = error.downcast_ref() {
        return find::<E>(inner);
    }
    error.source().and_then(find::<E>)
}

fn explain_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the endpoint's certificate is not signed by the CA given with --ca (AWS IoT Core's is Amazon Root CA 1)"
                .into()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the endpoint's certificate is for another host name: is --endpoint the one of `aws iot \
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
                AlertDescription::CertificateRequired => "it did not arrive",
                _ => "see the alert",
            };
            format!("the endpoint refused the worker's certificate: {why} (TLS alert {alert:?})")
        }
        other => format!("no TLS connection: {other}"),
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
            "another client connected under the same client id and took the session: each worker needs a thing \
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
        ErrorKind::ConnectionRefused => "nobody listens at the endpoint: is the port right?".into(),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::UnexpectedEof
        | ErrorKind::BrokenPipe => {
            "the broker closed the connection without a word: AWS IoT Core does so when the policy does not allow \
             what was asked, or the client id is in use elsewhere"
                .into()
        }
        ErrorKind::TimedOut => "no answer from the endpoint in time".into(),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "no route to the endpoint".into(),
        _ => format!("no connection: {error} (is the host name right?)"),
    }
}

/// Why the worker may not subscribe.
pub(crate) fn explain_subscribe(filter: &str, code: Option<&SubscribeReasonCode>) -> String {
    match code {
        Some(
            SubscribeReasonCode::NotAuthorized
            | SubscribeReasonCode::Unspecified
            | SubscribeReasonCode::Failure,
        ) => {
            format!(
                "the broker does not allow a subscription to {filter}: the certificate's IoT policy must allow \
                 iot:Subscribe on topicfilter/{filter} and iot:Receive on topic/{filter}"
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
        let words = explain(&ConnectionError::Io(hidden));
        assert!(words.contains("it has expired"), "{words}");
    }

    #[test]
    fn a_policy_error_names_the_policy_action() {
        assert!(
            explain_subscribe("t/to/worker", Some(&SubscribeReasonCode::NotAuthorized))
                .contains("iot:Subscribe")
        );
        let refused = ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
        assert!(explain(&refused).contains("iot:Connect"));
    }

    #[test]
    fn a_dead_endpoint_is_said_to_be_one() {
        let error = ConnectionError::Io(io::Error::from(ErrorKind::ConnectionRefused));
        assert!(explain(&error).contains("nobody listens"));
    }
}
