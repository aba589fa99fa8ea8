//! What two gateways tell each other when one takes the listening sockets over from the other: a byte at a time, some with a
//! socket (`SCM_RIGHTS`, unix(7)).
//!
//! ```text
//! the running one                              its successor
//! VERSION                                  ->
//! CLIENTS or KEPT, each with a socket      ->
//! ADMIN with a socket                      ->
//! ALL                                      ->  starts wholly; ends, if it cannot
//!                                          <-  READY: it takes newcomers
//! LEFT, and drains                         ->  offers the sockets in its turn
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv,
    recvmsg, sendmsg, sockopt,
};
use rustix::process::geteuid;

/// Of this conversation: a successor of another one starts in another way.
pub(super) const VERSION: u8 = b'1';
/// A socket that clients connect to.
pub(super) const CLIENTS: u8 = b'c';
/// The same, held by systemd besides, for longer than any gateway lives.
pub(super) const KEPT: u8 = b'k';
/// The operator's port.
pub(super) const ADMIN: u8 = b'a';
/// That was all.
pub(super) const ALL: u8 = b'.';
/// The successor takes newcomers.
pub(super) const READY: u8 = b'r';
/// The one before does not, any more.
pub(super) const LEFT: u8 = b'l';

/// Sends one byte, and a socket with it.
///
/// # Errors
/// When the other one is gone, or does not read.
pub(super) fn send(to: &UnixStream, word: u8, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets: Vec<BorrowedFd<'_>> = socket.into_iter().collect();
    if !sockets.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&sockets));
    }
    sendmsg(to, &[IoSlice::new(&[word])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next byte, and the socket that came with it.
///
/// # Errors
/// When the other one is gone, or says nothing within the stream's timeout.
pub(super) fn receive(from: &UnixStream) -> io::Result<(u8, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut word = [0];
    let taken = recvmsg(from, &mut [IoSliceMut::new(&mut word)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if taken.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    Ok((word[0], sockets.flatten().next()))
}

/// Whether the other end is closed, and has said no more.
pub(super) fn is_gone(peer: &UnixStream) -> bool {
    let mut byte = [0];
    match recv(peer, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, bytes)) => bytes == 0,
        Err(error) => error != Errno::AGAIN && error != Errno::INTR,
    }
}

/// Whether the process at the other end may have our sockets, or give us some: it is of our user, or of root.
///
/// # Errors
/// When the kernel does not tell.
pub(super) fn is_one_of_us(peer: &impl AsFd) -> io::Result<bool> {
    let peer = sockopt::socket_peercred(peer)?;
    Ok(peer.uid == geteuid() || peer.uid.is_root())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_socket_crosses_with_its_word_and_serves_at_the_other_end() {
        let (one, other) = UnixStream::pair().expect("a pair");
        let door = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let addr = door.local_addr().expect("an address");
        send(&one, VERSION, None).expect("sent");
        send(&one, CLIENTS, Some(door.as_fd())).expect("sent");
        send(&one, ALL, None).expect("sent");
        drop((one, door));
        assert!(matches!(receive(&other), Ok((VERSION, None))));
        let Ok((CLIENTS, Some(socket))) = receive(&other) else { panic!("a socket") };
        assert!(matches!(receive(&other), Ok((ALL, None))));
        assert!(receive(&other).is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof));
        let client = TcpStream::connect(addr).expect("somebody listens");
        let (_, from) = TcpListener::from(socket).accept().expect("a client");
        assert_eq!(client.local_addr().ok(), Some(from));
    }

    #[test]
    fn one_that_is_gone_is_known_and_one_that_is_silent_is_not_gone() {
        let (one, other) = UnixStream::pair().expect("a pair");
        assert!(!is_gone(&one));
        send(&other, READY, None).expect("sent");
        drop(other);
        assert!(!is_gone(&one), "it has said something before");
        assert!(matches!(receive(&one), Ok((READY, None))));
        assert!(is_gone(&one));
    }

    #[test]
    fn our_own_user_is_one_of_us() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        assert!(is_one_of_us(&one).expect("the kernel tells"));
    }
}
