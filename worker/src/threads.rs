//! The threads that handlers run on. They are the handlers' own, so that a handler that blocks stops no heartbeat; and
//! there are as many as handlers may run at a time, so that one that blocks stops no other handler.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads whose number can grow. Clones share them.
#[derive(Debug, Clone)]
pub struct Threads(Arc<Mutex<Pools>>);

#[derive(Debug)]
struct Pools {
    /// Where the next handler runs.
    current: Handle,
    /// How many threads `current` has.
    size: usize,
    /// Every pool that was made: handlers still run in the earlier ones.
    owned: Vec<Runtime>,
}

impl Threads {
    /// This many threads.
    pub fn new(size: usize) -> io::Result<Self> {
        let pool = pool(size)?;
        Ok(Self(Arc::new(Mutex::new(Pools { current: pool.handle().clone(), size, owned: vec![pool] }))))
    }

    /// The threads of a runtime that belongs to the caller. Their number does not change.
    pub fn of(runtime: Handle) -> Self {
        Self(Arc::new(Mutex::new(Pools { current: runtime, size: usize::MAX, owned: Vec::new() })))
    }

    /// Where the next handler runs.
    pub(crate) fn handle(&self) -> Handle {
        self.pools().current.clone()
    }

    /// Makes sure that the next handlers have at least this many threads. There are never fewer than before, and at
    /// least twice as many if there must be more, so that few pools are ever made.
    pub(crate) fn reserve(&self, size: usize) -> io::Result<()> {
        let mut pools = self.pools();
        if size <= pools.size {
            return Ok(());
        }

        let size = size.max(pools.size * 2);
        let pool = pool(size)?;
        pools.current = pool.handle().clone();
        pools.size = size;
        pools.owned.push(pool);
        Ok(())
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pools {
    /// A handler that still blocks must not keep the process.
    fn drop(&mut self) {
        for pool in self.owned.drain(..) {
            pool.shutdown_background();
        }
    }
}

fn pool(size: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(size).thread_name("handler").enable_all().build()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn as_many_handlers_block_at_a_time_as_were_reserved() {
        let threads = Threads::new(1).unwrap();
        threads.reserve(3).unwrap();
        threads.reserve(2).unwrap();

        // Each of the three goes on only when all of them are there.
        let barrier = Arc::new(Barrier::new(4));
        for _ in 0..3 {
            let barrier = Arc::clone(&barrier);
            threads.handle().spawn(async move { barrier.wait() });
        }
        barrier.wait();
        assert_eq!(threads.pools().owned.len(), 2);
    }
}
