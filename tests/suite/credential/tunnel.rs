//! A proxy on loopback that records the hosts of the agent's connections and reaches none of them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Accepts every `CONNECT`, records its host, and always connects to the same address.
pub(super) struct Tunnel {
    address: SocketAddr,
    asked_for: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl Tunnel {
    pub(super) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let asked_for = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let listening = {
            let (asked_for, ended) = (Arc::clone(&asked_for), Arc::clone(&ended));
            std::thread::spawn(move || {
                for client in listener.incoming().map_while(Result::ok) {
                    if ended.load(Ordering::Acquire) {
                        return;
                    }
                    let asked_for = Arc::clone(&asked_for);
                    // It ends with the agent's connection.
                    std::thread::spawn(move || serve(client, target, &asked_for));
                }
            })
        };
        Self {
            address,
            asked_for,
            ended,
            listening: Some(listening),
        }
    }

    /// Returns the value of `HTTPS_PROXY`.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns every requested host and port, once.
    pub(super) fn hosts(&self) -> Vec<String> {
        let mut hosts = self.asked_for.lock().unwrap().clone();
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // This wakes the listener.
        let _ = TcpStream::connect(self.address);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

/// Copies bytes both ways. Errors are ignored: the agent reports a cut connection.
fn serve(mut client: TcpStream, target: SocketAddr, asked_for: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).ok()?;
    let host = head.strip_prefix("CONNECT ")?.split(' ').next()?;
    asked_for.lock().unwrap().push(host.to_owned());
    let server = TcpStream::connect(target).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (there, back) = (client.try_clone().ok()?, server.try_clone().ok()?);
    let pump = std::thread::spawn(move || pass(there, server));
    pass(back, client);
    pump.join().ok()
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
