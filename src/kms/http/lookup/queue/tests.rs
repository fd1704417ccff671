use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A DNS that answers nobody until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar, AtomicUsize)>);

impl Gate {
    fn queue(&self) -> LookupQueue {
        let gate = self.clone();
        LookupQueue::new(move |name| {
            let (open, opened, asked) = &*gate.0;
            asked.fetch_add(1, Ordering::SeqCst);
            drop(opened.wait_while(open.lock().expect("a lock"), |open| !*open));
            match name {
                "unknown" => Err(io::Error::other("Name or service not known")),
                "crash" => panic!("on purpose"),
                _ => Ok(vec![Ipv4Addr::LOCALHOST.into()]),
            }
        })
    }

    fn open(&self) {
        *self.0.0.lock().expect("a lock") = true;
        self.0.1.notify_all();
    }

    fn asked(&self) -> usize {
        self.0.2.load(Ordering::SeqCst)
    }

    async fn wait_for(&self, asked: usize) {
        while self.asked() < asked {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn callers_of_one_name_share_one_look_up() {
    let gate = Gate::default();
    let queue = gate.queue();
    let waiting: Vec<_> = (0..1000)
        .map(|_| queue.join("kms").expect("joined"))
        .collect();
    gate.wait_for(1).await;
    gate.open();
    for outcome in waiting {
        let found = outcome.await.expect("an outcome").ok().expect("found");
        assert_eq!(*found, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    }
    assert_eq!((gate.asked(), queue.threads()), (1, 1));
}

#[tokio::test]
async fn threads_and_waiting_names_are_bounded_while_the_dns_is_silent() {
    let gate = Gate::default();
    let queue = gate.queue();
    let mut waiting = Vec::new();
    for number in 0..MAX_THREADS {
        waiting.push(queue.join(&format!("taken-{number}")).expect("joined"));
        gate.wait_for(number + 1).await;
    }
    for number in 0..MAX_QUEUED {
        waiting.push(queue.join(&format!("queued-{number}")).expect("joined"));
    }
    let error = queue.look_up("too-many").await.expect_err("a full queue");
    assert!(error.to_string().contains("too many names"), "{error}");
    assert_eq!((gate.asked(), queue.threads()), (MAX_THREADS, MAX_THREADS));

    // Callers that leave make room, and what they asked for is not looked up.
    waiting.clear();
    let last = queue.join("last").expect("room again");
    gate.open();
    assert!(last.await.expect("an outcome").is_ok());
    assert_eq!(gate.asked(), MAX_THREADS + 1);
}

#[tokio::test]
async fn a_failed_look_up_reaches_its_callers_and_the_thread_goes_on() {
    let gate = Gate::default();
    gate.open();
    let queue = gate.queue();
    let error = queue.look_up("unknown").await.expect_err("unknown");
    assert_eq!(error.to_string(), "Name or service not known");
    let error = queue.look_up("crash").await.expect_err("crashed");
    assert!(error.to_string().contains("crashed"), "{error}");
    assert!(queue.look_up("kms").await.is_ok());
    assert!(queue.threads() <= MAX_THREADS);
}
