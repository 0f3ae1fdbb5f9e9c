//! The messages that the kernel sends to a device and the replies it waits for.
//!
//! Both directions are 152 bytes in the host's byte order; encoding and decoding are pure.

use crate::PackedState;
use crate::abi::{
    MESSAGE_SIZE, VDUSE_GET_VQ_STATE, VDUSE_REQ_RESULT_FAILED, VDUSE_REQ_RESULT_OK,
    VDUSE_SET_STATUS, VDUSE_SET_VQ_GROUP_ASID, VDUSE_SET_VQ_READY, VDUSE_SUSPEND,
    VDUSE_UPDATE_IOTLB, VduseDevRequest, VduseDevResponse, VduseIovaRangeV2, VduseVqGroupAsid,
    VduseVqReady,
};
use std::mem::offset_of;

const REQUEST_PAYLOAD: usize = offset_of!(VduseDevRequest, payload);
const RESPONSE_PAYLOAD: usize = offset_of!(VduseDevResponse, payload);

/// A message of the kernel. A kernel thread stands still until it is answered.
///
/// Decoding takes bytes and nothing else, so a device's handling of messages can be tested without one:
///
/// ```
/// use vduse::{Reply, Request, RequestKind, abi};
///
/// let mut bytes = [0; abi::MESSAGE_SIZE];
/// bytes[..4].copy_from_slice(&abi::VDUSE_SET_STATUS.to_ne_bytes());
/// bytes[4..8].copy_from_slice(&7_u32.to_ne_bytes());
/// let request = Request::decode(&bytes);
/// assert_eq!(request.id, 7);
/// assert_eq!(request.kind, RequestKind::SetStatus { status: 0 });
/// let answer = Reply::Ok.encode(&request);
/// assert_eq!(answer[..4], 7_u32.to_ne_bytes());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Identifies the message in its reply.
    pub id: u32,
    /// What is asked for.
    pub kind: RequestKind,
}

/// What the kernel asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestKind {
    /// Where a stopped virtqueue stands: answer [`Reply::SplitState`] or [`Reply::PackedState`].
    GetQueueState {
        /// The virtqueue.
        index: u32,
    },
    /// The driver writes the device status; 0 is a reset.
    SetStatus {
        /// The whole new value of the status.
        status: u8,
    },
    /// Mappings in this range changed: forget them before answering.
    UpdateIotlb {
        /// The address space; 0 with API version 0.
        asid: u32,
        /// First IOVA.
        start: u64,
        /// Last IOVA, inclusive.
        last: u64,
    },
    /// The driver gives a virtqueue group another address space (API version 1, before `DRIVER_OK`).
    SetGroupAsid {
        /// The group.
        group: u32,
        /// Its address space from now on.
        asid: u32,
    },
    /// The driver enables or disables a virtqueue ([`crate::ProtocolFeatures::QUEUE_READY`]).
    ///
    /// [`crate::QueueInfo::ready`] follows only after the answer, and interrupts before that are lost.
    /// [`Reply::Failed`] breaks the device.
    SetQueueReady {
        /// The virtqueue.
        index: u32,
        /// Whether it is enabled.
        ready: bool,
    },
    /// The device is to finish what it has taken and to take nothing more until its reset
    /// ([`crate::ProtocolFeatures::SUSPEND`]). From the answer on, the kernel drops its interrupts.
    Suspend,
    /// A message that this crate does not know: answer [`Reply::Failed`].
    Unknown {
        /// The kernel's number for it.
        kind: u32,
    },
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// Done.
    Ok,
    /// Refused.
    Failed,
    /// Done; the state of a split virtqueue.
    SplitState {
        /// The next available entry that the device would fetch.
        avail_index: u16,
    },
    /// Done; the state of a packed virtqueue.
    PackedState(PackedState),
}

impl Request {
    /// Decodes what one `read` of the device gave. The kernel zeroes what a message does not use.
    pub fn decode(bytes: &[u8; MESSAGE_SIZE]) -> Self {
        let kind = match u32_at(bytes, offset_of!(VduseDevRequest, kind)) {
            VDUSE_GET_VQ_STATE => RequestKind::GetQueueState {
                index: u32_at(bytes, REQUEST_PAYLOAD),
            },
            VDUSE_SET_STATUS => RequestKind::SetStatus {
                status: bytes[REQUEST_PAYLOAD],
            },
            VDUSE_UPDATE_IOTLB => RequestKind::UpdateIotlb {
                asid: u32_at(bytes, REQUEST_PAYLOAD + offset_of!(VduseIovaRangeV2, asid)),
                start: u64_at(bytes, REQUEST_PAYLOAD + offset_of!(VduseIovaRangeV2, start)),
                last: u64_at(bytes, REQUEST_PAYLOAD + offset_of!(VduseIovaRangeV2, last)),
            },
            VDUSE_SET_VQ_GROUP_ASID => RequestKind::SetGroupAsid {
                group: u32_at(bytes, REQUEST_PAYLOAD + offset_of!(VduseVqGroupAsid, group)),
                asid: u32_at(bytes, REQUEST_PAYLOAD + offset_of!(VduseVqGroupAsid, asid)),
            },
            VDUSE_SET_VQ_READY => RequestKind::SetQueueReady {
                index: u32_at(bytes, REQUEST_PAYLOAD + offset_of!(VduseVqReady, num)),
                ready: u32_at(bytes, REQUEST_PAYLOAD + offset_of!(VduseVqReady, ready)) != 0,
            },
            VDUSE_SUSPEND => RequestKind::Suspend,
            kind => RequestKind::Unknown { kind },
        };
        Self {
            id: u32_at(bytes, offset_of!(VduseDevRequest, request_id)),
            kind,
        }
    }
}

impl Reply {
    /// Encodes this reply to `request` for one `write` of the device.
    pub fn encode(&self, request: &Request) -> [u8; MESSAGE_SIZE] {
        let mut bytes = [0; MESSAGE_SIZE];
        let result = match self {
            Self::Failed => VDUSE_REQ_RESULT_FAILED,
            _ => VDUSE_REQ_RESULT_OK,
        };
        put(
            &mut bytes,
            offset_of!(VduseDevResponse, request_id),
            &request.id.to_ne_bytes(),
        );
        put(
            &mut bytes,
            offset_of!(VduseDevResponse, result),
            &result.to_ne_bytes(),
        );
        if let RequestKind::GetQueueState { index } = request.kind {
            put(&mut bytes, RESPONSE_PAYLOAD, &index.to_ne_bytes());
            self.put_state(&mut bytes[RESPONSE_PAYLOAD + 4..]);
        }
        bytes
    }

    fn put_state(&self, bytes: &mut [u8]) {
        match self {
            Self::SplitState { avail_index } => put(bytes, 0, &avail_index.to_ne_bytes()),
            Self::PackedState(state) => {
                put(bytes, 0, &u16::from(state.last_avail_counter).to_ne_bytes());
                put(bytes, 2, &state.last_avail_index.to_ne_bytes());
                put(bytes, 4, &u16::from(state.last_used_counter).to_ne_bytes());
                put(bytes, 6, &state.last_used_index.to_ne_bytes());
            }
            Self::Ok | Self::Failed => {}
        }
    }
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

fn u32_at(bytes: &[u8; MESSAGE_SIZE], offset: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_ne_bytes(value)
}

fn u64_at(bytes: &[u8; MESSAGE_SIZE], offset: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_ne_bytes(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: u32, id: u32, payload: &[u8]) -> Request {
        // What the kernel leaves in unused bytes must not matter.
        let mut bytes = [0xee; MESSAGE_SIZE];
        bytes[0..4].copy_from_slice(&kind.to_ne_bytes());
        bytes[4..8].copy_from_slice(&id.to_ne_bytes());
        bytes[24..24 + payload.len()].copy_from_slice(payload);
        Request::decode(&bytes)
    }

    #[test]
    fn requests_are_decoded() {
        let state = request(0, 1, &3_u32.to_ne_bytes());
        assert_eq!(
            state,
            Request {
                id: 1,
                kind: RequestKind::GetQueueState { index: 3 }
            }
        );
        let status = request(1, 2, &[0x0f]);
        assert_eq!(
            status,
            Request {
                id: 2,
                kind: RequestKind::SetStatus { status: 0x0f }
            }
        );
    }

    #[test]
    fn a_range_has_an_address_space() {
        let range = [0x1000_u64.to_ne_bytes(), u64::MAX.to_ne_bytes()].concat();
        for asid in [0, 7] {
            let payload = [range.as_slice(), &u32::to_ne_bytes(asid)].concat();
            let kind = RequestKind::UpdateIotlb {
                asid,
                start: 0x1000,
                last: u64::MAX,
            };
            assert_eq!(request(2, 3, &payload), Request { id: 3, kind });
        }
    }

    #[test]
    fn what_linux_7_added_is_decoded() {
        let words = |first: u32, second: u32| [first.to_ne_bytes(), second.to_ne_bytes()].concat();
        let (group, asid) = (2, 3);
        let mapped = request(3, 5, &words(group, asid)).kind;
        assert_eq!(mapped, RequestKind::SetGroupAsid { group, asid });
        for (word, ready) in [(1, true), (0, false)] {
            let enabled = request(4, 6, &words(9, word)).kind;
            assert_eq!(enabled, RequestKind::SetQueueReady { index: 9, ready });
        }
        let suspend = request(5, 7, &[]);
        assert_eq!((suspend.id, suspend.kind), (7, RequestKind::Suspend));
    }

    #[test]
    fn an_unknown_request_keeps_its_number() {
        let unknown = request(9, 4, &[]);
        assert_eq!(
            unknown,
            Request {
                id: 4,
                kind: RequestKind::Unknown { kind: 9 }
            }
        );
    }

    fn reply(kind: RequestKind, reply: Reply) -> [u8; MESSAGE_SIZE] {
        reply.encode(&Request {
            id: 0x0a0b_0c0d,
            kind,
        })
    }

    #[test]
    fn a_reply_repeats_the_id_and_zeroes_the_rest() {
        let status = RequestKind::SetStatus { status: 1 };
        let ok = reply(status, Reply::Ok);
        assert_eq!(ok[0..4], 0x0a0b_0c0d_u32.to_ne_bytes());
        assert!(ok[4..].iter().all(|&b| b == 0));
        let failed = reply(status, Reply::Failed);
        assert_eq!(failed[4..8], 1_u32.to_ne_bytes());
        assert!(failed[8..].iter().all(|&b| b == 0));
    }

    #[test]
    fn a_split_state_follows_the_queue_index() {
        let kind = RequestKind::GetQueueState { index: 2 };
        let bytes = reply(
            kind,
            Reply::SplitState {
                avail_index: 0x1234,
            },
        );
        assert_eq!(bytes[24..28], 2_u32.to_ne_bytes());
        assert_eq!(bytes[28..30], 0x1234_u16.to_ne_bytes());
        assert!(bytes[30..].iter().all(|&b| b == 0));
    }

    #[test]
    fn a_packed_state_is_four_words() {
        let state = PackedState {
            last_avail_counter: true,
            last_avail_index: 10,
            last_used_counter: false,
            last_used_index: 11,
        };
        let bytes = reply(
            RequestKind::GetQueueState { index: 0 },
            Reply::PackedState(state),
        );
        let words = [1_u16, 10, 0, 11].map(u16::to_ne_bytes).concat();
        assert_eq!(bytes[28..36], words);
    }
}
