use std::net::Ipv4Addr;

use axum::body::{Body, Bytes};
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::*;

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bounds that no test meets by chance.
const WIDE: Bounds = Bounds { connections_max: 8, idle_time_max: PATIENCE, head_time_max: PATIENCE };

/// Tells when it is dropped.
struct Guard(Arc<Notify>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A port with the paths `/` (answers at once), `/slow` (when told) and `/endless` (with no end).
struct Port {
    address: SocketAddr,
    /// `/slow` is being answered.
    slow_begun: Arc<Notify>,
    /// `/slow` may answer.
    slow_may_end: Arc<Notify>,
    /// The answer of `/endless` was given up.
    endless_ended: Arc<Notify>,
}

impl Port {
    async fn open(bounds: Bounds) -> Self {
        let [slow_begun, slow_may_end, endless_ended] = std::array::from_fn(|_| Arc::new(Notify::new()));
        let (begun, may_end) = (Arc::clone(&slow_begun), Arc::clone(&slow_may_end));
        let slow = async move || {
            begun.notify_one();
            may_end.notified().await;
            "late"
        };
        let ended = Arc::clone(&endless_ended);
        let endless = async move || {
            let guard = Guard(ended);
            Body::from_stream(futures::stream::repeat_with(move || {
                let _held = &guard;
                Ok::<_, io::Error>(Bytes::from_static(&[b' '; 64 << 10]))
            }))
        };
        let router = Router::new()
            .route("/", get(async || "at once"))
            .route("/slow", get(slow))
            .route("/endless", get(endless));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(
            async move { axum::serve(BoundedListener::new(listener, bounds), service(router)).await },
        );
        Self { address, slow_begun, slow_may_end, endless_ended }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

async fn send(stream: &mut TcpStream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n").as_bytes()).await.unwrap();
}

/// Reads an answer up to `end`.
async fn receive(stream: &mut TcpStream, end: &str) {
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("an answer comes").unwrap();
        assert!(read > 0, "the connection has ended after {:?}", String::from_utf8_lossy(&answer));
    }
}

async fn ask(stream: &mut TcpStream) {
    send(stream, "/").await;
    receive(stream, "at once").await;
}

/// Waits until the port has closed `stream`.
async fn wait_for_end(stream: &mut TcpStream) {
    let read = timeout(PATIENCE, stream.read_u8()).await.expect("it is closed");
    assert!(read.is_err(), "a byte came instead of the end");
}

#[tokio::test]
async fn a_head_has_a_time_from_its_first_byte() {
    let head_time_max = Duration::from_millis(300);
    let port = Port::open(Bounds { head_time_max, ..WIDE }).await;
    let mut silent = port.connect().await;
    let mut answered = port.connect().await;
    ask(&mut answered).await;

    let mut slow = port.connect().await;
    let begun = Instant::now();
    slow.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    let trickle = async {
        while slow.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE / 2, trickle).await.expect("bytes that keep coming do not put the end off");
    assert!(begun.elapsed() >= head_time_max);

    // Those who wait with nothing begun are not concerned.
    ask(&mut answered).await;
    ask(&mut silent).await;
}

#[tokio::test]
async fn the_idlest_connection_makes_room() {
    let port = Port::open(Bounds { connections_max: 2, ..WIDE }).await;
    let mut first = port.connect().await;
    ask(&mut first).await;
    let mut second = port.connect().await;
    ask(&mut second).await;
    ask(&mut first).await;

    let mut third = port.connect().await;
    ask(&mut third).await;
    wait_for_end(&mut second).await;
    ask(&mut first).await;
    ask(&mut third).await;
}

#[tokio::test]
async fn a_request_that_is_being_answered_makes_no_room() {
    let port = Port::open(Bounds { connections_max: 1, ..WIDE }).await;
    let mut first = port.connect().await;
    send(&mut first, "/slow").await;
    port.slow_begun.notified().await;

    let mut second = port.connect().await;
    send(&mut second, "/").await;
    assert!(timeout(CLOSE_PAUSE * 3, second.read_u8()).await.is_err(), "nothing makes room");

    port.slow_may_end.notify_one();
    receive(&mut first, "late").await;
    receive(&mut second, "at once").await;
    wait_for_end(&mut first).await;
}

#[tokio::test]
async fn whoever_does_not_read_answers_makes_room() {
    let port = Port::open(Bounds { connections_max: 1, ..WIDE }).await;
    let mut first = port.connect().await;
    send(&mut first, "/endless").await;
    // A connection whose request is not read yet is closed as well, and nothing of its answer begun.
    first.read_u8().await.unwrap();
    let mut second = port.connect().await;
    ask(&mut second).await;
    timeout(PATIENCE, port.endless_ended.notified()).await.expect("the answer is given up");
}

#[tokio::test]
async fn silence_and_an_answer_that_is_not_read_end_a_connection() {
    let port = Port::open(Bounds { idle_time_max: Duration::from_millis(300), ..WIDE }).await;
    let mut silent = port.connect().await;
    wait_for_end(&mut silent).await;

    let mut reader = port.connect().await;
    send(&mut reader, "/endless").await;
    timeout(PATIENCE, port.endless_ended.notified()).await.expect("the answer is given up");
}
