//! Answers whose frames are unusual: interim ones, chunks with extensions and trailers, refusals before all was sent.

use super::*;

#[tokio::test]
async fn interim_answers_and_trailers_are_read_over_and_the_connection_is_used_again() {
    let chunked = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let reply = format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n{chunked}{:x};e=1\r\n\
         {ANSWER}\r\n0\r\nChecksum: 1\r\n\r\n",
        ANSWER.len()
    );
    let (target, heard) = server(move |_, _| Reply::Keep(reply.clone())).await;
    let mut link = open(&target).await;
    for number in 0..3 {
        link.put(call(number, MODERN));
        assert_eq!(next(&mut link).await, (Some(number), Ok(ANSWER.into())));
    }
    assert_eq!(heard.lock().unwrap().len(), 3);
}

/// It answers when it has seen the head, and reads nothing more: who first sends all would wait for ever.
#[tokio::test]
async fn a_refusal_before_all_was_sent_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("its address"));
    let (mut link, large) = (open(&Target::Http { url, headers: vec![], ca_file: None }).await, vec![b' '; 32 << 20]);
    link.put(Outgoing { text: &large, ..call(1, MODERN) });
    let (server, (on, came)) = tokio::join!(
        async {
            let mut socket = listener.accept().await.expect("a connection").0;
            socket.read_buf(&mut Vec::with_capacity(1 << 10)).await.expect("a head");
            let refusal = "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
            socket.write_all(refusal.as_bytes()).await.expect("sent");
            socket
        },
        next(&mut link)
    );
    assert_eq!((on, came.unwrap_err().status), (Some(1), Some(413)));
    drop(server);
    // What follows cannot go behind half a request.
    link.put(call(2, MODERN));
    let again = async { drop(listener.accept().await.expect("another connection")) };
    let ((), (on, came)) = tokio::join!(again, next(&mut link));
    assert_eq!((on, came.unwrap_err().kind), (Some(2), TroubleKind::Lost));
}
