//! Frames in both roles, cut anywhere, and each rule broken.

use super::*;
use proptest::prelude::*;

const RULES: Rules = Rules { role: Role::Server, frame_bytes_max: 70_000, message_bytes_max: 100_000 };
const CLIENT: Rules = Rules { role: Role::Client, ..RULES };
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame that borrows nothing.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Whole(Content, Vec<u8>),
    Piece(Content, Vec<u8>, bool),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Frame<'_>> for Seen {
    fn from(frame: Frame<'_>) -> Self {
        match frame {
            Frame::Text(text) => Self::Whole(Content::Text, text.into()),
            Frame::Binary(bytes) => Self::Whole(Content::Binary, bytes.into()),
            Frame::Piece { content, bytes, last } => Self::Piece(content, bytes.into(), last),
            Frame::Ping(bytes) => Self::Ping(bytes.into()),
            Frame::Pong(bytes) => Self::Pong(bytes.into()),
            Frame::Close(closing) => Self::Close(closing.map(|closing| (closing.code, closing.reason.to_owned()))),
        }
    }
}

/// Everything that is read from `chunks`, arriving one after another, up to a violation.
fn read(chunks: &[&[u8]], rules: &Rules) -> (Vec<Seen>, Option<Violation>) {
    let (mut decoder, mut buf, mut seen) = (Decoder::default(), Vec::new(), Vec::new());
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut buf, rules) {
                Ok(Step::Frame { frame, consumed }) => {
                    seen.push(frame.into());
                    buf.drain(..consumed);
                }
                Ok(Step::More { total }) => {
                    assert!(total > buf.len(), "asks for {total} and has {}", buf.len());
                    break;
                }
                Err(violation) => return (seen, Some(violation)),
            }
        }
    }
    (seen, None)
}

fn masked(opcode: Opcode, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_masked(&mut out, opcode, last, payload, KEY);
    out
}

/// What a lone frame of that many payload bytes, all `a`, is refused for.
fn refused(frame: &[u8]) -> Violation {
    let (seen, violation) = read(&[frame], &RULES);
    assert_eq!(seen, []);
    violation.unwrap()
}

#[test]
fn reads_the_examples_of_rfc_6455_section_5_7() {
    let hello = Seen::Whole(Content::Text, b"Hello".to_vec());
    assert_eq!(read(&[b"\x81\x05Hello"], &CLIENT), (vec![hello.clone()], None));
    let frame = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(read(&[frame], &RULES), (vec![hello], None));
    assert_eq!(masked(Opcode::Text, true, b"Hello"), frame);
    let pieces = |text: &[u8], last| Seen::Piece(Content::Text, text.to_vec(), last);
    assert_eq!(read(&[b"\x01\x03Hel\x80\x02lo"], &CLIENT).0, [pieces(b"Hel", false), pieces(b"lo", true)]);
    assert_eq!(read(&[b"\x89\x05Hello"], &CLIENT).0, [Seen::Ping(b"Hello".to_vec())]);
    assert_eq!(read(&[b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"], &RULES).0, [Seen::Pong(b"Hello".to_vec())]);
    let mut long = b"\x82\x7e\x01\x00".to_vec();
    long.extend([7; 256]);
    assert_eq!(read(&[&long], &CLIENT).0, [Seen::Whole(Content::Binary, vec![7; 256])]);
    let mut longer = b"\x82\x7f\0\0\0\0\0\x01\0\0".to_vec();
    longer.extend([7; 65_536]);
    assert_eq!(read(&[&longer], &CLIENT).0, [Seen::Whole(Content::Binary, vec![7; 65_536])]);
}

#[test]
fn every_violation_is_told_from_the_header_alone() {
    for (frame, violation) in [
        (&b"\xc1\x80"[..], Violation::ReservedBits),
        (b"\x91\x80", Violation::ReservedBits),
        (b"\x83\x80", Violation::ReservedOpcode),
        (b"\x8b\x80", Violation::ReservedOpcode),
        (b"\x09\x80", Violation::ControlFragmented),
        (b"\x89\xfe", Violation::ControlTooLong),
        (b"\x88\xff", Violation::ControlTooLong),
        (b"\x81\x05", Violation::MaskMissing),
        (b"\x81\xfe\x00\x7d", Violation::LengthInvalid),
        (b"\x81\xff\0\0\0\0\0\0\xff\xff", Violation::LengthInvalid),
        (b"\x81\xff\x80\0\0\0\0\0\0\0", Violation::LengthInvalid),
        (b"\x80\x81\0\0\0\0", Violation::ContinuationUnexpected),
        (b"\x81\xff\0\0\0\0\0\x01\x11\x71\0\0\0\0", Violation::FrameTooBig),
        (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", Violation::FrameTooBig),
    ] {
        assert_eq!(refused(frame), violation, "{frame:?}");
    }
    assert_eq!(read(&[b"\x81\x80"], &CLIENT).1, Some(Violation::MaskUnexpected));
    let begun = masked(Opcode::Text, false, b"a");
    assert_eq!(read(&[&begun, b"\x81\x81\0\0\0\0"], &RULES).1, Some(Violation::ContinuationMissing));
}

#[test]
fn a_message_has_a_limit_with_all_its_fragments() {
    let first = masked(Opcode::Binary, false, &[1; 60_000]);
    let fits = masked(Opcode::Continuation, true, &[1; 40_000]);
    let over = masked(Opcode::Continuation, true, &[1; 40_001]);
    assert_eq!(read(&[&first, &fits, &first, &fits], &RULES).1, None);
    assert_eq!(read(&[&first, &over[..8]], &RULES).1, Some(Violation::MessageTooBig));
    assert_eq!(Violation::MessageTooBig.close_code(), 1009);
}

#[test]
fn control_frames_come_between_fragments() {
    let stream = [
        masked(Opcode::Text, false, b"a\xc3"),
        masked(Opcode::Ping, true, b"p"),
        masked(Opcode::Continuation, false, b""),
        masked(Opcode::Continuation, true, b"\xa9b"),
        masked(Opcode::Text, true, b"next"),
    ]
    .concat();
    let (seen, violation) = read(&[&stream], &RULES);
    let piece = |bytes: &[u8], last| Seen::Piece(Content::Text, bytes.to_vec(), last);
    assert_eq!(violation, None);
    assert_eq!(
        seen,
        [
            piece(b"a\xc3", false),
            Seen::Ping(b"p".to_vec()),
            piece(b"", false),
            piece(b"\xa9b", true),
            Seen::Whole(Content::Text, b"next".to_vec()),
        ]
    );
}

#[test]
fn text_fails_as_soon_as_it_is_no_utf8() {
    let text = |last, bytes: &[u8]| masked(Opcode::Text, last, bytes);
    assert_eq!(refused(&text(true, b"a\xff")), Violation::TextNotUtf8);
    assert_eq!(refused(&text(true, b"a\xc3")), Violation::TextNotUtf8);
    assert_eq!(refused(&text(false, b"\xed\xa0")), Violation::TextNotUtf8);
    let mut cut = text(false, b"\xf0\x9f");
    cut.extend(masked(Opcode::Continuation, false, b"\x98"));
    cut.extend(masked(Opcode::Continuation, true, b"a"));
    let (seen, violation) = read(&[&cut], &RULES);
    assert_eq!((seen.len(), violation), (2, Some(Violation::TextNotUtf8)));
    assert_eq!(Violation::TextNotUtf8.close_code(), 1007);
    // Binary is not looked at, in fragments or whole.
    assert_eq!(
        read(&[&masked(Opcode::Binary, false, b"\xff"), &masked(Opcode::Continuation, true, b"\xff")], &RULES).1,
        None
    );
}

#[test]
fn close_frames_are_checked() {
    let close = |payload: &[u8]| read(&[&masked(Opcode::Close, true, payload)], &RULES);
    assert_eq!(close(b""), (vec![Seen::Close(None)], None));
    assert_eq!(close(b"\x03\xe8bye").0, [Seen::Close(Some((1000, "bye".to_owned())))]);
    assert_eq!(close(b"\x03").1, Some(Violation::CloseTooShort));
    assert_eq!(close(b"\x03\xe8\xff").1, Some(Violation::ReasonNotUtf8));
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        assert_eq!(close(&code.to_be_bytes()).1, Some(Violation::CloseCodeInvalid), "{code}");
    }
    for code in [1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        assert_eq!(close(&code.to_be_bytes()).1, None, "{code}");
    }
    for violation in Violation::ALL {
        assert!(close::is_valid(violation.close_code()));
    }
}

#[test]
fn a_payload_written_first_gets_its_header_at_every_length() {
    for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
        let (mut placed, mut whole) = (b"before".to_vec(), b"before".to_vec());
        let open = open_frame(&mut placed);
        placed.extend(std::iter::repeat_n(b'x', length));
        seal_frame(&mut placed, open, Opcode::Text);
        write_frame(&mut whole, Opcode::Text, &vec![b'x'; length]);
        assert!(placed == whole, "{length}");
        assert_eq!(read(&[&placed[6..]], &CLIENT), (vec![Seen::Whole(Content::Text, vec![b'x'; length])], None));
    }
    let mut out = b"before".to_vec();
    let open = open_frame(&mut out);
    out.extend_from_slice(b"half an answer");
    discard_frame(&mut out, open);
    assert_eq!(out, b"before");
}

#[test]
fn a_close_reason_is_cut_at_a_character() {
    let mut out = Vec::new();
    write_close(&mut out, close::POLICY, &"é".repeat(100));
    assert_eq!(read(&[&out], &CLIENT), (vec![Seen::Close(Some((1008, "é".repeat(61))))], None));
}

#[test]
fn masking_holds_at_every_length() {
    for length in 0..40_usize {
        let plain: Vec<u8> = (0..length as u8).collect();
        let mut masked = plain.clone();
        decode::mask(&mut masked, KEY);
        let expected: Vec<u8> = plain.iter().enumerate().map(|(at, byte)| byte ^ KEY[at % 4]).collect();
        assert_eq!(masked, expected);
    }
}

/// A client's stream: mostly sound frames, some of them cut up, some garbage.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        "[a-zé😀]{0,40}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..20),
        (120_usize..140).prop_map(|length| vec![b'x'; length]),
    ];
    let opcode = prop_oneof![
        3 => Just(Opcode::Text), 1 => Just(Opcode::Binary), 3 => Just(Opcode::Continuation), 1 => Just(Opcode::Ping),
        1 => Just(Opcode::Close),
    ];
    let frame = (opcode, any::<bool>(), payload).prop_map(|(opcode, last, payload)| masked(opcode, last, &payload));
    let part = prop_oneof![9 => frame, 1 => proptest::collection::vec(any::<u8>(), 0..4)];
    proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_same_frames(bytes in stream(), cuts in proptest::collection::vec(0_usize..400, 0..12)) {
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let chunks: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let single: Vec<_> = bytes.chunks(1).collect();
        let whole = read(&[&bytes], &RULES);
        prop_assert_eq!(&read(&chunks, &RULES), &whole);
        prop_assert_eq!(&read(&single, &RULES), &whole);
    }

    #[test]
    fn text_in_pieces_is_checked_as_text_in_one(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xf0), Just(0x9f), Just(0x98), Just(0x80)], 0..12), cuts in proptest::collection::vec(0_usize..12, 0..6)) {
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut utf8 = utf8::Utf8::default();
        let mut fine = cuts.windows(2).all(|cut| utf8.push(&bytes[cut[0]..cut[1]], false));
        fine = fine && utf8.push(b"", true);
        prop_assert_eq!(fine, std::str::from_utf8(&bytes).is_ok());
    }
}
