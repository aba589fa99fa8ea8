//! Words that have no answer, beside requests that wait for one: neither holds the other up.

use super::*;

/// Or its call would wait for the reply, and the reply for the end of a call.
#[tokio::test]
async fn a_reply_goes_out_while_every_connection_waits_for_an_answer() {
    let (target, heard) = server(|request, _| {
        let is_reply = request.contains("the reply");
        if is_reply { Reply::Keep(accepted()) } else { Reply::Hold(events(": nothing yet\n\n")) }
    })
    .await;
    let mut link = open(&target).await;
    for number in 0..20 {
        link.put(call(number, MODERN));
    }
    let calls = link.unsent();
    assert!(calls > 0, "they wait for a connection");
    link.put(Outgoing { text: b"{\"id\":1,\"result\":\"the reply\"}", purpose: Purpose::Response });
    assert_eq!(link.unsent(), calls);
    let is_there = || heard.lock().expect("no panic").iter().any(|request| request.contains("the reply"));
    while !is_there() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn words_that_are_not_accepted_keep_no_request_waiting() {
    let is_word = |request: &str| request.contains("notifications/x");
    let (target, _) =
        server(
            move |request, _| {
                if is_word(request) { Reply::Hold(String::new()) } else { Reply::Keep(json("200 OK", ANSWER)) }
            },
        )
        .await;
    let mut link = open(&target).await;
    for _ in 0..100 {
        let purpose = Purpose::Notification { method: "notifications/x", revision: MODERN };
        link.put(Outgoing { text: b"{\"method\":\"notifications/x\"}", purpose });
    }
    for number in 0..50 {
        link.put(call(number, MODERN));
    }
    for _ in 0..50 {
        assert_eq!(next(&mut link).await.1, Ok(ANSWER.into()));
    }
}
