//! Whether a message is there as a whole: the crate `vhost` waits for the rest of one without a bound.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

const HEADER_BYTES: usize = 12;
/// What a message has behind its header, at most (MAX_MSG_SIZE of the crate).
const BODY_BYTES_MAX: usize = 0x1000;

/// How often it is looked for the rest.
const LOOK: Duration = Duration::from_millis(1);

/// Waits until the next message on `stream`, of which there is a part, is there as a whole, or the stream has ended.
///
/// # Errors
///
/// That it did not come within `time`, or what the system said.
pub(super) fn wait(stream: &UnixStream, time: Duration) -> io::Result<()> {
    let end = Instant::now() + time;
    let mut bytes = [0; HEADER_BYTES + BODY_BYTES_MAX];
    loop {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match recv(stream.as_raw_fd(), &mut bytes, flags) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Ok(count) if count > 0 && count < message_bytes(&bytes[..count]) => {}
            // The crate finds out that it has ended, or is too long.
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
        if has_hung_up(stream)? {
            return Ok(());
        }
        if Instant::now() >= end {
            let text = "the rest of a message did not come in time";
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        sleep(LOOK);
    }
}

/// Returns how long the message is that begins with `bytes`, as far as they tell.
fn message_bytes(bytes: &[u8]) -> usize {
    let size = bytes.get(8..HEADER_BYTES).and_then(|it| it.try_into().ok());
    let body = size.map_or(0, |size| u32::from_ne_bytes(size) as usize);
    HEADER_BYTES + if body > BODY_BYTES_MAX { 0 } else { body }
}

/// Returns whether nothing more will come.
fn has_hung_up(stream: &UnixStream) -> io::Result<bool> {
    let ended = PollFlags::from_bits_retain(libc::POLLRDHUP) | PollFlags::POLLHUP;
    let mut fds = [PollFd::new(stream.as_fd(), ended)];
    Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn a_part_is_waited_for_and_a_whole_is_not() {
        let (mut frontend, ours) = UnixStream::pair().unwrap();
        let header = [8_u32, 1, 8].map(u32::to_ne_bytes).concat();
        frontend.write_all(&header[..5]).unwrap();
        let late = wait(&ours, SHORT).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        frontend.write_all(&header[5..]).unwrap();
        assert!(wait(&ours, SHORT).is_err());
        frontend.write_all(&[0; 8]).unwrap();
        wait(&ours, SHORT).unwrap();
    }

    #[test]
    fn what_ends_or_is_too_long_is_left_to_the_crate() {
        let (mut frontend, ours) = UnixStream::pair().unwrap();
        frontend.write_all(&[1, 2, 3]).unwrap();
        drop(frontend);
        wait(&ours, SHORT).unwrap();
        let (mut frontend, ours) = UnixStream::pair().unwrap();
        let header = [8, 1, u32::MAX].map(u32::to_ne_bytes).concat();
        frontend.write_all(&header).unwrap();
        wait(&ours, SHORT).unwrap();
    }
}
