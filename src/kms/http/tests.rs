use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server of one connection: reads a request's head, writes `answer` and hangs up. Gives the head back.
async fn serve(answer: &'static [u8]) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let head = read_head(&mut stream).await;
        stream.write_all(answer).await.expect("written");
        stream.shutdown().await.expect("closed");
        head
    });
    (address, task)
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(head).expect("text")
}

fn plain() -> ReqwestSend {
    ReqwestSend::new(ClientProfile {
        roots: Roots::None,
        proxy: None,
        connect_timeout: PATIENCE,
        post_quantum: true,
    })
}

fn get(address: SocketAddr) -> HttpRequest {
    HttpRequest::get(
        format!("http://{address}/path?name=hunter2"),
        PATIENCE,
        1000,
    )
}

async fn failure(answer: &'static [u8]) -> HttpError {
    let (address, server) = serve(answer).await;
    let error = plain().send(get(address)).await.expect_err("a failure");
    server.await.expect("no panic");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    error
}

#[tokio::test]
async fn a_request_is_sent_as_it_is_and_says_who_sends_it() {
    let (address, server) =
        serve(b"HTTP/1.1 418 X\r\nX-Acs-Retry-After: 5\r\nContent-Length: 2\r\n\r\nok").await;
    let mut request = get(address);
    request.method = Method::Post;
    request
        .headers
        .push(("x-acs-date", Zeroizing::new("now".to_owned())));
    request
        .headers
        .push(("host", Zeroizing::new("kms.example.com:8443".to_owned())));
    let response = plain().send(request).await.expect("an answer");
    assert_eq!(response.status, 418);
    assert_eq!(response.header("x-acs-retry-after"), Some("5"));
    assert_eq!(*response.body, b"ok");
    let head = server.await.expect("no panic").to_lowercase();
    assert!(head.starts_with("post /path?name=hunter2 http/1.1\r\n"));
    for line in [
        "\r\nhost: kms.example.com:8443\r\n",
        "\r\nx-acs-date: now\r\n",
        "\r\ncontent-length: 0\r\n",
        "\r\nuser-agent: alibabacloud-kms-agent/",
    ] {
        assert!(head.contains(line), "{line} is not in {head}");
    }
    assert_eq!(head.matches("\r\nhost:").count(), 1);
    assert_eq!(head.matches("\r\ncontent-length:").count(), 1);
    assert!(!head.contains("accept-encoding"));
}

#[tokio::test]
async fn a_redirect_is_an_answer_like_any_other() {
    let (address, _server) =
        serve(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
            .await;
    let response = plain().send(get(address)).await.expect("an answer");
    assert_eq!(response.status, 302);
}

#[tokio::test]
async fn failures_are_told_apart() {
    for (answer, kind) in [
        (&b""[..], HttpErrorKind::Cut),
        (b"HTTP/1.1 200 OK\r\nContent-Le", HttpErrorKind::Cut),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
            HttpErrorKind::Cut,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
            HttpErrorKind::Garbled,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
            HttpErrorKind::Cut,
        ),
        (
            b"220 mail.example.com ESMTP\r\n\r\n",
            HttpErrorKind::Garbled,
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
            HttpErrorKind::TooLarge,
        ),
    ] {
        let error = failure(answer).await;
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_when_it_is_used_again_is_told_from_a_new_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    // Each connection has one answer in it, and ends at the next request; every third one has none.
    let server = tokio::spawn(async move {
        for answers in [1, 1, 0].into_iter().cycle() {
            let (mut stream, _) = listener.accept().await.expect("a client");
            for _ in 0..answers {
                read_head(&mut stream).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(answer).await.expect("written");
            }
            read_head(&mut stream).await;
        }
    });
    let client = plain();
    let mut kinds = Vec::new();
    for _ in 0..5 {
        let outcome = client.send(get(address)).await;
        kinds.push(outcome.err().map(|error| error.kind()));
    }
    let stale = Some(HttpErrorKind::Stale);
    assert_eq!(kinds, [None, stale, None, stale, Some(HttpErrorKind::Cut)]);
    server.abort();
}

#[tokio::test]
async fn a_closed_port_is_a_failed_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let error = plain().send(get(address)).await.expect_err("nobody");
    assert_eq!(error.kind(), HttpErrorKind::Connect, "{error}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_waited_for_as_long_as_the_request_says() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut request = get(listener.local_addr().expect("an address"));
    request.timeout = Duration::from_millis(50);
    let error = plain().send(request).await.expect_err("silence");
    assert_eq!(error.kind(), HttpErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn an_unusable_ca_file_is_named() {
    let empty = tempfile::NamedTempFile::new().expect("a file");
    for path in [empty.path(), std::path::Path::new("/no/such/ca.pem")] {
        let client = ReqwestSend::new(ClientProfile {
            roots: Roots::SystemAnd(path.to_owned()),
            proxy: None,
            connect_timeout: PATIENCE,
            post_quantum: true,
        });
        let request = HttpRequest::get("https://127.0.0.1:1/".to_owned(), PATIENCE, 1000);
        let error = client.send(request).await.expect_err("no anchors");
        assert_eq!(error.kind(), HttpErrorKind::Setup);
        let text = error.to_string();
        assert!(text.contains("KMS.CaFile") && text.contains(path.to_str().expect("a path")));
    }
}

#[tokio::test]
async fn a_proxy_is_asked_for_a_tunnel_and_never_named_with_its_password() {
    let (address, server) = serve(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").await;
    let url = format!("http://user:hunter2@{address}");
    let environment = [
        ("HTTPS_PROXY", url.as_str()),
        ("NO_PROXY", "other.example.com"),
    ]
    .into_iter()
    .collect();
    let proxy = ProxySettings::from_environment(&environment);
    assert!(!format!("{proxy:?}").contains("hunter2"));
    let ca = tempfile::NamedTempFile::new().expect("a file");
    let issued = rcgen::generate_simple_self_signed(["kms.example.com".to_owned()]).expect("a CA");
    std::io::Write::write_all(&mut ca.as_file(), issued.cert.pem().as_bytes()).expect("written");
    let client = ReqwestSend::new(ClientProfile {
        roots: Roots::SystemAnd(ca.path().to_owned()),
        proxy,
        connect_timeout: PATIENCE,
        post_quantum: true,
    });
    let request = HttpRequest::get("https://kms.example.com/".to_owned(), PATIENCE, 1000);
    let error = client.send(request).await.expect_err("no tunnel");
    assert_eq!(error.kind(), HttpErrorKind::Connect, "{error}");
    assert!(!error.to_string().contains("hunter2"));
    let head = server.await.expect("no panic");
    assert!(head.starts_with("CONNECT kms.example.com:443 "), "{head}");
}

#[test]
fn a_proxy_that_cannot_be_used_is_refused_without_being_quoted() {
    for url in ["socks5://user:hunter2@127.0.0.1", "http://[hunter2"] {
        let environment = [("https_proxy", url)].into_iter().collect();
        let settings = ProxySettings::from_environment(&environment).expect("a proxy");
        let error = settings.proxy().expect_err("unusable");
        assert_eq!(error.kind(), HttpErrorKind::Setup);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn an_idle_connection_does_not_stay_open() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await
            .expect("written");
        let mut rest = Vec::new();
        // The library's own pool keeps connections for a minute and a half.
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await
    });
    let client = plain();
    client.send(get(address)).await.expect("an answer");
    assert!(matches!(server.await.expect("no panic"), Ok(Ok(0))));
}
