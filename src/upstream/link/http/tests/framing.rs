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

/// It answers when it has seen the head, and goes on when it has the rest.
#[tokio::test]
async fn what_was_not_sent_before_the_head_of_an_answer_is_sent_behind_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("its address"));
    let (mut link, large) = (open(&Target::Http { url, headers: vec![], ca_file: None }).await, vec![b' '; 32 << 20]);
    link.put(Outgoing { text: &large, ..call(1, MODERN) });
    let server = async {
        let mut socket = listener.accept().await.expect("a connection").0;
        let mut bytes = Vec::with_capacity(1 << 10);
        socket.read_buf(&mut bytes).await.expect("a head");
        socket.write_all(events("").as_bytes()).await.expect("sent");
        while bytes.len() < large.len() {
            socket.read_buf(&mut bytes).await.expect("the rest");
        }
        socket.write_all(format!("data: {ANSWER}\n\n").as_bytes()).await.expect("sent");
    };
    let ((), came) = tokio::join!(server, next(&mut link));
    assert_eq!(came, (Some(1), Ok(ANSWER.into())));
}

#[tokio::test]
async fn heads_without_an_end_fail_their_request() {
    for pours in ["\r\n", "HTTP/1.1 102 Processing\r\n\r\n", "HTTP/1.1 200 OK\r\nx: y\r\n"] {
        let trouble = trouble(&pours.repeat(64 << 10)).await;
        assert_eq!(trouble.kind, TroubleKind::Garbage, "{trouble}");
    }
}
