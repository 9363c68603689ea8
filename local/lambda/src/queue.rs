//! The queue of events between the two APIs that accept them and the processes that handle them.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

/// The JSON of an error that the function reported, or of the end of its process.
#[derive(Debug, PartialEq, Eq)]
pub struct FunctionError(pub Vec<u8>);

/// An event, and the channel for its response. If the channel is dropped without a response, the event has failed.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) body: Vec<u8>,
    pub(crate) response: oneshot::Sender<Result<Vec<u8>, FunctionError>>,
}

/// The sending end of the queue.
#[derive(Debug, Clone)]
pub(crate) struct Events(mpsc::UnboundedSender<Event>);

/// The receiving end of the queue, shared by all processes: a free process takes the next event.
pub(crate) type Queue = Arc<Mutex<mpsc::UnboundedReceiver<Event>>>;

/// An empty queue.
pub(crate) fn queue() -> (Events, Queue) {
    let (events, queue) = mpsc::unbounded_channel();
    (Events(events), Arc::new(Mutex::new(queue)))
}

impl Events {
    /// Queues an event and waits for its response.
    pub(crate) async fn invoke(&self, body: Vec<u8>) -> Result<Vec<u8>, FunctionError> {
        let (response, received) = oneshot::channel();
        // Without a receiver, no process is left: the event is dropped, together with the channel for its response.
        let _ = self.0.send(Event { body, response });

        let exited = r#"{"errorType":"Runtime.ExitError","errorMessage":"the function's process ended"}"#;
        received.await.unwrap_or_else(|_| Err(FunctionError(exited.into())))
    }
}
