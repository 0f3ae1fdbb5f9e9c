//! What the guest sends: bytes on a port, until the token that ends its data.

use std::io::{self, Read};
use std::sync::mpsc::SyncSender;

/// Where bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// The command's stdout.
    Stdout,
    /// The command's stderr.
    Stderr,
    /// The guest's progress, as lines.
    Status,
    /// The tar of /out.
    Out,
    /// The serial console: the kernel's log.
    Log,
    /// QEMU's own messages.
    Qemu,
}

/// What a reader thread tells.
#[derive(Debug)]
pub(crate) enum Event {
    /// Bytes came, in order.
    Bytes(Stream, Vec<u8>),
    /// The token came: the stream is complete.
    End(Stream),
}

/// Passes on what comes until end of file; what follows the token is dropped.
///
/// Ends early when nobody listens any more.
pub(crate) fn forward(
    stream: Stream,
    mut source: impl Read,
    token: &[u8],
    events: &SyncSender<Event>,
) {
    let mut splitter = Splitter::new(token);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        if splitter.ended {
            continue;
        }
        let ready = splitter.push(&buffer[..length]);
        if !ready.is_empty() && events.send(Event::Bytes(stream, ready)).is_err() {
            return;
        }
        if splitter.ended && events.send(Event::End(stream)).is_err() {
            return;
        }
    }
    if !splitter.ended {
        // Cut off: what looked like the token's start was data.
        let _ = events.send(Event::Bytes(stream, splitter.held));
    }
}

/// Finds the token in a stream that comes in pieces.
#[derive(Debug)]
struct Splitter<'a> {
    token: &'a [u8],
    /// The end of what came so far, if it may be the token's start.
    held: Vec<u8>,
    ended: bool,
}

impl<'a> Splitter<'a> {
    fn new(token: &'a [u8]) -> Self {
        Self {
            token,
            held: Vec::new(),
            ended: false,
        }
    }

    /// Returns the bytes that are certainly data.
    fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut data = std::mem::take(&mut self.held);
        data.extend_from_slice(piece);
        let first = self.token.first().copied();
        let mut at = 0;
        while let Some(step) = data[at..].iter().position(|byte| Some(*byte) == first) {
            at += step;
            let rest = &data[at..];
            if rest.starts_with(self.token) {
                self.ended = true;
                data.truncate(at);
                return data;
            }
            if self.token.starts_with(rest) {
                self.held = data.split_off(at);
                return data;
            }
            at += 1;
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&str]) -> (String, bool) {
        let mut splitter = Splitter::new(b"aab");
        let mut data = Vec::new();
        for piece in pieces {
            data.extend(splitter.push(piece.as_bytes()));
        }
        (String::from_utf8(data).unwrap(), splitter.ended)
    }

    #[test]
    fn the_token_is_found_however_it_is_cut() {
        assert_eq!(split(&["xyaab"]), ("xy".into(), true));
        assert_eq!(split(&["x", "a", "a", "b"]), ("x".into(), true));
        assert_eq!(split(&["aa", "ab"]), ("a".into(), true));
        assert_eq!(split(&["aac", "a", "c"]), ("aacac".into(), false));
        assert_eq!(split(&["xaa"]), ("x".into(), false));
    }

    #[test]
    fn events_of_a_whole_stream() {
        let (sender, events) = std::sync::mpsc::sync_channel(8);
        forward(
            Stream::Stdout,
            &b"\x00\xffdataTOKENrest"[..],
            b"TOKEN",
            &sender,
        );
        forward(Stream::Log, &b"log TOK"[..], b"TOKEN", &sender);
        drop(sender);
        let mut seen = Vec::new();
        for event in events {
            match event {
                Event::Bytes(_, bytes) => seen.push(bytes),
                Event::End(stream) => assert_eq!(stream, Stream::Stdout),
            }
        }
        assert_eq!(seen, [&b"\x00\xffdata"[..], b"log ", b"TOK"]);
    }
}
