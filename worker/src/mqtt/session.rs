//! What a worker does on a connection once the broker has accepted it: subscribe if need be, then publish.

use rumqttc::mqttbytes::v5::SubscribeReasonCode;
use rumqttc::{AsyncClient, QoS, SubscribeNoticeError};

use crate::explain::explain_subscribe;

/// Why there is no subscription.
pub(crate) enum NotSubscribed {
    /// The broker refused it. The text explains why.
    Refused(String),
    /// The connection fell before the answer came.
    Disconnected,
}

/// Subscribes at QoS 1.
pub(crate) async fn subscribe(client: &AsyncClient, filter: &str) -> Result<(), NotSubscribed> {
    let notice = client.subscribe_tracked(filter, QoS::AtLeastOnce).await;
    let notice = notice.map_err(|_| NotSubscribed::Disconnected)?;
    let codes = match notice.wait_async().await {
        Ok(suback) => suback.return_codes,
        Err(SubscribeNoticeError::V5SubAckFailure(codes)) => codes,
        Err(_) => return Err(NotSubscribed::Disconnected),
    };

    match codes.first() {
        Some(SubscribeReasonCode::Success(QoS::AtLeastOnce | QoS::ExactlyOnce)) => Ok(()),
        code => Err(NotSubscribed::Refused(explain_subscribe(filter, code))),
    }
}
