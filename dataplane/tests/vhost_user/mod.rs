//! As much of a vhost-user back-end as the front-end of the `virtio-driver` crate talks to: features,
//! memory regions, and where one virtqueue lies.

#![allow(unreachable_pub)]

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use pollux_dataplane::mem::{Access, Iova, Mapping, Region, RegionTable};
use pollux_dataplane::ring::{QueueConfig, RingFeatures};
use pollux_dataplane::worker::QueueSetup;
use virtio_driver::ScmSocket;

/// What every front-end asks for first.
const PROTOCOL_FEATURES: u64 = 1 << 30;
/// REPLY_ACK, CONFIG and CONFIGURE_MEM_SLOTS.
const OFFERED_PROTOCOL: u64 = 1 << 3 | 1 << 9 | 1 << 15;

const HEADER_BYTES: usize = 12;
const FLAG_REPLY: u32 = 1 << 2;
const FLAG_NEED_REPLY: u32 = 1 << 3;

/// A message and the descriptor that came with it.
struct Message {
    request: u32,
    flags: u32,
    payload: Vec<u8>,
    file: Option<File>,
}

impl Message {
    /// Returns the next message; `None` when the front-end is gone.
    fn receive(stream: &UnixStream) -> io::Result<Option<Self>> {
        let mut header = [0; HEADER_BYTES];
        let (bytes, file) = stream.recv_with_fd(&mut header)?;
        if bytes == 0 {
            return Ok(None);
        }
        assert_eq!(bytes, HEADER_BYTES, "a header comes in one piece");
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let mut payload = vec![0; word(8) as usize];
        io::Read::read_exact(&mut &*stream, &mut payload)?;
        Ok(Some(Self {
            request: word(0),
            flags: word(4),
            payload,
            file,
        }))
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.payload[at..at + 8].try_into().unwrap())
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    fn reply(&self, stream: &UnixStream, payload: &[u8]) -> io::Result<()> {
        let flags = 1 | FLAG_REPLY;
        let words = [self.request, flags, payload.len() as u32];
        let header = words.map(u32::to_le_bytes).concat();
        (&mut &*stream).write_all(&[&header, payload].concat())
    }
}

/// A back-end with one queue that waits for its front-end.
pub struct BackEnd {
    thread: JoinHandle<()>,
    enabled: Receiver<QueueSetup>,
}

impl BackEnd {
    /// Listens at `listener` and offers `features`.
    pub fn start(listener: UnixListener, features: u64) -> Self {
        let (sender, enabled) = channel();
        let answer = move || {
            let (stream, _) = listener.accept().unwrap();
            let state = State {
                offered: features | PROTOCOL_FEATURES,
                regions: Vec::new(),
                queue: QueueConfig {
                    size: 0,
                    descriptor_area: Iova(0),
                    driver_area: Iova(0),
                    device_area: Iova(0),
                    next_avail: 0,
                    next_used: 0,
                    features: RingFeatures::empty(),
                },
                enabled: sender,
            };
            state.serve(&stream).unwrap();
        };
        Self {
            thread: std::thread::spawn(answer),
            enabled,
        }
    }

    /// Returns the queue, once the front-end has enabled it.
    pub fn queue(&self) -> QueueSetup {
        self.enabled
            .recv()
            .expect("the front-end enables its queue")
    }

    /// Waits for the front-end to hang up.
    pub fn end(self) {
        self.thread.join().unwrap();
    }
}

struct State {
    offered: u64,
    regions: Vec<Region>,
    queue: QueueConfig,
    enabled: Sender<QueueSetup>,
}

impl State {
    fn serve(mut self, stream: &UnixStream) -> io::Result<()> {
        while let Some(mut message) = Message::receive(stream)? {
            match self.handle(&mut message) {
                Some(answer) => message.reply(stream, &answer.to_le_bytes())?,
                None if message.flags & FLAG_NEED_REPLY != 0 => {
                    message.reply(stream, &0_u64.to_le_bytes())?;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Returns the answer of a request that has one.
    fn handle(&mut self, message: &mut Message) -> Option<u64> {
        match message.request {
            // GET_FEATURES, GET_PROTOCOL_FEATURES, GET_MAX_MEM_SLOTS
            1 => return Some(self.offered),
            15 => return Some(OFFERED_PROTOCOL),
            36 => return Some(8),
            // SET_FEATURES
            2 => {
                let accepted = message.u64_at(0);
                self.queue.features = RingFeatures::from_bits_truncate(accepted);
                if self.queue.features.contains(RingFeatures::RING_PACKED) {
                    self.queue.next_avail = 1 << 15;
                    self.queue.next_used = 1 << 15;
                }
            }
            // SET_VRING_NUM
            8 => self.queue.size = message.u32_at(4) as u16,
            // SET_VRING_ADDR; addresses of the front-end's, which are also those it puts into descriptors.
            9 => {
                self.queue.descriptor_area = Iova(message.u64_at(8));
                self.queue.device_area = Iova(message.u64_at(16));
                self.queue.driver_area = Iova(message.u64_at(24));
            }
            // ADD_MEM_REG
            37 => self.add_region(message),
            // SET_VRING_ENABLE
            18 => {
                let table = Arc::new(RegionTable::new(self.regions.clone()).unwrap());
                let queue = self.queue;
                self.enabled
                    .send(QueueSetup {
                        queue,
                        table,
                        write_through: false,
                    })
                    .unwrap();
            }
            // SET_OWNER, SET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL, SET_PROTOCOL_FEATURES
            3 | 10 | 12 | 13 | 16 => {}
            unknown => panic!("vhost-user request {unknown}"),
        }
        None
    }

    fn add_region(&mut self, message: &mut Message) {
        let (first, bytes) = (message.u64_at(8), message.u64_at(16));
        let offset = message.u64_at(32);
        let file = message.file.take().expect("a region comes with its file");
        let mapping = Mapping::new(file.into(), offset, bytes, Access::ReadWrite).unwrap();
        self.regions.push(Region {
            first: Iova(first),
            last: Iova(first + bytes - 1),
            mapping: Arc::new(mapping),
        });
    }
}
