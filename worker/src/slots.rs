//! The slots that handlers run in. Their number can change while handlers run.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// A number of slots, of which a handler holds one while it runs.
#[derive(Debug)]
pub(crate) struct Slots {
    free: Semaphore,
    count: Mutex<Count>,
}

#[derive(Debug)]
struct Count {
    total: usize,
    /// Slots that have been taken away while handlers held them. They go when those handlers end.
    owed: usize,
}

/// A slot that is held until it is dropped.
pub(crate) struct Slot<'a> {
    slots: &'a Slots,
    permit: Option<SemaphorePermit<'a>>,
}

impl Slots {
    pub(crate) fn new(total: usize) -> Self {
        Self { free: Semaphore::new(total), count: Mutex::new(Count { total, owed: 0 }) }
    }

    /// How many handlers may run at a time.
    pub(crate) fn total(&self) -> usize {
        self.count().total
    }

    /// Waits for a slot. `None` never comes: the slots are not closed.
    pub(crate) async fn acquire(&self) -> Option<Slot<'_>> {
        let permit = self.free.acquire().await.ok()?;
        Some(Slot { slots: self, permit: Some(permit) })
    }

    /// Changes the number of slots. Handlers that run keep theirs; no other starts until fewer run than there are slots.
    pub(crate) fn resize(&self, total: usize) {
        let mut count = self.count();
        if total >= count.total {
            let more = total - count.total;
            let kept = more.min(count.owed);
            count.owed -= kept;
            self.free.add_permits(more - kept);
        } else {
            let fewer = count.total - total;
            count.owed += fewer - self.free.forget_permits(fewer);
        }
        count.total = total;
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut count = self.slots.count();
        let Some(permit) = self.permit.take() else { return };
        if count.owed > 0 {
            count.owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the order of starts, ends and changes: no handler starts while as many run as there are slots, and
        /// one starts whenever fewer run.
        #[test]
        fn a_handler_starts_exactly_while_fewer_run_than_there_are_slots(
            steps in proptest::collection::vec((0_u8..4, 1_usize..6), 1..100),
        ) {
            let (slots, mut running) = (Slots::new(3), VecDeque::new());
            for (step, total) in steps {
                match step {
                    0 => slots.resize(total),
                    1 => drop(running.pop_front()),
                    _ => {
                        let slot = at_once(slots.acquire());
                        prop_assert_eq!(slot.is_some(), running.len() < slots.total());
                        running.extend(slot);
                    }
                }
            }
        }
    }

    /// What the future yields if it need not wait.
    fn at_once<T>(future: impl Future<Output = Option<T>>) -> Option<T> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => None,
        }
    }
}
