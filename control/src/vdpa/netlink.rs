//! The two requests of the `vdpa` generic netlink family that an attach and a detach need
//! (`include/uapi/linux/vdpa.h`).
//!
//! neli's socket is used, not its router: the router starts a thread for replies to come at any
//! time, and here there is one request and one reply.

use neli::consts::genl::{Cmd, CtrlAttr, CtrlCmd, NlAttrType};
use neli::consts::nl::{GenlId, NlType, NlmF};
use neli::consts::socket::NlFamily;
use neli::err::{BuilderError, Nlmsgerr, NlmsghdrErr, SocketError};
use neli::genl::{AttrTypeBuilder, Genlmsghdr, GenlmsghdrBuilder, Nlattr, NlattrBuilder};
use neli::nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder};
use neli::socket::synchronous::NlSocketHandle;
use neli::types::{Buffer, GenlBuffer};
use neli::utils::Groups;
use neli::{FromBytesWithInput, Size, ToBytes};
use nix::errno::Errno;
use std::fmt::Debug;
use thiserror::Error;
use vduse::Name;

const FAMILY: &str = "vdpa";
const FAMILY_VERSION: u8 = 1;
/// The management device of the module vduse; it is on no bus, so no bus attribute goes with it.
const MANAGEMENT_DEVICE: &str = "vduse";

/// `enum vdpa_command`.
#[neli::neli_enum(serialized_type = "u8")]
pub(super) enum VdpaCmd {
    DevNew = 3,
    DevDel = 4,
}
impl Cmd for VdpaCmd {}

/// `enum vdpa_attr`.
#[neli::neli_enum(serialized_type = "u16")]
pub(super) enum VdpaAttr {
    MgmtdevDevName = 2,
    DevName = 4,
}
impl NlAttrType for VdpaAttr {}

/// What a request came to, when it failed.
#[derive(Debug, Error)]
pub(super) enum NetlinkError {
    /// The kernel refused it.
    #[error("{errno}{}", .explanation.as_ref().map_or_else(String::new, |text| format!(" ({text})")))]
    Refused {
        errno: Errno,
        explanation: Option<String>,
    },
    /// There is no `vdpa` family.
    #[error("no family called vdpa")]
    NoFamily,
    /// The socket failed.
    #[error("{0}")]
    Socket(#[from] SocketError),
    /// A message could not be put together or made no sense.
    #[error("{0}")]
    Message(String),
}

/// The error of whatever neli builder it was.
fn build(error: impl Into<BuilderError>) -> NetlinkError {
    NetlinkError::Message(error.into().to_string())
}

/// Adds devices to the vDPA bus and takes them away.
pub(super) trait Netlink {
    fn add(&self, name: &Name) -> Result<(), NetlinkError>;
    fn delete(&self, name: &Name) -> Result<(), NetlinkError>;
}

/// The kernel's generic netlink. Both requests return when the kernel has carried them out.
pub(super) struct Generic;

impl Netlink for Generic {
    fn add(&self, name: &Name) -> Result<(), NetlinkError> {
        let device = attribute(VdpaAttr::DevName, name.as_str())?;
        let management = attribute(VdpaAttr::MgmtdevDevName, MANAGEMENT_DEVICE)?;
        request(VdpaCmd::DevNew, [device, management].into_iter().collect())
    }

    fn delete(&self, name: &Name) -> Result<(), NetlinkError> {
        let device = attribute(VdpaAttr::DevName, name.as_str())?;
        request(VdpaCmd::DevDel, [device].into_iter().collect())
    }
}

type Attributes<T> = GenlBuffer<T, Buffer>;

/// A string attribute; neli adds the terminating NUL that the kernel needs.
fn attribute<T: NlAttrType>(kind: T, text: &str) -> Result<Nlattr<T, Buffer>, NetlinkError> {
    let kind = AttrTypeBuilder::default()
        .nla_type(kind)
        .build()
        .map_err(build)?;
    NlattrBuilder::default()
        .nla_type(kind)
        .nla_payload(text)
        .build()
        .map_err(build)
}

fn message<I: NlType, C: Cmd, A: NlAttrType>(
    id: I,
    sequence: u32,
    command: C,
    attributes: Attributes<A>,
) -> Result<Nlmsghdr<I, Genlmsghdr<C, A>>, NetlinkError> {
    let payload = GenlmsghdrBuilder::default()
        .cmd(command)
        .version(FAMILY_VERSION)
        .attrs(attributes)
        .build()
        .map_err(build)?;
    NlmsghdrBuilder::default()
        .nl_type(id)
        .nl_flags(NlmF::REQUEST | NlmF::ACK)
        .nl_seq(sequence)
        .nl_payload(NlPayload::Payload(payload))
        .build()
        .map_err(build)
}

/// Sends one request to the family and waits for its acknowledgement.
fn request(command: VdpaCmd, attributes: Attributes<VdpaAttr>) -> Result<(), NetlinkError> {
    let socket = NlSocketHandle::connect(NlFamily::Generic, None, Groups::empty())?;
    // Without it errors come without the kernel's text, no more than that.
    let _ = socket.enable_ext_ack(true);
    let family = resolve(&socket)?;
    socket.send(&message(family, 2, command, attributes)?)?;
    receive::<u16, Genlmsghdr<VdpaCmd, VdpaAttr>>(&socket, |_| ())
}

/// The number of the `vdpa` family.
fn resolve(socket: &NlSocketHandle) -> Result<u16, NetlinkError> {
    let name = [attribute(CtrlAttr::FamilyName, FAMILY)?]
        .into_iter()
        .collect();
    socket.send(&message(GenlId::Ctrl, 1, CtrlCmd::Getfamily, name)?)?;
    let mut family = None;
    let received = receive::<GenlId, Genlmsghdr<CtrlCmd, CtrlAttr>>(socket, |reply| {
        family = reply
            .attrs()
            .get_attr_handle()
            .get_attr_payload_as(CtrlAttr::FamilyId)
            .ok();
    });
    match received {
        Err(NetlinkError::Refused {
            errno: Errno::ENOENT,
            ..
        }) => Err(NetlinkError::NoFamily),
        Err(error) => Err(error),
        Ok(()) => family.ok_or(NetlinkError::NoFamily),
    }
}

/// Takes replies until the one that acknowledges or refuses the request.
fn receive<I, P>(socket: &NlSocketHandle, mut on_reply: impl FnMut(&P)) -> Result<(), NetlinkError>
where
    I: NlType + Debug,
    P: Size + ToBytes + FromBytesWithInput<Input = usize> + Debug,
{
    loop {
        let (messages, _) = socket.recv::<I, P>()?;
        for message in messages {
            match message?.nl_payload() {
                NlPayload::Ack(_) => return Ok(()),
                NlPayload::Err(error) => return Err(refused(error)),
                NlPayload::Payload(reply) => on_reply(reply),
                NlPayload::DumpExtAck(_) | NlPayload::Empty => {}
            }
        }
    }
}

fn refused<I, P>(error: &Nlmsgerr<NlmsghdrErr<I, P>>) -> NetlinkError {
    use neli::consts::nl::NlmsgerrAttr;
    let texts = error
        .ext_ack()
        .iter()
        .filter(|a| *a.nla_type().nla_type() == NlmsgerrAttr::Msg);
    let explanation = texts.map(|a| text(a.nla_payload().as_ref())).next();
    NetlinkError::Refused {
        errno: Errno::from_raw(-error.error()),
        explanation,
    }
}

/// A string of the kernel without its terminating NUL.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end_matches('\0')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Byte by byte as `struct nlmsghdr`, `struct genlmsghdr` and two attributes are laid out.
    #[cfg(target_endian = "little")]
    #[test]
    fn an_attach_is_44_bytes_without_a_bus_attribute() {
        let device = attribute(VdpaAttr::DevName, "blk0").unwrap();
        let management = attribute(VdpaAttr::MgmtdevDevName, MANAGEMENT_DEVICE).unwrap();
        let attributes = [device, management].into_iter().collect();
        let message = message(0x1e_u16, 1, VdpaCmd::DevNew, attributes).unwrap();
        let mut bytes = Cursor::new(vec![0; message.padded_size()]);
        message.to_bytes(&mut bytes).unwrap();
        let expected = "2c0000001e000500010000000000000003010000\
                        09000400626c6b3000000000\
                        0a0002007664757365000000";
        assert_eq!(hex(bytes.get_ref()), expected);
    }

    #[test]
    fn the_kernels_text_becomes_part_of_the_error() {
        let refused = NetlinkError::Refused {
            errno: Errno::EINVAL,
            explanation: Some(text(b"Fail to find the specified management device\0")),
        };
        let message = refused.to_string();
        assert!(
            message.contains("EINVAL") && message.ends_with("management device)"),
            "{message}"
        );
    }
}
